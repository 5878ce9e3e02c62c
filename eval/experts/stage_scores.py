"""Each stage by itself on held-out data: facts, decisions, answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from memlora_mlx.conversations.splits import SPLITS
from memlora_mlx.distill.examples import TrainingExample
from memlora_mlx.distill.observations_teacher import AnnotatedConversation, annotated_examples
from memlora_mlx.distill.replay import temporary_store
from memlora_mlx.distill.synthetic_teacher import generate_dialogues, synthetic_update_examples
from memlora_mlx.eval.metrics.intervals import wilson
from memlora_mlx.eval.metrics.scorer import Scorer, Scores, mean_scores
from memlora_mlx.eval.systems.cached_engine import CachedEngine
from memlora_mlx.memory import stages
from memlora_mlx.memory.abstention import NOT_MENTIONED
from memlora_mlx.memory.pipeline_options import PipelineOptions
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.records import ChatMessages, Exchange, Request

if TYPE_CHECKING:
    from memlora_mlx.models.engine import Engine

SAME = 0.7  # cosine from which two facts count as the same


def extraction_scores(
    calls: CachedEngine,
    embedder: Engine,
    options: PipelineOptions,
    conversation: AnnotatedConversation,
    chosen: Sequence[Exchange],
) -> dict[str, float]:
    """Precision, recall and F1 of facts against the observations, both matched by the embedder; tokens written."""
    answers = calls.complete_all(
        [
            Request(
                "extraction",
                stages.extraction_chat(exchange),
                options.extraction_grammar(exchange),
                stages.EXTRACTION_TOKENS,
            )
            for exchange in chosen
        ]
    )
    right = found = wanted = written = 0
    for exchange, answer in zip(chosen, answers, strict=True):
        facts, gold = stages.parse_facts(answer.text), conversation.facts_of(exchange)
        found, wanted, written = found + len(facts), wanted + len(gold), written + answer.output_tokens
        if facts and gold:
            alike = embedder.embed(facts) @ embedder.embed(gold).T >= SAME
            right += min(int(alike.any(axis=0).sum()), int(alike.any(axis=1).sum()))
    precision, recall = right / max(1, found), right / max(1, wanted)
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "facts": found,
        "tokens_out": written / max(1, len(chosen)),
    }


def dialogue_examples(workspace: Workspace, count: int, *, held_out: bool) -> list[TrainingExample]:
    """Update rows of so many lives that no run ever saw; held out: in phrases that none was trained on."""
    made: list[TrainingExample] = []
    for life in generate_dialogues(count, "test", held_out=held_out):
        with temporary_store(workspace) as bank:
            made += synthetic_update_examples(life, bank, "test")
    return made


def update_scores(
    calls: CachedEngine,
    examples: Sequence[TrainingExample],
    *,
    copied: bool,
    prompt: Callable[[ChatMessages], ChatMessages] = lambda chat: chat,
) -> dict[str, Any]:
    """Exact accuracy of operations: of whole exchanges, of the facts in them, and of each event.

    A fact's update is exact if it decides the same (event, id) pair as the right one, with the same text for what is added
    or updated; an exchange's, if those of all its facts are.

    Args:
        copied: texts may only be copied from the prompt.
        prompt: what the student is given for the prompt of an example.
    """
    asked = [_offered(row) for row in examples]
    answers = calls.complete_all(
        [
            Request(
                "update",
                prompt(row.chat),
                stages.update_grammar(old, facts, copy_constrained=copied),
                stages.UPDATE_TOKENS,
            )
            for row, (old, facts) in zip(examples, asked, strict=True)
        ]
    )
    exact: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)  # by exchange
    wanted: Counter[str] = Counter()
    right: Counter[str] = Counter()
    wrong_deletions = 0
    for row, (old, facts), answer in zip(examples, asked, answers, strict=True):
        gold, made = _operations(row.answer, old), _operations(answer.text, old)
        wrong_deletions += any(event == "DELETE" for event, *_ in made - gold)
        exact[row.conversation, row.exchange.partition("/")[0]].append(gold == made)
        for event, *_ in gold:
            wanted[event] += 1
        for event, *_ in gold & made:
            right[event] += 1
        if len(gold) < len(facts):  # at least one fact says what is known already
            wanted["NONE"] += len(facts) - len(gold)
            right["NONE"] += len(facts) - len(gold) if len(made - gold) == 0 else 0
    whole = sum(map(all, exact.values()))
    interval = wilson(whole, max(1, len(exact)))
    return {
        "exchanges": len(exact),
        "exact": whole / max(1, len(exact)),
        "interval": [round(interval.low, 3), round(interval.high, 3)],
        "facts": len(examples),
        "facts_exact": sum(sum(facts) for facts in exact.values()) / max(1, len(examples)),
        "wrong_deletions": wrong_deletions,  # examples of which a memory would be deleted wrongly
        "events": {event: {"right": right[event], "of": wanted[event]} for event in sorted(wanted)},
        "tokens_out": sum(answer.output_tokens for answer in answers) / max(1, len(answers)),
    }


def held_out_generation_examples(workspace: Workspace, conversation: AnnotatedConversation) -> list[TrainingExample]:
    """The questions that have an answer, over one bank that the observations fill."""
    made = annotated_examples("generation", conversation, workspace, SPLITS["paper"])
    return [row for row in made if row.answer != NOT_MENTIONED]


def generation_scores(
    calls: CachedEngine, scorer: Scorer, examples: Sequence[TrainingExample]
) -> tuple[dict[str, Any], list[Scores]]:
    """L and its parts, token F1, exact match and tokens written, for questions over one bank."""
    answers = calls.complete_all([Request("generation", row.chat, None, stages.ANSWER_TOKENS) for row in examples])
    scores = scorer.score([(answer.text.strip(), row.answer) for row, answer in zip(examples, answers, strict=True)])
    written = sum(answer.output_tokens for answer in answers) / max(1, len(answers))
    return {**mean_scores(scores), "questions": len(examples), "tokens_out": written}, scores


def _offered(row: TrainingExample) -> tuple[list[str], list[str]]:
    found = stages.parse_update_chat(row.chat)
    assert found is not None, "not an update prompt"
    return found


def _operations(answer: str, old: Sequence[str]) -> set[tuple[str, str, str]]:
    """(event, id or "new", text) of each decision; a DELETE has no text of its own."""
    return {
        (
            d.event,
            "new" if d.memory_index is None else str(d.memory_index),
            "" if d.event == "DELETE" else d.text.casefold(),
        )
        for d in stages.parse_update(answer, old).operations
    }
