"""How each family of vision students looks at a picture: what a prompt with one is like, and what the vision tower makes.

mlx-vlm has the towers. Prompts are made here, for any thread and without MLX: its processors are for one prompt of one
image, and that of InternVL renders another template than the model was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from memlora_mlx.errors import ModelBroken, VisionMissing

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels

    from memlora_mlx.models.students import Chat


class Eyes(Protocol):
    """One family's way, for one model."""

    def __init__(self, whole: nn.Module, tokenizer: Any, config: Mapping[str, Any], image_tiles: int) -> None: ...

    def render(self, chat: Chat, picture: str = "") -> str:
        """The chat in the family's template, ready for the answer. On any thread.

        Args:
            picture: what stands for one, before the last words of the user.
        """

    def frame(self, width: int, height: int) -> Sequence[int | None]:
        """A picture of that many pixels in a prompt: token ids, and None for each feature. On any thread."""

    def features(self, pixels: Pixels) -> mx.array:
        """What the language model reads in the features' places: (features, dim)."""

    def embed(self, tokens: mx.array) -> mx.array:
        """Tokens as the language model reads them: (batch, time) to (batch, time, dim)."""


def eyes_of(config: Mapping[str, Any]) -> type[Eyes]:
    """The eyes of a model's family.

    Raises:
        VisionMissing: the family is not known, or cannot be run.
    """
    family = str(config.get("model_type", "unknown"))
    if (found := _FAMILIES.get(family)) is None:
        raise VisionMissing(f"vision students of the family {family} cannot be run; known are {', '.join(_FAMILIES)}")
    return found


def last_of_user(chat: Chat) -> int:
    """The place of the user's last turn."""
    return max(i for i, (role, _) in enumerate(chat) if role == "user")


class InternVL:
    """InternVL 2.5 and 3: ChatML, and square tiles of one size with a small view of the whole picture after them."""

    # InternVL's own system line ("You are InternVL, a multimodal model made by ..."): trained with it, it answers worse without.
    SYSTEM = (
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
    )
    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of red, green and blue

    def __init__(self, whole: nn.Module, tokenizer: Any, config: Mapping[str, Any], image_tiles: int) -> None:
        self._whole = whole
        self._system = str(config.get("system_message", self.SYSTEM))
        self._tiles = min(image_tiles, int(config.get("max_dynamic_patch") or image_tiles))
        self._side = int(config.get("force_image_size") or whole.config.vision_config.image_size)
        self._whole_too = bool(config.get("use_thumbnail", True))
        patches = (self._side // whole.config.vision_config.patch_size) ** 2
        self._of_tile = int(patches * whole.config.downsample_ratio**2)  # features
        known = tokenizer.get_vocab()
        if missing := [mark for mark in ("<img>", "</img>", "<|im_start|>", "<|im_end|>") if mark not in known]:
            raise ModelBroken(
                f"the student's tokenizer lacks {missing[0]}, which prompts of InternVL need; pull it again"
            )
        self._open, self._close = known["<img>"], known["</img>"]

    def render(self, chat: Chat, picture: str = "") -> str:
        said = list(chat)
        if self._system and said[0][0] != "system":
            said.insert(0, ("system", self._system))
        if picture:
            said[last_of_user(said)] = ("user", f"{picture}\n{said[last_of_user(said)][1]}")
        turns = (f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in said)
        return "".join(turns) + "<|im_start|>assistant\n"

    def frame(self, width: int, height: int) -> Sequence[int | None]:
        columns, rows = self._grid(width, height)
        tiles = columns * rows
        tiles += self._whole_too and tiles > 1
        return [self._open, *[None] * (tiles * self._of_tile), self._close]

    def features(self, pixels: Pixels) -> mx.array:
        tower = self._whole.vision_model
        tiles = mx.array(np.stack([self._normal(tile) for tile in self._cut(pixels)]))  # (tiles, side, side, 3)
        states, _, _ = tower(tiles.astype(tower.embeddings.patch_embedding.weight.dtype), output_hidden_states=True)
        from mlx_vlm.models.base import pixel_shuffle

        made = pixel_shuffle(states[:, 1:], shuffle_ratio=self._whole.downsample_ratio)
        for layer in self._whole.mlp1:
            made = layer(made)
        return made.reshape(-1, made.shape[-1])

    def embed(self, tokens: mx.array) -> mx.array:
        return self._whole.language_model.model.embed_tokens(tokens)

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of tiles: the shape nearest to the picture's; of two, the one that keeps more of its pixels."""
        most = range(1, self._tiles + 1)
        best, nearest = (1, 1), float("inf")
        for tiles in most:  # few first, as the model was trained
            for columns in (n for n in most if tiles % n == 0):
                distance = abs(width / height - columns * columns / tiles)
                fills_half = width * height > 0.5 * tiles * self._side**2
                if distance < nearest or (distance == nearest and fills_half):
                    best, nearest = (columns, tiles // columns), distance
        return best

    def _cut(self, pixels: Pixels) -> list[Pixels]:
        columns, rows = self._grid(*pixels.size)
        side = self._side
        spread = pixels.resize((columns * side, rows * side), 3)  # bicubic
        places = [(column * side, row * side) for row in range(rows) for column in range(columns)]
        tiles = [spread.crop((left, top, left + side, top + side)) for left, top in places]
        if self._whole_too and len(tiles) > 1:
            tiles.append(pixels.resize((side, side), 3))
        return tiles

    def _normal(self, tile: Pixels) -> np.ndarray:
        values = np.asarray(tile, np.float32) / np.float32(255)
        return (values - np.array(self.MEAN, np.float32)) / np.array(self.STD, np.float32)


_FAMILIES: dict[str, type[Eyes]] = {"internvl_chat": InternVL}
