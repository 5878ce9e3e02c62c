"""Stops free text that goes in circles, as small students do under greedy decoding.

A passage that has come three times would come again until the output is full, so nothing is lost by ending there.
"""

from __future__ import annotations

from collections import defaultdict

LONGEST_PASSAGE = 128  # tokens; the repetition of a longer passage is not noticed
CIRCLE_TOKENS = 24  # tokens that a passage three times in a row must fill: "no, no, no" is no circle
SHORTEST_LINE = 8  # tokens of a line that may not stand twice in a row; shorter ones may, as in a poem or in code


class RepetitionStop:
    """Watches an output token by token for a passage that repeats itself.

    The output goes in circles when a passage comes three times in a row and fills at least `CIRCLE_TOKENS` with that, or
    when a whole line (or several) of at least `SHORTEST_LINE` tokens comes twice in a row.
    """

    def __init__(self) -> None:
        self._length = 0
        self._line_starts = {0}
        self._places: defaultdict[int, list[int]] = defaultdict(list)  # of each token
        # By a passage's length: how many of the last tokens are the same as those so many tokens before.
        self._runs: dict[int, int] = {}

    @property
    def repeated(self) -> int:
        """How many of the last tokens repeat earlier ones, and would be cut off if they turned out to be a circle."""
        return max(self._runs.values(), default=0)

    def add(self, token: int, *, ends_line: bool) -> int | None:
        """Take the next token. Returns how many tokens of a circle to keep, the first passage included; else None."""
        places, here = self._places[token], self._length
        near = [here - place for place in places if here - place <= LONGEST_PASSAGE]
        self._runs = {length: self._runs.get(length, 0) + 1 for length in near}
        self._places[token] = [*places[-LONGEST_PASSAGE:], here]
        self._length += 1
        if ends_line:
            self._line_starts.add(self._length)
        circles = [run for length, run in self._runs.items() if self._is_circle(length, run)]
        return self._length - max(circles) if circles else None

    def end(self) -> int:
        """The output has ended. Returns how many tokens to keep: a last line that repeats the one before is cut off."""
        for length, run in self._runs.items():
            start = self._length - run
            between = range(start - length + run + 1, start + 1)  # from the end of the first line to the second one
            if (
                run >= SHORTEST_LINE - 1
                and start - length in self._line_starts
                and all(at in self._line_starts for at in between)
            ):
                return start
        return self._length

    def _is_circle(self, length: int, run: int) -> bool:
        if run >= 2 * length and run + length >= CIRCLE_TOKENS:
            return True
        are_lines = self._length in self._line_starts and self._length - 2 * length in self._line_starts
        return run >= length >= SHORTEST_LINE and are_lines
