"""A student: one language model with its tokenizer, held once, cut at its output head.

The head is apart so that a forward pass over a prompt computes it only where a token is chosen.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import llguidance
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from jinja2 import TemplateError
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from memlora_mlx.errors import VisionMissing
from memlora_mlx.models.experts import weight_fingerprint
from memlora_mlx.models.kv_cache import NativeCache, RaggedCache, make_cache
from memlora_mlx.models.model_config import language_config, text_only_message
from memlora_mlx.models.output_head import OutputHead
from memlora_mlx.models.plain_text import PlainText
from memlora_mlx.models.recurrent_cache import RecurrentLayer
from memlora_mlx.models.thinking import Thinking


class Student:
    """A resident language model; `memlora_mlx.models.loading.load_student` makes one from a folder.

    Args:
        model: an mlx-lm model; evaluated, in inference mode.
        tokenizer: mlx-lm's TokenizerWrapper.
        config: the model's config.json.
        name: what reports call it.
    """

    has_vision = False  # whether `encode` takes a picture
    RESERVED_MARKS: tuple[str, ...] = ()  # what `encode` itself writes into prompts for a while

    def __init__(self, model: nn.Module, tokenizer: Any, config: dict[str, Any], name: str) -> None:
        _fix_gemma2_mask()
        self.model = model
        self.name = name
        self.config = language_config(config)
        self.family = str(config.get("model_type", "unknown"))
        self.fingerprint = weight_fingerprint(model)
        self.context = int(self.config.get("max_position_embeddings") or 4096)
        self.eos: frozenset[int] = frozenset(tokenizer.eos_token_ids)
        self._tokenizer = tokenizer
        self._lock = threading.Lock()  # prompts are counted on callers' threads
        self._head = OutputHead(self.language_model)
        # The width of the logits is what the model computes: some configs do not say it, others count differently.
        probe = self.logits(self.hidden(mx.zeros((1, 1), mx.int32), None))
        self.vocabulary = int(probe.shape[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of the base weights."""
        return sum(array.nbytes for _, array in tree_flatten(self.model.parameters()))

    @cached_property
    def grammar_tokens(self) -> llguidance.LLTokenizer:
        """The vocabulary as grammars see it; building it takes a third of a second for 49k tokens."""
        backend = self._tokenizer._tokenizer.backend_tokenizer
        # Some tokenizers know more tokens than the model has logits for: Gemma 3's mark of an image, for one.
        size = max(self.vocabulary, backend.get_vocab_size(with_added_tokens=True))
        return llguidance.LLTokenizer(backend.to_str(), n_vocab=size, eos_token=sorted(self.eos))

    @cached_property
    def json_closing_tokens(self) -> dict[str, np.ndarray]:
        """Tokens that end open JSON: a quote (and brackets after it) in a `string`, brackets alone `outside` of one."""
        table = {state: np.zeros(self.vocabulary, bool) for state in ("string", "outside")}
        for token in range(self.vocabulary):
            text = self.grammar_tokens.decode_bytes([token])
            if text.startswith(b'"') and not text[1:].strip(b"]}"):
                table["string"][token] = True
            elif text and not text.strip(b"]}"):
                table["outside"][token] = True
        return table

    def encode(self, chat: Sequence[tuple[str, str]], image: Path | None = None) -> list[int]:
        """Token ids of a chat under the model's own template, ready for the answer.

        Raises:
            VisionMissing: there is a picture, and the student cannot see.
        """
        if image is not None:
            raise VisionMissing(text_only_message(self.name))
        shown = self.hidden_commands(chat)
        options = {"add_generation_prompt": True, "enable_thinking": False}
        turns = [{"role": role, "content": text} for role, text in shown]
        with self._lock:
            if shown != tuple(chat):
                prompt = self.plain_text.tokens(str(self._templated(turns, tokenize=False, **options)))
            else:
                prompt = [int(token) for token in self._templated(turns, tokenize=True, return_dict=False, **options)]
        return self.thinking.closed(prompt) if self.thinking else prompt

    @cached_property
    def thinking(self) -> Thinking | None:
        """The marks around the model's thoughts, which are kept out of its answers; None if it does not think."""
        return Thinking.of(self._tokenizer, self.plain_text.encode("\n\n")[0], self.vocabulary)

    def _templated(self, turns: list[dict[str, str]], **options: Any) -> Any:
        """The chat under the template; one that takes no system prompt (Gemma 2) gets it before the first user's words."""
        try:
            return self._tokenizer.apply_chat_template(turns, **options)
        except TemplateError:
            if len(turns) < 2 or turns[0]["role"] != "system":
                raise
            first = {**turns[1], "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
            return self._tokenizer.apply_chat_template([first, *turns[2:]], **options)

    @cached_property
    def plain_text(self) -> PlainText:
        """Reads what people and models wrote: special tokens in it are text."""
        template = self._tokenizer._tokenizer.chat_template
        written = json.dumps(template, ensure_ascii=False) if template else ""
        # Marks of thoughts are commands to the model, also where the template itself does not write them.
        marks = (getattr(self._tokenizer, name, None) or "" for name in ("think_start", "think_end"))
        commands = " ".join((written, *marks))
        return PlainText(self._tokenizer._tokenizer.backend_tokenizer, commands, self.RESERVED_MARKS)

    def hidden_commands(self, chat: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """A chat as a template may take it: with marks in place of special tokens (see `PlainText`)."""
        return tuple((role, self.plain_text.hide(text)) for role, text in chat)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a bare text, without special tokens."""
        with self._lock:
            return self.plain_text.encode(text)[0]

    def tokenize_with_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of a bare text, and the characters (from, to) each one stands for."""
        with self._lock:
            return self.plain_text.encode(text)

    @property
    def end_token(self) -> int:
        """The token that ends an answer."""
        return int(self._tokenizer.eos_token_id)

    def decode(self, tokens: Sequence[int]) -> str:
        """The exact text of the tokens; bytes that are not yet a whole character become U+FFFD."""
        return str(self.grammar_tokens.decode_str([token for token in tokens if token not in self.eos]))

    @property
    def language_model(self) -> nn.Module:
        """The part that turns tokens into logits."""
        return self.model

    def compute_features(self, tokens: Sequence[int], in_flight: Iterable[Sequence[int]] = ()) -> None:
        """Look at the pictures in a prompt: see `VisionStudent`. Without a vision tower there are none."""

    def make_cache(self) -> list[Any]:
        from mlx_lm.models.cache import make_prompt_cache

        return list(make_prompt_cache(self.model))

    def make_batch_cache(self, rows: int) -> RaggedCache | NativeCache:
        """A cache for rows that are decoded together; for one row only where this model cannot have more."""
        return make_cache(self.make_cache(), rows) if self.pads_rows else NativeCache(self.make_cache())

    @cached_property
    def pads_rows(self) -> bool:
        """Whether rows of different lengths may share a forward pass.

        Recurrent layers must leave padding out of their states. A model that does so asks the cache for the rows' lengths.
        """
        cache = make_cache(self.make_cache(), 1)
        if isinstance(cache, NativeCache):
            return False
        layers = cache.begin(0, [1])
        self.hidden(mx.zeros((1, 1), mx.int32), layers)  # only described, never computed
        return all(layer.reads_lengths for layer in layers if isinstance(layer, RecurrentLayer))

    def features_at(self, tokens: NDArray[np.int32]) -> mx.array | None:
        """What stands in the places of pictures: see `VisionStudent`. Without a vision tower there are none."""
        return None

    @property
    def stands_in_rows(self) -> bool:
        """Whether the parts of images stand in rows and columns, so that `positions_at` is needed."""
        return False

    def positions_at(self, tokens: NDArray[np.int32], before: Sequence[Sequence[int]] = ()) -> mx.array | None:
        """Where tokens stand, for a model that counts the parts of images in rows and columns: see `VisionStudent`."""
        return None

    def hidden(
        self,
        tokens: mx.array,
        cache: list[Any] | None,
        image_features: mx.array | None = None,
        positions: mx.array | None = None,
    ) -> mx.array:
        """The last hidden states of (batch, time) tokens: (batch, time, dim). The cache is extended.

        Args:
            image_features: what `features_at` gives for these tokens, where it is known.
            positions: what `positions_at` gives for them, where it is known.
        """
        if cache is None and self.config.get("model_type") == "gemma3n":
            cache = (
                self.make_cache()
            )  # without one, mlx-lm's layers that share keys compute their own from weights unused
        return self._head.backbone(tokens, cache=cache)

    def logits(self, hidden: mx.array) -> mx.array:
        """The output head on hidden states: (..., dim) to (..., vocabulary)."""
        return self._head(hidden)


def _fix_gemma2_mask() -> None:
    """Give Gemma2's grouped attention a mask that broadcasts for batches.

    mlx-lm 0.32 adds a mask of (batch, 1, time, keys) to scores of (batch, kv heads, repeats, time, keys): an error for
    most batch sizes and silently wrong where the batch equals the number of kv heads.
    """
    from mlx_lm.models import gemma2

    original = gemma2.create_attention_mask
    if getattr(original, "mended", False):
        return

    def create_attention_mask(h: mx.array, cache: Any = None, **options: Any) -> Any:
        mask = original(h, cache, **options)
        return mx.expand_dims(mask, 1) if isinstance(mask, mx.array) and mask.ndim == 4 else mask

    create_attention_mask.mended = True  # type: ignore[attr-defined]
    gemma2.create_attention_mask = create_attention_mask


def error_line(error: Exception) -> str:
    """The first line of an error's text, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
