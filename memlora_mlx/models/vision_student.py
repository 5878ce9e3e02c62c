"""A student that sees: a vision tower beside a language model that is like any other student's.

A picture is a run of features in the prompt, each where a token would stand. In a list of tokens a feature is a negative
number. Every picture has numbers of its own, told by the SHA-256 of its file, so prompts about one picture begin alike and
prompts about two never do, and whatever handles tokens handles pictures. Nothing looks before the features are needed:
`encode` reads a picture's size alone, on any thread; `compute_features` runs the vision tower, once a picture, on the engine's.

Experts sit on the language model. The tower and what joins the two are the same for all of them, and so are the features.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from memlora_mlx.errors import UsageError
from memlora_mlx.models.student import Student, error_line
from memlora_mlx.models.vision_adapters import VisionAdapter

FEATURE_BYTES = 256 << 20  # of features that are kept for the next question about their pictures
# Of the pictures that a student is shown: they were normalised, so no other decoder has to read them.
STORED_FORMATS = ("PNG", "JPEG")
_IMAGE_MARK = "\ue000picture\ue000"  # where the picture goes, while a chat is being rendered


@dataclass(eq=False)
class ImageFeatures:
    """A picture, as the student knows it."""

    path: Path
    first_id: int  # its features are called -first, -first - 1, ...
    width: int  # pixels
    height: int
    feature_count: int  # features
    positions: np.ndarray | None  # (3, count): see `VisionAdapter.feature_positions`
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
        adapter: how its family looks at a picture and writes it into a prompt.
    """

    has_vision = True
    RESERVED_MARKS = (_IMAGE_MARK,)

    def __init__(
        self, whole: nn.Module, tokenizer: Any, config: dict[str, Any], name: str, adapter: VisionAdapter
    ) -> None:
        self._whole, self._adapter = whole, adapter
        self._images: dict[str, ImageFeatures] = {}  # by SHA-256, in the order of their numbers
        self._files: dict[
            tuple[str, int, int], ImageFeatures
        ] = {}  # by path, time and bytes: what need not be read again
        self._first_ids: list[int] = []  # `first_id` of each image
        self._registry_lock = threading.Lock()  # pictures are counted on callers' threads
        self._computed: dict[ImageFeatures, None] = {}  # those whose features are here, the latest used last
        super().__init__(LanguageModel(whole), tokenizer, config, name)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for _, array in tree_flatten(self._whole.parameters()))

    @property
    def language_model(self) -> nn.Module:
        return self.model.language_model

    def make_cache(self) -> list[Any]:
        own = getattr(self.language_model, "make_cache", None)
        return list(own()) if own is not None else super().make_cache()

    # ------------------------------------------------------------------ prompts, on any thread

    def encode(self, chat: Sequence[tuple[str, str]], image: Path | None = None) -> list[int]:
        """Token ids of a chat, the picture's features in it as negative numbers.

        Raises:
            UsageError: the picture cannot be read.
        """
        plain = self.hidden_commands(chat)
        if image is None:
            prompt = self._tokens_of(self._adapter.render(plain))
            return self.thinking.closed(prompt) if self.thinking else prompt
        shown = self._register_image(image)
        before, _, after = self._adapter.render(plain, _IMAGE_MARK).partition(_IMAGE_MARK)
        names = iter(range(-shown.first_id, -shown.first_id - shown.feature_count, -1))
        inside = [
            next(names) if token is None else token for token in self._adapter.image_tokens(shown.width, shown.height)
        ]
        prompt = [*self._tokens_of(before), *inside, *self._tokens_of(after)]
        return self.thinking.closed(prompt) if self.thinking else prompt

    def _tokens_of(self, rendered: str) -> list[int]:
        with self._lock:
            if self.plain_text.has_hidden(rendered):
                return self.plain_text.tokens(rendered)
            return [int(token) for token in self._tokenizer.encode(rendered, add_special_tokens=False)]

    def _register_image(self, path: Path) -> ImageFeatures:
        """The picture in a file, known from now on. What it shows is not looked at."""
        from PIL import Image

        try:
            found = path.stat()
            key = (str(path), found.st_mtime_ns, found.st_size)
            if (known := self._files.get(key)) is not None:
                return known
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            with Image.open(BytesIO(content), formats=STORED_FORMATS) as file:
                width, height = file.size
        except Exception as error:  # an unknown form, a file that was just erased
            raise UsageError(f"the picture {path.name} cannot be read ({error_line(error)})") from error
        with self._registry_lock:
            image = self._images.get(digest)
            if image is None:
                last = next(reversed(self._images.values()), None)
                first = last.first_id + last.feature_count if last else 1
                count = self._adapter.image_tokens(width, height).count(None)
                positions = self._adapter.feature_positions(width, height)
                image = self._images[digest] = ImageFeatures(path, first, width, height, count, positions)
                self._first_ids.append(first)
            image.path = path  # the file it had may be gone
            self._files[key] = image
        return image

    # ------------------------------------------------------------------ features, on the engine's thread

    def compute_features(self, tokens: Sequence[int], in_flight: Iterable[Sequence[int]] = ()) -> None:
        """Compute the features that these tokens name, where they are not here.

        Args:
            in_flight: tokens that others are about to read, whose features stay. Beyond them and these, the latest
                used stay, up to `FEATURE_BYTES`.

        Raises:
            UsageError: a picture's file is gone or cannot be read.
        """
        wanted = self._images_in(tokens)
        for image in wanted:
            if image.features is None:
                image.features = self._features(image)
            self._computed.pop(image, None)
            self._computed[image] = None
        held = sum(image.features.nbytes for image in self._computed if image.features is not None)
        if held <= FEATURE_BYTES:
            return
        keep = wanted.union(*map(self._images_in, in_flight))
        for image in [image for image in self._computed if image not in keep]:
            if held <= FEATURE_BYTES:
                break
            assert image.features is not None
            held -= image.features.nbytes
            image.features = None
            del self._computed[image]

    def clear_features(self) -> None:
        """Drop all features, as if no picture had been looked at."""
        for image in self._computed:
            image.features = None
        self._computed.clear()

    def _images_in(self, tokens: Sequence[int]) -> set[ImageFeatures]:
        numbers = {-token for token in tokens if token < 0}
        with self._registry_lock:
            images = list(self._images.values())
            return {images[bisect_right(self._first_ids, number) - 1] for number in numbers}

    def _features(self, image: ImageFeatures) -> mx.array:
        from PIL import Image

        try:
            with Image.open(BytesIO(image.path.read_bytes()), formats=STORED_FORMATS) as file:
                pixels = file.convert("RGB")
        except Exception as error:
            raise UsageError(f"the picture {image.path.name} cannot be read ({error_line(error)})") from error
        features = self._adapter.features(pixels)
        if features.shape[0] != image.feature_count:
            raise UsageError(f"the picture {image.path.name} changed while it was being looked at; ask again")
        mx.eval(features)
        return features

    def features_at(self, tokens: NDArray[np.int32]) -> mx.array:
        """The features that stand in these places, and anything where a token is a word: (batch, time, dim).

        Those not looked at before are now. Within a compiled function nothing can be: it is given these.
        """
        named = tokens[tokens < 0].tolist()
        if not named:
            return mx.zeros((1, 1, int(self.config["hidden_size"]) * self._adapter.feature_parts))
        self.compute_features(named)
        places = np.zeros(tokens.shape, np.int32)
        features: list[mx.array] = []
        start = 0
        for image in self._images_in(named):
            own = (-tokens >= image.first_id) & (-tokens < image.first_id + image.feature_count)
            places[own] = start - tokens[own] - image.first_id
            assert image.features is not None
            features.append(image.features)
            start += image.feature_count
        return mx.concatenate(features)[mx.array(places)]

    @property
    def stands_in_rows(self) -> bool:
        return self._adapter.stands_in_rows

    def positions_at(self, tokens: NDArray[np.int32], before: Sequence[Sequence[int]] = ()) -> mx.array | None:
        """Where tokens stand: (3, batch, time); None for a family whose features stand one behind the other, as words do.

        Args:
            tokens: (batch, time); negative where a feature stands.
            before: what each row has read before them; by default nothing.
        """
        if not self.stands_in_rows:
            return None
        read = before or [()] * len(tokens)
        rows = [self._positions([*past, *row.tolist()]) for past, row in zip(read, tokens, strict=True)]
        return mx.array(np.stack([row[:, -tokens.shape[1] :] for row in rows], axis=1))

    def _positions(self, tokens: Sequence[int]) -> NDArray[np.int32]:
        """Where the tokens of a row stand, from its beginning: (3, tokens)."""
        numbers = np.asarray(tokens, np.int64)
        positions = np.tile(np.arange(len(tokens), dtype=np.int32), (3, 1))
        images = {-image.first_id: image for image in self._images_in(tokens)}
        for first in np.flatnonzero(np.isin(numbers, list(images))):
            image = images[int(numbers[first])]
            assert image.positions is not None
            start, end = positions[0, first], first + image.feature_count
            # What comes behind an image stands one step behind its longer side.
            positions[:, end:] += start + image.positions.max() + 1 - end - (positions[0, first] - first)
            positions[:, first:end] = start + image.positions[:, : len(tokens) - first]
        return positions

    def hidden(
        self,
        tokens: mx.array,
        cache: list[Any] | None,
        image_features: mx.array | None = None,
        positions: mx.array | None = None,
    ) -> mx.array:
        """As a text student's, with features where tokens are negative.

        Args:
            positions: what `positions_at` gives for these tokens. Without it, what the cache holds is taken for words.
        """
        if image_features is None:
            numbers = np.array(tokens)
            image_features = self.features_at(numbers) if (numbers < 0).any() else None
            if positions is None and (stands := self.positions_at(numbers)) is not None:
                positions = stands + (cache[0].offset if cache else 0)
        return self._adapter.forward(tokens, image_features, cache, positions)

    def logits(self, hidden: mx.array) -> mx.array:
        return self._adapter.head(hidden)
