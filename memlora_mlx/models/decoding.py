"""Greedy decoding of one request: under a grammar, with forced tokens and prompt look-up.

All three leave greedy output as it would be one token at a time. A grammar (llguidance) masks what may not come next.
Where it allows one continuation only, those tokens are appended without asking the model. And since stage outputs
mostly copy their prompt, the continuation of the latest n-gram is proposed and verified in the same forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import llguidance
import llguidance.numpy
import mlx.core as mx
import numpy as np

from memlora_mlx.errors import MemloraError
from memlora_mlx.models.students import Student
from memlora_mlx.records import Grammar

Finish = Literal["stop", "length"]

PREFILL_TOKENS = 512  # of a prompt in one forward pass; between two, a more urgent request may run
LOOKUP_TOKENS = 8  # proposed at once; verifying 9 tokens costs about two single steps on a CPU
_SLACK_TOKENS = 24  # a model may spell a forced ending in more tokens than the tokenizer would


class GrammarError(MemloraError):
    """A grammar does not compile, or refused a token it had allowed: a bug of ours, not of the model."""


class Guide:
    """A grammar at work on one output."""

    def __init__(self, student: Student, grammar: Grammar) -> None:
        compiled = _compiled(grammar.kind, grammar.text)
        self._tokens = student.grammar_tokens
        self._vocabulary = student.vocabulary
        self._matcher = llguidance.LLMatcher(self._tokens, compiled, log_level=0)
        self._check(not self._matcher.is_error())
        self._bits = llguidance.numpy.allocate_token_bitmask(1, self._vocabulary)
        self._text = bytearray()  # what was accepted, to know whether a string is open
        self._student = student
        self.reserve = len(student.tokenize(grammar.longest_ending)) + _SLACK_TOKENS

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
            ending = allowed & self._student.json_endings[state]
            if ending.any():
                return ending
        return allowed

    def _check(self, fine: bool) -> None:
        if not fine:
            raise GrammarError(f"constrained decoding failed: {self._matcher.get_error()}")


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
                return self._history[position : position + limit]
        return []


@dataclass
class Counters:
    """What one decode cost."""

    steps: int = 0  # forward passes that chose tokens
    forced: int = 0  # tokens appended without a choice
    proposed: int = 0
    accepted: int = 0


@dataclass
class Decode:
    """One output as it grows; `finish` is set when it ends."""

    tokens: list[int] = field(default_factory=list)
    finish: Finish | None = None
    counters: Counters = field(default_factory=Counters)


def decode(
    student: Student,
    prompt: Sequence[int],
    result: Decode,
    *,
    guide: Guide | None,
    max_tokens: int,
    cache: list[Any] | None = None,
    lookup: int = LOOKUP_TOKENS,
    force: bool = True,
) -> Iterator[None]:
    """Decode greedily into `result`, stopping after every forward pass so that the caller may do something else.

    Args:
        prompt: token ids, of which the first `cache` tokens are already in the cache.
        guide: the grammar; with it the output is complete before `max_tokens`, or `max_tokens` is raised to what the
            shortest complete output may need.
        max_tokens: of output.
        cache: a KV cache to extend; a fresh one by default.
        lookup: tokens to propose from the prompt in one step; 0 for none. Needs a cache that can be trimmed.
        force: append what the grammar forces without asking the model.
    """
    from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

    cache = student.make_cache() if cache is None else cache
    counters, out = result.counters, result.tokens
    limit = max(max_tokens, guide.reserve) if guide else max_tokens
    proposals = PromptLookup(prompt) if lookup and can_trim_prompt_cache(cache) else None
    pending = list(prompt[_offset(cache) :])
    barren = 0  # proposals in a row of which nothing was right

    while True:
        if guide and force:
            forced = guide.forced()
            out += forced
            pending += forced
            counters.forced += len(forced)
            if proposals:
                proposals.extend(forced)
        if guide and guide.done:
            result.finish = "stop"
            return
        if len(out) >= limit:
            result.finish = "length"
            return
        while len(pending) > PREFILL_TOKENS:
            student.hidden(mx.array([pending[:PREFILL_TOKENS]]), cache)
            mx.eval([layer.state for layer in cache])
            del pending[:PREFILL_TOKENS]
            yield

        room = limit - len(out) - (guide.reserve if guide else 0)  # tokens before the output must be brought to an end
        closing = guide is not None and room <= 0
        draft: list[int] = []
        # After a few barren rounds look only now and then: a verified draft that fails is not free.
        if proposals and room > 1 and (barren < 3 or counters.steps % 4 == 0):
            draft = proposals.propose(min(lookup, room - 1))
            draft = draft[: next((i for i, token in enumerate(draft) if token in student.eos), len(draft))]
            if guide and draft:
                draft = draft[: guide.valid(draft)]

        hidden = student.hidden(mx.array([pending + draft]), cache)
        logits = student.logits(hidden[0, len(pending) - 1 :])  # (1 + draft, vocabulary)
        mx.async_eval(logits)
        counters.steps += 1
        proposed = len(draft)
        if guide:  # while the model computes
            masks = [guide.mask(closing=closing)]
            for i, token in enumerate(draft):
                guide.accept(token)
                if guide.done:
                    draft = draft[: i + 1]
                    break
                masks.append(guide.mask())
            logits = mx.where(mx.array(np.stack(masks)), logits[: len(masks)], -float("inf"))
        chosen = [int(token) for token in np.array(mx.argmax(logits, axis=-1))]
        right = next((i for i, token in enumerate(draft) if token != chosen[i]), len(draft))
        if guide:
            guide.rollback(draft[right:])
        if proposed > right:
            trim_prompt_cache(cache, proposed - right)
        counters.proposed += proposed
        counters.accepted += right
        barren = 0 if right or not draft else barren + 1

        new = draft[:right]
        if not (guide and guide.done):
            token = chosen[right]
            if token in student.eos:
                out += new
                result.finish = "stop"
                return
            if guide:
                guide.accept(token)
            new.append(token)
            pending = [token]
        out += new
        if proposals:
            proposals.extend(new)
        yield


def _offset(cache: list[Any]) -> int:
    return int(getattr(cache[0], "offset", 0)) if cache else 0


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
