"""A prompt as a chat, and how it is made to fit its token budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memlora_mlx.records import ChatMessages


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """A prompt that fits its token budget, and what had to be left out for it."""

    chat: ChatMessages
    kept: int
    truncated: int  # characters of an exchange, or memories of a list


def fit_prompt(
    build: Callable[[int], ChatMessages], items: int, count_tokens: Callable[[ChatMessages], int], budget: int
) -> FittedPrompt:
    """The prompt with as many leading items as fit into the budget.

    Instructions are never cut: with no item left the prompt is what it is.

    Args:
        build: the chat with the first n items.
        budget: tokens the whole prompt may have.
    """
    if count_tokens(build(items)) <= budget:
        return FittedPrompt(build(items), items, 0)
    low, high = 0, items - 1  # `low` items fit, or nothing does
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count_tokens(build(middle)) <= budget else (low, middle - 1)
    return FittedPrompt(build(low), low, items - low)
