"""Which conversations train, validate and test: decided by the name of a conversation, never by a single example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Splits:
    """Names of whole conversations. A conversation that is not named is for training."""

    name: str
    validation: frozenset[str]
    test: frozenset[str]

    def split_of(self, conversation: str) -> Split:
        if conversation in self.test:
            return "test"
        return "validation" if conversation in self.validation else "train"


SPLITS: Mapping[str, Splits] = {
    # As in the paper: the first conversation of LoCoMo's file is for validation, the second and third are for testing.
    "paper": Splits("paper", frozenset({"conv-26"}), frozenset({"conv-30", "conv-41"})),
}
