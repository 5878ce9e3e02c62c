"""One output of greedy decoding: under a grammar, with forced tokens and prompt look-up.

All of it leaves greedy output as it would be one token at a time. A grammar (llguidance) masks what may not come next.
Where it allows one continuation only, those tokens are appended without asking the model. And since stage outputs
mostly copy their prompt, the continuation of the latest n-gram is proposed and verified in the same forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Literal

import llguidance
import llguidance.numpy
import numpy as np

from memlora_mlx.errors import MemloraError
from memlora_mlx.models.repetition import RepetitionStop
from memlora_mlx.models.student import Student
from memlora_mlx.records import Grammar, Stage

Finish = Literal["stop", "length"]

LOOKUP_TOKENS = 8  # proposed at once; verifying 9 tokens costs about two single steps on a CPU
_RESERVE_TOKENS = 24  # a model may spell a forced ending in more tokens than the tokenizer would


class GrammarError(MemloraError):
    """A grammar does not compile, or refused a token it had allowed: a bug of ours, not of the model."""


class GrammarMatcher:
    """A grammar at work on one output."""

    def __init__(self, student: Student, grammar: Grammar) -> None:
        compiled = _compiled(grammar.kind, grammar.text)
        self._tokens = student.grammar_tokens
        self._vocabulary = student.vocabulary
        self._matcher = llguidance.LLMatcher(self._tokens, compiled, log_level=0)
        self._check(not self._matcher.is_error())
        self._bits = llguidance.numpy.allocate_token_bitmask(1, self._tokens.vocab_size)
        self._text = bytearray()  # what was accepted, to know whether a string is open
        self._student = student
        self._handicap = grammar.handicap
        self.reserved_tokens = len(student.tokenize(grammar.longest_closing)) + _RESERVE_TOKENS

    @property
    def done(self) -> bool:
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        """The tokens that must come next, now accepted; often none."""
        if self.done:
            return []
        tokens = [int(token) for token in self._matcher.compute_ff_tokens()]
        for token in tokens:
            self.accept(token)
        return tokens

    def valid(self, tokens: Sequence[int]) -> int:
        """How many of the tokens, from the first, the grammar would accept."""
        return int(self._matcher.validate_tokens(list(tokens))) if tokens else 0

    def accept(self, token: int) -> None:
        self._check(self._matcher.consume_token(token))
        self._text += self._tokens.decode_bytes([token])

    def rollback(self, tokens: Sequence[int]) -> None:
        """Take back the last accepted tokens."""
        if tokens:
            self._check(self._matcher.rollback(len(tokens)))
            del self._text[len(self._text) - len(self._tokens.decode_bytes(list(tokens))) :]

    def mask(self, *, closing: bool = False) -> np.ndarray:
        """Which tokens may come next: bool, (vocabulary,).

        With `closing`, those that bring the JSON to its end soonest: an open string is closed, then its lists and
        objects, wherever the grammar allows it.
        """
        if forced := self._matcher.compute_ff_tokens():
            # Text without a choice is spelled as the tokenizer spells it, whether it is appended or decoded.
            allowed = np.zeros(self._vocabulary, bool)
            allowed[forced[0]] = True
            return allowed
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits, 0)
        allowed = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._vocabulary].astype(bool)
        if closing and (state := _json_state(self._text)) != "escape":
            ending = allowed & self._student.json_closing_tokens[state]
            if ending.any():
                return ending
        return allowed

    def handicap(self, allowed: np.ndarray) -> tuple[np.ndarray, float] | None:
        """Which of the allowed tokens complete the start that has a handicap, and the nats they lose; None for none."""
        if self._handicap is None:
            return None
        start = self._handicap.start.encode()
        if not start.startswith(self._text) or len(self._text) == len(start):
            return None
        rest, tokens = start[len(self._text) :], np.flatnonzero(allowed)
        late = [token for token in tokens if self._tokens.decode_bytes([int(token)]).startswith(rest)]
        return (np.array(late), self._handicap.nats) if late and len(late) < len(tokens) else None

    def _check(self, fine: bool) -> None:
        if not fine:
            raise GrammarError(f"constrained decoding failed: {self._matcher.get_error()}")


@dataclass(frozen=True, slots=True)
class TokenMask:
    """Which tokens may come next, and which of them have a handicap."""

    allowed: np.ndarray  # bool, (vocabulary,)
    handicapped: np.ndarray | None = None  # token ids, (tokens,)
    nats: float = 0.0  # what the handicapped ones lose of their logits

    @classmethod
    def of(cls, guide: GrammarMatcher, *, closing: bool = False) -> TokenMask:
        allowed = guide.mask(closing=closing)
        handicap = guide.handicap(allowed)
        return cls(allowed, *handicap) if handicap else cls(allowed)


class PromptLookup:
    """Proposes what came after the latest earlier occurrence of the last two or three tokens."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._history: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # n-gram -> position after its latest occurrence
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            here = len(self._history)
            for size in (2, 3):
                if here >= size:
                    self._after[tuple(self._history[here - size :])] = here
            self._history.append(token)

    def propose(self, limit: int) -> list[int]:
        for size in (3, 2):
            position = self._after.get(tuple(self._history[-size:]))
            if position is not None:
                found = self._history[position : position + limit]
                return list(takewhile(lambda token: token >= 0, found))  # a picture's features are no output
        return []


