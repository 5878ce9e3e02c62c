"""Models that can think before they answer are asked to answer at once.

Most families' templates have a switch for it, which every prompt sets. Where a template opens a block of thoughts all the
same, the block is closed at the end of the prompt. Where a model would open one itself, the mark that opens it is not
allowed in its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Thinking:
    """The marks around a model's thoughts.

    Args:
        start, end: token ids of the marks, as mlx-lm finds them in a tokenizer.
        after: token ids of what stands between thoughts and answer: an empty line.
        vocabulary: the width of the model's logits.
    """

    def __init__(self, start: Sequence[int], end: Sequence[int], after: Sequence[int], vocabulary: int) -> None:
        self._start, self._end, self._after = list(start), list(end), list(after)
        self.allowed: NDArray[np.bool_] = np.ones(vocabulary, bool)  # what an answer may hold
        self.allowed[self._start[0]] = False

    @classmethod
    def of(cls, tokenizer: Any, after: Sequence[int], vocabulary: int) -> Thinking | None:
        """The marks of a tokenizer; None for a model that does not think.

        Args:
            tokenizer: mlx-lm's TokenizerWrapper.
        """
        start = getattr(tokenizer, "think_start_tokens", None)
        end = getattr(tokenizer, "think_end_tokens", None)
        if not start or not end or start[0] >= vocabulary:
            return None
        return cls(start, end, after, vocabulary)

    def closed(self, prompt: Sequence[int]) -> list[int]:
        """A prompt whose last block of thoughts is closed, so that the answer comes next."""
        opened, ended = _last(prompt, self._start), _last(prompt, self._end)
        return [*prompt, *self._end, *self._after] if opened > ended else list(prompt)


def _last(tokens: Sequence[int], wanted: Sequence[int]) -> int:
    """Where a sequence stands last in the tokens; -1 for nowhere."""
    wanted, size = list(wanted), len(wanted)
    return next((i for i in range(len(tokens) - size, -1, -1) if list(tokens[i : i + size]) == wanted), -1)
