"""The teacher `observations`, which needs no server: the observations in LoCoMo's own annotations.

LoCoMo lists the facts of every session, each with the turn that states it. The facts of an exchange are its extraction
answer. Replayed through a store they give update prompts (nearly all of them ADD, because changes are not annotated), and the
memories in that store give generation prompts for LoCoMo's questions.

LoCoMo is licensed under CC BY-NC 4.0, and so are the examples made from it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlora_mlx.conversations import conversation_exchanges, read_conversations
from memlora_mlx.conversations.splits import Splits
from memlora_mlx.distill.examples import TrainingExample
from memlora_mlx.distill.replay import AnnotatedQuestion, ReplayStore, generation_examples, temporary_store
from memlora_mlx.errors import BadConversation
from memlora_mlx.memory import stages
from memlora_mlx.records import Exchange

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

TEACHER = "observations"
# Of the extraction examples. 62 % of LoCoMo's exchanges have no fact; at 0.4 students found facts in nearly all of them.
EMPTY_SHARE = 0.55


@dataclass(frozen=True, slots=True)
class AnnotatedConversation:
    """A LoCoMo conversation with its annotations."""

    name: str
    exchanges: tuple[Exchange, ...]
    facts: Mapping[tuple[str, str], tuple[str, ...]]  # by speaker and turn
    questions: tuple[AnnotatedQuestion, ...]

    def facts_of(self, exchange: Exchange) -> list[str]:
        """The annotated facts of an exchange about its owner."""
        owner = next((m.speaker for m in exchange.messages if m.role == "user" and m.speaker), "")
        refs = [message.ref for message in exchange.messages if message.ref]
        found = [stages.clean_line(fact).rstrip(".") for ref in refs for fact in self.facts.get((owner, ref), ())]
        return list(dict.fromkeys(fact for fact in found if fact))[: stages.MAX_FACTS]


def read_annotated(path: Path) -> list[AnnotatedConversation]:
    """The conversations of a LoCoMo file with their observations and questions.

    Raises:
        BadConversation: it is not a LoCoMo file, or has no observations.
    """
    conversations = read_conversations(path)
    try:
        samples = {str(sample["sample_id"]): sample for sample in json.loads(path.read_text(encoding="utf-8"))}
        return [
            AnnotatedConversation(
                conversation.name,
                tuple(conversation_exchanges(conversation, user="me")),
                _facts(samples[conversation.name]["observation"]),
                tuple(_questions(samples[conversation.name].get("qa", []))),
            )
            for conversation in conversations
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadConversation(
            f"{path} has no observations ({error!r}). The teacher `observations` needs LoCoMo's own file, locomo10.json."
        ) from error


def annotated_extraction_examples(
    conversation: AnnotatedConversation, splits: Splits, *, seed: int = 0
) -> Iterator[TrainingExample]:
    """For each exchange, the facts about its owner. Exchanges without facts are `EMPTY_SHARE` of the examples."""
    annotated = [(exchange, conversation.facts_of(exchange)) for exchange in conversation.exchanges]
    empty = [exchange.key for exchange, facts in annotated if not facts]
    count = round((len(annotated) - len(empty)) * EMPTY_SHARE / (1 - EMPTY_SHARE))
    kept = set(random.Random(f"{seed} {conversation.name}").sample(empty, min(count, len(empty))))
    split = splits.split_of(conversation.name)
    for exchange, facts in annotated:
        if facts or exchange.key in kept:
            answer = json.dumps({"facts": facts}, ensure_ascii=False)
            chat = stages.extraction_chat(exchange)
            yield TrainingExample("extraction", chat, answer, TEACHER, conversation.name, exchange.key, split)


def replay_observations(
    store: ReplayStore, conversation: AnnotatedConversation, splits: Splits
) -> Iterator[TrainingExample]:
    """Replay the observations through a store, in their order. Yields the update examples on the way, one for each fact."""
    split = splits.split_of(conversation.name)
    for exchange in conversation.exchanges:
        together = store.related(exchange.owner, conversation.facts_of(exchange))
        for i, fact in enumerate(together.facts):
            related = store.related(exchange.owner, [fact])
            answer = add_all_answer([fact], len(related.memories))
            key = f"{exchange.key}/{i}"
            yield TrainingExample("update", store.prompt(related), answer, TEACHER, conversation.name, key, split)
        if together.facts:
            store.apply(exchange, together, add_all_answer(together.facts, len(together.memories)))
        else:
            store.keep(exchange)


def annotated_examples(
    stage: str, conversation: AnnotatedConversation, workspace: Workspace, splits: Splits
) -> Iterator[TrainingExample]:
    """All examples of one stage from one conversation."""
    if stage == "extraction":
        yield from annotated_extraction_examples(conversation, splits)
        return
    with temporary_store(workspace) as store:
        updates = list(replay_observations(store, conversation, splits))
        if stage == "update":
            yield from updates
        else:
            owners = list(dict.fromkeys(exchange.owner for exchange in conversation.exchanges))
            yield from generation_examples(
                store, owners, conversation.questions, conversation=conversation.name, teacher=TEACHER, splits=splits
            )


def add_all_answer(facts: Sequence[str], offered: int) -> str:
    """The update answer that adds every fact. `offered` is the number of old memories in the prompt."""
    entries = [{"id": str(offered + i), "text": fact, "event": "ADD"} for i, fact in enumerate(facts)]
    return json.dumps({"memory": entries}, ensure_ascii=False)


def _facts(observation: Mapping[str, Any]) -> dict[tuple[str, str], tuple[str, ...]]:
    """The facts by speaker and turn. A fact of several turns belongs to the first."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for session in observation.values():
        for speaker, facts in session.items():
            for fact, turns in facts:
                turn = str(turns[0] if isinstance(turns, list) else turns)
                found[speaker, turn] = (*found.get((speaker, turn), ()), str(fact))
    return found


def _questions(items: Sequence[Mapping[str, Any]]) -> Iterator[AnnotatedQuestion]:
    for item in items:
        answer = str(item.get("answer", item.get("adversarial_answer", "")))
        yield AnnotatedQuestion(
            str(item["question"]), answer, int(item["category"]), tuple(map(str, item.get("evidence", [])))
        )
