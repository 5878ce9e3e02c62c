"""A student that sees: a vision tower beside a language model that is like any other student's.

A picture is a run of features in the prompt, each where a token would stand. In a list of tokens a feature is a negative
number. Every picture has numbers of its own, told by the SHA-256 of its file, so prompts about one picture begin alike and
prompts about two never do, and whatever handles tokens handles pictures. Nothing looks before the features are needed:
`encode` reads a picture's size alone, on any thread; `look` runs the vision tower, once a picture, on the engine's.

Experts sit on the language model. The tower and what joins the two are the same for all of them, and so are the features.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from memlora_mlx.errors import ModelBroken, UsageError, VisionMissing
from memlora_mlx.extras import require
from memlora_mlx.models import vectorised
from memlora_mlx.models.eyes import Eyes, eyes_of
from memlora_mlx.models.students import Chat, Student, error_line, manifest_name

FEATURE_BYTES = 256 << 20  # of features that are kept for the next question about their pictures
_HERE = "\ue000picture\ue000"  # where the picture goes, while a chat is being rendered


@dataclass(eq=False)
class Sight:
    """A picture, as the student knows it."""

    path: Path
    first: int  # its features are called -first, -first - 1, ...
    width: int  # pixels
    height: int
    count: int  # features
    features: mx.array | None = None  # (count, dim)


class LanguageModel(nn.Module):
    """The language model of a vision student by itself; its layers keep the names they have in the whole."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.language_model = whole.language_model

    @property
    def layers(self) -> list[nn.Module]:
        return list(self.language_model.layers)