@dataclass
class DecodingCounters:
    """What one output cost."""

    steps: int = 0  # forward passes that chose tokens
    reused: int = 0  # prompt tokens whose keys and values were there from an earlier prompt


class DecodingSequence:
    """One output as it grows: what goes into the next forward pass, and what its logits mean.

    Args:
        prompt: token ids.
        guide: the grammar; with it the output is complete before `max_tokens`, or `max_tokens` is raised to what the
            shortest complete output may need.
        max_tokens: of output.
        lookup: tokens to propose from the prompt in one step; 0 for none.
        force: append what the grammar forces without asking the model.
        stop_repetition: end free text that goes in circles, and cut the repetition off (see `RepetitionStop`).
    """

    def __init__(
        self,
        student: Student,
        stage: Stage | None,
        prompt: Sequence[int],
        *,
        guide: GrammarMatcher | None,
        max_tokens: int,
        lookup: int = LOOKUP_TOKENS,
        force: bool = True,
        stop_repetition: bool = False,
    ) -> None:
        self.stage = stage
        self.prompt = list(prompt)
        self.pending = list(prompt)  # tokens that are not in the cache yet
        self.tokens: list[int] = []  # the output
        self.finish: Finish | None = None
        self.counters = DecodingCounters()
        self.prefix_to_keep = 0  # tokens of the prompt after which its states are kept for the stage's next prompts
        self._student = student
        self._eos = student.eos
        self._repetition = RepetitionStop() if stop_repetition and guide is None else None
        self._guide, self._lookup, self._force = guide, lookup, force
        self._reserve = guide.reserved_tokens if guide else 0
        self._limit = max(max_tokens, self._reserve)
        self._lookup_table = PromptLookup(prompt) if lookup else None
        self._rejected_drafts = 0  # proposals in a row of which nothing was right
        self._draft: list[int] = []
        self._reads_again = False  # the pending tokens begin with some that were read and could not be kept

    @property
    def text(self) -> str:
        """The exact text of the output so far; bytes that are not yet a whole character become U+FFFD.

        The last tokens are left out as long as they may turn out to be a repetition that is cut off.
        """
        doubtful = self._repetition.repeated if self._repetition and not self.finish else 0
        return self._student.decode(self.tokens[: len(self.tokens) - doubtful])

    @property
    def read(self) -> list[int]:
        """What the model has read of the prompt and of the output: all but the pending tokens."""
        known = self.prompt + self.tokens
        return known[: len(known) - len(self.pending)]

    @property
    def max_length(self) -> int:
        """Tokens that prompt and output may have together."""
        return len(self.prompt) + self._limit

    def append_forced(self) -> bool:
        """Append what is forced; whether the model has to be asked for more."""
        if self._guide and self._force:
            forced = self._guide.forced()
            self._append(forced)
            self.pending += forced
        if self._guide and self._guide.done:
            self.finish = "stop"
        elif len(self.tokens) >= self._limit:
            self.finish = "length"
        return self.finish is None

    def disable_lookup(self) -> None:
        """For a cache that cannot take tokens back."""
        self._lookup_table = None

    def propose(self, limit: int) -> list[int]:
        """Tokens to feed after the pending ones, as far as they are likely and allowed; at most `limit`."""
        self._draft = []
        room = self._remaining_tokens()
        # After a few rejected drafts, try only now and then: verifying a draft that fails costs time.
        often_wrong = self._rejected_drafts >= 3 and self.counters.steps % 4 != 0
        if self._lookup_table and limit and room > 1 and not often_wrong and not self._reads_again:
            draft = self._lookup_table.propose(min(limit, self._lookup, room - 1))
            draft = draft[: next((i for i, token in enumerate(draft) if token in self._eos), len(draft))]
            self._draft = draft[: self._guide.valid(draft)] if self._guide else draft
        return self._draft

    def masks(self) -> list[TokenMask] | None:
        """Which tokens may follow the pending ones and each drafted one; accepts the draft in the grammar, for now."""
        if self._guide is None:
            thinking = self._student.thinking
            return [TokenMask(thinking.allowed)] * (1 + len(self._draft)) if thinking else None
        masks = [TokenMask.of(self._guide, closing=self._remaining_tokens() <= 0)]
        for i, token in enumerate(self._draft):
            self._guide.accept(token)
            if self._guide.done:
                self._draft = self._draft[: i + 1]
                break
            masks.append(TokenMask.of(self._guide))
        return masks

    def accept_choices(self, chosen: Sequence[int]) -> int:
        """Take the model's choices after the pending tokens and each drafted one.

        Returns how many of the tokens that were fed are kept: all pending ones, and the draft as far as it was right.
        """
        draft = self._draft
        self._reads_again = False
        right = next((i for i, token in enumerate(draft) if token != chosen[i]), len(draft))
        if self._guide:
            self._guide.rollback(draft[right:])
        self.counters.steps += 1
        self._rejected_drafts = 0 if right or not draft else self._rejected_drafts + 1

        kept = len(self.pending) + right
        new = draft[:right]
        if not (self._guide and self._guide.done):
            token = chosen[right]
            if token in self._eos:
                self.finish = "stop"
            else:
                if self._guide:
                    self._guide.accept(token)
                new = [*new, token]
                self.pending = [token]
        self._append(new)
        return kept

    def read_again(self, tokens: Sequence[int]) -> None:
        """Put tokens before the pending ones that were accepted, but that the cache could not keep.

        The next forward pass then has no draft, so that all of its tokens are kept.
        """
        self.pending = [*tokens, *self.pending]
        self._reads_again = True

    def _remaining_tokens(self) -> int:
        """Tokens before the output must be brought to its end."""
        return self._limit - len(self.tokens) - self._reserve

    def _append(self, tokens: Sequence[int]) -> None:
        self.tokens += tokens
        if self._lookup_table:
            self._lookup_table.extend(tokens)
        if self._repetition:
            self._cut_repetition(self._repetition, tokens)

    def _cut_repetition(self, watch: RepetitionStop, tokens: Sequence[int]) -> None:
        """End the output where its new tokens close a circle; a complete one loses a last line that stands twice."""
        for token in tokens:
            kept = watch.add(token, ends_line=self._student.decode([token]).endswith("\n"))
            if kept is not None:
                del self.tokens[kept:]
                self.finish = "stop"
                return
        if self.finish:
            del self.tokens[watch.end() :]


@lru_cache(maxsize=64)
def _compiled(kind: str, text: str) -> str:
    if kind == "lark":
        return str(llguidance.LLMatcher.grammar_from_lark(text))
    compact = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return str(llguidance.LLMatcher.grammar_from_json_schema(text, defaults=compact))


_JsonState = Literal["string", "outside", "escape"]


def _json_state(text: bytes | bytearray) -> _JsonState:
    """Where a JSON prefix ends: in a string, after a backslash of one, or outside of strings."""
    inside = escaped = False
    for byte in text:
        if escaped:
            escaped = False
        elif inside and byte == 0x5C:
            escaped = True
        elif byte == 0x22:
            inside = not inside
    return "escape" if escaped else "string" if inside else "outside"
