"""Where the turns that hold an answer went: through the store's own record of what was written from which exchange."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from memlora_mlx.eval.results import FailureStage

MIN_REMAINING_WORDS = (
    0.5  # share of a text's words that must stand in the words that followed, for it not to be overwritten
)


@dataclass(slots=True)
class Provenance:
    """What each turn gave: built up write by write, then read.

    A memory comes from every exchange whose words still stand in it, so an UPDATE that merges keeps the older turn and one
    that replaces it does not.
    """

    written: dict[str, list[tuple[str, tuple[str, ...]]]] = field(default_factory=dict)  # memory: texts and their turns
    texts: dict[str, str] = field(default_factory=dict)  # as they stand; a deleted memory has none

    def record_write(
        self,
        event: Literal["ADD", "UPDATE", "DELETE"] | str,
        memory_id: str,
        text: str | None,
        refs: Sequence[str],
    ) -> None:
        """A memory was added, given new words, or deleted."""
        if event == "DELETE":
            self.texts.pop(memory_id, None)
        elif text is not None:
            self.written.setdefault(memory_id, []).append((text, tuple(refs)))
            self.texts[memory_id] = text

    def refs_of(self, memory_id: str) -> tuple[str, ...]:
        """The turns whose words stand in a memory."""
        if memory_id not in self.texts:
            return ()
        now = self.texts[memory_id]
        found = [ref for text, refs in self.written.get(memory_id, ()) if _words_remain(text, now) for ref in refs]
        return tuple(dict.fromkeys(found))

    @property
    def ever_stored(self) -> set[str]:
        """Turns of exchanges that ever gave a memory."""
        return {ref for writes in self.written.values() for _, refs in writes for ref in refs}

    @property
    def still_stored(self) -> set[str]:
        """Turns of exchanges that a memory still holds words of."""
        return {ref for memory_id in self.texts for ref in self.refs_of(memory_id)}

    def as_json(self) -> dict[str, Any]:
        return {"written": {key: list(map(list, writes)) for key, writes in self.written.items()}, "texts": self.texts}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Provenance:
        written = {key: [(text, tuple(refs)) for text, refs in writes] for key, writes in value["written"].items()}
        return cls(written, dict(value["texts"]))


def failure_stage(
    evidence: Iterable[str], *, known: Iterable[str], given: set[str], standing: set[str], retrieved: set[str]
) -> FailureStage | None:
    """How far the evidence came, should the answer be wrong; None where the evidence names no turn that was read.

    With several turns it is the first stage that one of them did not pass: such an answer needs all of them.
    """
    wanted = set(evidence) & set(known)
    if not wanted:
        return None
    if not wanted <= given:
        return "not extracted"
    if not wanted <= standing:
        return "updated away"
    return "answered wrongly" if wanted <= retrieved else "not retrieved"


def recall(evidence: Iterable[str], *, known: Iterable[str], retrieved: set[str]) -> float | None:
    """The share of the evidence turns that what was retrieved comes from; None as above."""
    wanted = set(evidence) & set(known)
    return len(wanted & retrieved) / len(wanted) if wanted else None


def _words_remain(text: str, now: str) -> bool:
    before, after = set(text.casefold().split()), set(now.casefold().split())
    return not before or len(before & after) >= MIN_REMAINING_WORDS * len(before)
