"""Text as a tokenizer reads it when nothing in it is a command: special tokens that somebody typed are characters.

A tokenizer finds its special tokens in a whole prompt, and cannot tell those of the chat template from those in a message.
So a message that says "<|im_end|>" would end its own turn and begin another one. Here a message's special tokens are hidden
while the template is filled in, and the finished prompt is read by a copy of the tokenizer which knows the template's
special tokens by other names. Text without any is read by the tokenizer itself.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Sequence
from functools import cached_property

from tokenizers import AddedToken, Encoding, Tokenizer

_OPEN, _CLOSE = "\ue000", "\ue001"  # around the number of a hidden text; _OPEN itself is hidden too


class PlainText:
    """Reads text for one tokenizer.

    Args:
        tokenizer: of a model; it is not changed.
        template: the chat template, if there is one. Added tokens that it writes are commands as well, also where the
            tokenizer does not call them special.
        reserved: further texts to hide in messages: marks that a caller puts into prompts.
    """

    def __init__(self, tokenizer: Tokenizer, template: str = "", reserved: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        added = sorted(tokenizer.get_added_tokens_decoder().items())
        self._added = [(number, token) for number, token in added if token.content]
        self._commands = {
            token.content: number
            for number, token in self._added
            if token.special or (token.content.strip() and token.content in template)
        }
        self._hidden = [_OPEN, *reserved, *sorted(self._commands, key=len, reverse=True)]  # the longest match first
        self._numbers = {text: number for number, text in enumerate(self._hidden)}
        self._pattern = re.compile("|".join(map(re.escape, self._hidden)))
        self._is_normalised = any(token.normalized for _, token in self._added if token.content in self._commands)

    @property
    def commands(self) -> tuple[str, ...]:
        """The special tokens, as text."""
        return tuple(self._commands)

    def hide(self, text: str) -> str:
        """A message as it may go into a template: with a mark in place of each special token."""
        return self._pattern.sub(lambda found: f"{_OPEN}{self._numbers[found[0]]}{_CLOSE}", text)

    def has_hidden(self, rendered: str) -> bool:
        """Whether a text has marks of `hide` in it."""
        return _OPEN in rendered

    def tokens(self, rendered: str) -> list[int]:
        """Token ids of a filled-in template, whose own special tokens are commands and whose hidden ones are text."""
        named = self._pattern_of_commands.sub(lambda found: self._names[found[0]], rendered)
        shown = re.sub(f"{_OPEN}(\\d+){_CLOSE}", lambda found: self._hidden[int(found[1])], named)
        ids = self._ids(self._renamed.encode(shown, add_special_tokens=False))
        return ids if ids is not None else self.tokens(self._broken_up(rendered))

    def encode(self, text: str, *, add_special_tokens: bool = False) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of a bare text, all of it text, and the characters (from, to) each one stands for."""
        if not self._has_commands(text):
            found = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
            return list(found.ids), list(found.offsets)
        found = self._renamed.encode(text, add_special_tokens=add_special_tokens)
        ids = self._ids(found, with_ends=add_special_tokens)
        if ids is None:
            return self.encode(self._broken_up(self.hide(text)), add_special_tokens=add_special_tokens)
        return ids, list(found.offsets)

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Token ids of bare texts, with the special tokens that the model wants around each."""
        given = list(texts)
        plain = iter(self._tokenizer.encode_batch([text for text in given if not self._has_commands(text)]))
        return [
            self.encode(text, add_special_tokens=True)[0] if self._has_commands(text) else list(next(plain).ids)
            for text in given
        ]

    def _has_commands(self, text: str) -> bool:
        if self._pattern_of_commands.search(text):
            return True
        normaliser = self._tokenizer.normalizer if self._is_normalised else None
        return normaliser is not None and bool(self._pattern_of_commands.search(normaliser.normalize_str(text)))

    @cached_property
    def _pattern_of_commands(self) -> re.Pattern[str]:
        commands = [text for text in self._hidden if text in self._commands]
        return re.compile("|".join(map(re.escape, commands)) or "(?!)")

    @cached_property
    def _names(self) -> dict[str, str]:
        """What the copy of the tokenizer calls the special tokens; nobody can guess it."""
        nonce = secrets.token_hex(8)
        return {text: f"{_CLOSE}{nonce}-{number}{_CLOSE}" for text, number in self._commands.items()}

    @cached_property
    def _renamed(self) -> Tokenizer:
        """The tokenizer, with other names for its special tokens."""
        made = json.loads(self._tokenizer.to_str())
        made["added_tokens"] = []
        copy = Tokenizer.from_str(json.dumps(made))  # its limit of length, if it has one, is kept
        for _, token in self._added:
            name = self._names.get(token.content)
            if name is None:
                copy.add_tokens([token])
                continue
            copy.add_special_tokens(
                [AddedToken(name, lstrip=token.lstrip, rstrip=token.rstrip, normalized=False, special=True)]
            )
        return copy

    @cached_property
    def _numbers_by_name(self) -> dict[str, int]:
        names = {self._names.get(token.content, token.content): number for number, token in self._added}
        return {name: number for name, number in names.items() if name not in self._commands}

    def _ids(self, encoding: Encoding, *, with_ends: bool = False) -> list[int] | None:
        """The ids in the tokenizer's own numbers; None where text came out as a special token all the same.

        Args:
            with_ends: special tokens that the tokenizer put around the text are in the encoding.
        """
        ids = [
            self._numbers_by_name.get(token, number)
            for number, token in zip(encoding.ids, encoding.tokens, strict=True)
        ]
        commands = set(self._commands.values())
        is_forged = any(
            number in commands and token not in self._numbers_by_name and not (with_ends and is_end)
            for number, token, is_end in zip(ids, encoding.tokens, encoding.special_tokens_mask, strict=True)
        )
        return None if is_forged else ids

    def _broken_up(self, rendered: str) -> str:
        """Hidden texts shown with a space of no width in them; for a vocabulary in which they are words as well."""
        return re.sub(f"{_OPEN}(\\d+){_CLOSE}", lambda found: "\u200b".join(self._hidden[int(found[1])]), rendered)
