"""What extraction experts find, after the guards against invented facts: in LoCoMo's conv-26 and in generated chats.

    python -m benchmarks.extraction LOCOMO.json EXPERTS ... [--exchanges N] [--chats N]

EXPERTS are folders with a sub-folder `extraction` each; the first is the one to compare with. In conv-26, which is for
validation, facts are compared with the annotators' observations. The chats with an assistant are of seeds and in phrases that
no training chat uses, so every fact is known. A memory is the assistant's if more of its content words stand in the
assistant's messages alone than in the owner's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from memlora_mlx.conversations.splits import SPLITS
from memlora_mlx.distill.observations_teacher import read_annotated
from memlora_mlx.distill.synthetic_teacher import dialogue_exchange, generate_chats
from memlora_mlx.eval.experts.stage_scores import SAME
from memlora_mlx.eval.systems.cache import Cache, bench_folder
from memlora_mlx.eval.systems.students import engine_with_experts, run_context
from memlora_mlx.memory import stages
from memlora_mlx.memory.grounding import ground_facts
from memlora_mlx.memory.retrieval.lexical import content_words
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import Exchange, Request, Stage
from memlora_mlx.settings import load_settings

Known = Sequence[tuple[Exchange, Sequence[str]]]  # exchanges with their right facts
EXTRACTION: tuple[Stage, ...] = ("extraction",)
SETS = ("conv-26", "held-out chats")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("locomo", type=Path, help="LoCoMo's file")
    parser.add_argument("experts", type=Path, nargs="+", help="folders of experts")
    parser.add_argument("--exchanges", type=int, help="read only the first N exchanges of conv-26 (default: all)")
    parser.add_argument(
        "--chats", type=int, default=4, help="chats with an assistant, of 32 exchanges each (default: 4)"
    )
    options = parser.parse_args()
    [name] = SPLITS["paper"].validation
    annotated = next(one for one in read_annotated(options.locomo) if one.name == name)
    data: dict[str, Known] = {
        SETS[0]: [(one, annotated.facts_of(one)) for one in annotated.exchanges[: options.exchanges]],
        SETS[1]: list(chats_with_an_assistant(options.chats)),
    }
    print(
        "| expert | of | exchanges | precision | recall | F1 | facts | before the guards: precision | recall | the assistant's |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for folder in options.experts:
        with Workspace(load_settings({"experts": str(folder)})) as workspace:
            for kind, known in data.items():
                print(f"| {folder.name} | {kind} | {measured(workspace, known)} |", flush=True)


def chats_with_an_assistant(count: int) -> Iterator[tuple[Exchange, Sequence[str]]]:
    """The exchanges of so many held-out chats with an assistant, and their facts."""
    found = (chat for chat in generate_chats(20 * count, "test", held_out=True) if chat.owner is None)
    for chat, _ in zip(found, range(count), strict=False):
        for number, step in enumerate(chat.steps):
            yield dialogue_exchange(chat, number, step), [fact.text for fact in step.facts]


def measured(workspace: Workspace, known: Known) -> str:
    """The cells of a row of the table."""
    with Cache(bench_folder(workspace) / "cache") as cache:
        calls = engine_with_experts(workspace, run_context(workspace, cache), EXTRACTION)
        answers = calls.complete_all(
            [
                Request(
                    "extraction",
                    stages.extraction_chat(exchange),
                    workspace.pipeline_options.extraction_grammar(exchange),
                    stages.EXTRACTION_TOKENS,
                )
                for exchange, _ in known
            ]
        )
    raw = [stages.parse_facts(answer.text) for answer in answers]
    grounded = [list(ground_facts([(one[0], facts)]).kept) for one, facts in zip(known, raw, strict=True)]
    for (exchange, gold), facts, kept in zip(known, raw, grounded, strict=True):
        said = [f"{message.role}: {message.text[:300]}" for message in exchange.messages]
        print(
            json.dumps({"said": said, "gold": gold, "found": facts, "kept": kept}, ensure_ascii=False), file=sys.stderr
        )
    precision, recall = scores(workspace, known, grounded)
    before = scores(workspace, known, raw)
    count = sum(map(len, grounded))
    foreign = sum(is_the_assistants(fact, one[0]) for one, facts in zip(known, grounded, strict=True) for fact in facts)
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    shares = f"{len(known)} | {precision:.2f} | {recall:.2f} | {f1:.2f} | {count} | {before[0]:.2f} | {before[1]:.2f}"
    return f"{shares} | {foreign / max(1, count):.0%}"


def scores(workspace: Workspace, known: Known, found: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Precision and recall; two facts are the same from a cosine of `SAME`."""
    right = 0
    for (_, gold), facts in zip(known, found, strict=True):
        if gold and facts:
            alike = workspace.engine.embed(list(facts)) @ workspace.engine.embed(list(gold)).T >= SAME
            right += min(int(alike.any(axis=0).sum()), int(alike.any(axis=1).sum()))
    return right / max(1, sum(map(len, found))), right / max(1, sum(len(gold) for _, gold in known))


def is_the_assistants(fact: str, exchange: Exchange) -> bool:
    """Whether more of a fact's content words stand in the assistant's messages alone than in the owner's."""
    words: dict[str, frozenset[str]] = {
        role: frozenset[str]().union(*(content_words(m.text) for m in exchange.messages if m.role == role))
        for role in ("user", "assistant")
    }
    wanted = content_words(fact)
    return len(wanted & words["assistant"] - words["user"]) > len(wanted & words["user"])


if __name__ == "__main__":
    main()