class VisionStudent(Student):
    """A resident vision-language model.

    Args:
        whole: an mlx-vlm model; evaluated, in inference mode.
        tokenizer: mlx-lm's TokenizerWrapper.
        config: the model's config.json.
        name: what reports call it.
        eyes: how its family looks at a picture and writes it into a prompt.
    """

    sees = True

    def __init__(self, whole: nn.Module, tokenizer: Any, config: dict[str, Any], name: str, eyes: Eyes) -> None:
        words = config.get("text_config") or config.get("llm_config") or {}
        super().__init__(LanguageModel(whole), tokenizer, {**config, **words, "model_type": config["model_type"]}, name)
        self._whole, self._eyes = whole, eyes
        self._sights: dict[str, Sight] = {}  # by SHA-256, in the order of their numbers
        self._files: dict[tuple[str, int, int], Sight] = {}  # by path, time and bytes: what need not be read again
        self._starts: list[int] = []  # `first` of each sight
        self._known = threading.Lock()  # pictures are counted on callers' threads
        self._seen: dict[Sight, None] = {}  # those whose features are here, the latest used last

    @classmethod
    def load_whole(cls, folder: Path, config: dict[str, Any], name: str | None, image_tiles: int) -> VisionStudent:
        """See `Student.load`.

        Raises:
            ExtraMissing: mlx-vlm is not installed.
            VisionMissing: this family cannot be run.
        """
        require("vision", f"the vision student {folder.name}")
        from mlx_lm.utils import load_tokenizer
        from mlx_vlm.utils import load_model
        from transformers.utils import logging

        if "model_file" in config:
            raise ModelBroken(f"the student in {folder} brings a program of its own ({config['model_file']}); not run")
        eyes = eyes_of(config)
        before = logging.get_verbosity()
        logging.set_verbosity_error()  # transformers warns of every model type that is not its own
        try:
            whole = load_model(folder, lazy=True)
            words = config.get("text_config") or config.get("llm_config") or {}
            tokenizer = load_tokenizer(folder, eos_token_ids=config.get("eos_token_id") or words.get("eos_token_id"))
            # What ends a turn is often in neither: InternVL's configs name the end of a document alone.
            for end in (str(tokenizer.eos_token_id), *eyes.ENDS):
                tokenizer.add_eos_token(end)
            if mx.default_device() == mx.Device(mx.cpu) and "quantization" not in config:
                whole.set_dtype(mx.float32)  # see Student.load
            vectorised.install()
            whole.eval()
            mx.eval(whole.parameters())
            return cls(
                whole, tokenizer, config, name or manifest_name(folder), eyes(whole, tokenizer, config, image_tiles)
            )
        except (ModelBroken, VisionMissing):
            raise
        except Exception as error:
            raise ModelBroken(
                f"the student in {folder} cannot be loaded ({error_line(error)}); pull it again"
            ) from error
        finally:
            logging.set_verbosity(before)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for _, array in tree_flatten(self._whole.parameters()))

    @property
    def language(self) -> nn.Module:
        return self.model.language_model

    def make_cache(self) -> list[Any]:
        own = getattr(self.language, "make_cache", None)
        return list(own()) if own is not None else super().make_cache()

    # ------------------------------------------------------------------ prompts, on any thread

    def encode(self, chat: Chat, image: Path | None = None) -> list[int]:
        """Token ids of a chat, the picture's features in it as negative numbers.

        Raises:
            UsageError: the picture cannot be read.
        """
        if image is None:
            return self._tokens_of(self._eyes.render(chat))
        sight = self._sight(image)
        before, _, after = self._eyes.render(chat, _HERE).partition(_HERE)
        names = iter(range(-sight.first, -sight.first - sight.count, -1))
        inside = [next(names) if token is None else token for token in self._eyes.frame(sight.width, sight.height)]
        return [*self._tokens_of(before), *inside, *self._tokens_of(after)]

    def _tokens_of(self, rendered: str) -> list[int]:
        with self._lock:
            return [int(token) for token in self._tokenizer.encode(rendered, add_special_tokens=False)]

    def _sight(self, path: Path) -> Sight:
        """The picture in a file, known from now on. What it shows is not looked at."""
        from PIL import Image

        try:
            found = path.stat()
            key = (str(path), found.st_mtime_ns, found.st_size)
            if (known := self._files.get(key)) is not None:
                return known
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            with Image.open(path) as image:
                width, height = image.size
        except Exception as error:  # an unknown form, a file that was just erased
            raise UsageError(f"the picture {path.name} cannot be read ({error_line(error)})") from error
        with self._known:
            sight = self._sights.get(digest)
            if sight is None:
                last = next(reversed(self._sights.values()), None)
                first = last.first + last.count if last else 1
                count = self._eyes.frame(width, height).count(None)
                sight = self._sights[digest] = Sight(path, first, width, height, count)
                self._starts.append(first)
            sight.path = path  # the file it had may be gone
            self._files[key] = sight
        return sight

    # ------------------------------------------------------------------ features, on the engine's thread

    def look(self, tokens: Sequence[int], in_flight: Iterable[Sequence[int]] = ()) -> None:
        """Compute the features that these tokens name, where they are not here.

        Args:
            in_flight: tokens that others are about to read, whose features stay. Beyond them and these, the latest
                used stay, up to `FEATURE_BYTES`.

        Raises:
            UsageError: a picture's file is gone or cannot be read.
        """
        wanted = self._named(tokens)
        for sight in wanted:
            if sight.features is None:
                sight.features = self._features(sight)
            self._seen.pop(sight, None)
            self._seen[sight] = None
        held = sum(sight.features.nbytes for sight in self._seen if sight.features is not None)
        if held <= FEATURE_BYTES:
            return
        keep = wanted.union(*map(self._named, in_flight))
        for sight in [sight for sight in self._seen if sight not in keep]:
            if held <= FEATURE_BYTES:
                break
            assert sight.features is not None
            held -= sight.features.nbytes
            sight.features = None
            del self._seen[sight]

    def forget_features(self) -> None:
        """Drop all features, as if no picture had been looked at."""
        for sight in self._seen:
            sight.features = None
        self._seen.clear()

    def _named(self, tokens: Sequence[int]) -> set[Sight]:
        numbers = {-token for token in tokens if token < 0}
        with self._known:
            sights = list(self._sights.values())
            return {sights[bisect_right(self._starts, number) - 1] for number in numbers}

    def _features(self, sight: Sight) -> mx.array:
        from PIL import Image

        try:
            with Image.open(sight.path) as image:
                pixels = image.convert("RGB")
        except Exception as error:
            raise UsageError(f"the picture {sight.path.name} cannot be read ({error_line(error)})") from error
        features = self._eyes.features(pixels)
        if features.shape[0] != sight.count:
            raise UsageError(f"the picture {sight.path.name} changed while it was being looked at; ask again")
        mx.eval(features)
        return features

    def shown(self, tokens: NDArray[np.int32]) -> mx.array:
        """The features that stand in these places, and anything where a token is a word: (batch, time, dim).

        Those not looked at before are now. Within a compiled function nothing can be: it is given these.
        """
        named = tokens[tokens < 0].tolist()
        if not named:
            return mx.zeros((1, 1, int(self.config["hidden_size"])))
        self.look(named)
        places = np.zeros(tokens.shape, np.int32)
        features: list[mx.array] = []
        start = 0
        for sight in self._named(named):
            own = (-tokens >= sight.first) & (-tokens < sight.first + sight.count)
            places[own] = start - tokens[own] - sight.first
            assert sight.features is not None
            features.append(sight.features)
            start += sight.count
        return mx.concatenate(features)[mx.array(places)]

    def hidden(self, tokens: mx.array, cache: list[Any] | None, shown: mx.array | None = None) -> mx.array:
        """As a text student's, with features where tokens are negative."""
        if shown is None:
            numbers = np.array(tokens)
            if (numbers >= 0).all():
                return self._eyes.read(tokens, None, cache)
            shown = self.shown(numbers)
        words = self._eyes.embed(mx.maximum(tokens, 0))
        mixed = mx.where((tokens < 0)[..., None], shown.astype(words.dtype), words)
        return self._eyes.read(None, mixed, cache)
