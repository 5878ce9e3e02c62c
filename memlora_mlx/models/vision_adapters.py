"""How each family of vision students looks at a picture: what a prompt with one is like, and what the vision tower makes.

mlx-vlm has the towers. Prompts are made here, for any thread and without MLX: its processors are for one prompt of one
image, and that of InternVL renders another template than the model was trained on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from memlora_mlx.errors import ModelBroken
from memlora_mlx.models.output_head import OutputHead

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels


class VisionAdapter(ABC):
    """One family's way, for one model.

    Args:
        model: the mlx-vlm model.
        tokenizer: mlx-lm's TokenizerWrapper.
        config: the model's config.json.
        image_tiles: into how many tiles a picture is cut, at most.
    """

    STOP_TOKENS: tuple[str, ...] = ()  # tokens that end an answer, beside those that the files name
    feature_parts = 1  # how many times as wide as a word's embedding a feature is
    stands_in_rows = False  # whether features stand in rows and columns; otherwise one behind the other, as words do

    def __init__(self, model: nn.Module, tokenizer: Any, config: Mapping[str, Any], image_tiles: int) -> None:
        self.model, self.tokenizer, self.config, self.max_tiles = model, tokenizer, config, image_tiles
        self._head = OutputHead(model.language_model)

    @abstractmethod
    def render(self, chat: Sequence[tuple[str, str]], picture: str = "") -> str:
        """The chat in the family's template, ready for the answer. On any thread.

        Args:
            picture: what stands for one, before the last words of the user.
        """

    @abstractmethod
    def image_tokens(self, width: int, height: int) -> Sequence[int | None]:
        """A picture of that many pixels in a prompt: token ids, and None for each feature."""

    @abstractmethod
    def features(self, pixels: Pixels) -> mx.array:
        """What the language model reads in the features' places: (features, feature_parts * dim)."""

    def feature_positions(self, width: int, height: int) -> np.ndarray | None:
        """Where the features of a picture of that many pixels stand, in steps from its first one: (3, features).

        The three are time, row and column. None unless `stands_in_rows`.
        """
        return None

    def embed(self, tokens: mx.array) -> mx.array:
        """Tokens as the language model reads them: (batch, time) to (batch, time, dim)."""
        return self.model.language_model.model.embed_tokens(tokens)

    def embed_all(self, tokens: mx.array, features: mx.array | None) -> mx.array:
        """Words, and features in their places: (batch, time, dim)."""
        words = self.embed(mx.maximum(tokens, 0))
        if features is None:
            return words
        return mx.where((tokens < 0)[..., None], features[..., : words.shape[-1]].astype(words.dtype), words)

    def forward(
        self, tokens: mx.array, features: mx.array | None, cache: list[Any] | None, positions: mx.array | None
    ) -> mx.array:
        """The language model's last hidden states: (batch, time, dim).

        Args:
            tokens: (batch, time); negative where a feature stands.
            features: what stands in those places, (batch, time, feature_parts * dim); None without any.
            positions: where each token stands, (3, batch, time); None in a family whose features stand as words do.
        """
        embedded = self.embed_all(tokens, features)
        return self.model.language_model.model(mx.maximum(tokens, 0), inputs_embeds=embedded, cache=cache)

    def head(self, hidden: mx.array) -> mx.array:
        """The logits of what `forward` gives."""
        return self._head(hidden)


def last_user_turn(chat: Sequence[tuple[str, str]]) -> int:
    """The place of the user's last turn."""
    return max(i for i, (role, _) in enumerate(chat) if role == "user")


class InternVLAdapter(VisionAdapter):
    """InternVL 2.5 and 3: ChatML, and square tiles of one size with a small view of the whole picture after them."""

    # InternVL's own system line ("You are InternVL, a multimodal model made by ..."): trained with it, it answers worse without.
    SYSTEM = (
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
    )
    STOP_TOKENS = ("<|im_end|>",)
    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of red, green and blue

    def __init__(self, model: nn.Module, tokenizer: Any, config: Mapping[str, Any], image_tiles: int) -> None:
        super().__init__(
            model, tokenizer, config, min(image_tiles, int(config.get("max_dynamic_patch") or image_tiles))
        )
        self._system = str(config.get("system_message", self.SYSTEM))
        self._tile_pixels = int(config.get("force_image_size") or model.config.vision_config.image_size)
        self._adds_overview = bool(config.get("use_thumbnail", True))
        patches = (self._tile_pixels // model.config.vision_config.patch_size) ** 2
        self._features_per_tile = int(patches * model.config.downsample_ratio**2)  # features
        for layer in model.vision_model.encoder.layers:
            layer.mlp.activation_fn = nn.GELU()  # as the tower was trained; mlx-vlm's has an approximation, 1e-4 off
        known = tokenizer.get_vocab()
        if missing := [mark for mark in ("<img>", "</img>", "<|im_start|>", "<|im_end|>") if mark not in known]:
            raise ModelBroken(
                f"the student's tokenizer lacks {missing[0]}, which prompts of InternVL need; pull it again"
            )
        self._open, self._close = known["<img>"], known["</img>"]

    def render(self, chat: Sequence[tuple[str, str]], picture: str = "") -> str:
        said = list(chat)
        if self._system and said[0][0] != "system":
            said.insert(0, ("system", self._system))
        if picture:
            said[last_user_turn(said)] = ("user", f"{picture}\n{said[last_user_turn(said)][1]}")
        turns = (f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in said)
        return "".join(turns) + "<|im_start|>assistant\n"

    def image_tokens(self, width: int, height: int) -> Sequence[int | None]:
        columns, rows = self._grid(width, height)
        tiles = columns * rows
        tiles += self._adds_overview and tiles > 1
        return [self._open, *[None] * (tiles * self._features_per_tile), self._close]

    def features(self, pixels: Pixels) -> mx.array:
        tower = self.model.vision_model
        tiles = mx.array(np.stack([self._normal(tile) for tile in self._cut(pixels)]))  # (tiles, side, side, 3)
        states, _, _ = tower(tiles.astype(tower.embeddings.patch_embedding.weight.dtype), output_hidden_states=True)
        from mlx_vlm.models.base import pixel_shuffle

        made = pixel_shuffle(states[:, 1:], shuffle_ratio=self.model.downsample_ratio)
        for layer in self.model.mlp1:
            made = layer(made)
        return made.reshape(-1, made.shape[-1])

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of tiles: the shape nearest to the picture's; of two, the one that keeps more of its pixels."""
        most = range(1, self.max_tiles + 1)
        best, nearest = (1, 1), float("inf")
        for tiles in most:  # few first, as the model was trained
            for columns in (n for n in most if tiles % n == 0):
                distance = abs(width / height - columns * columns / tiles)
                fills_half = width * height > 0.5 * tiles * self._tile_pixels**2
                if distance < nearest or (distance == nearest and fills_half):
                    best, nearest = (columns, tiles // columns), distance
        return best

    def _cut(self, pixels: Pixels) -> list[Pixels]:
        columns, rows = self._grid(*pixels.size)
        side = self._tile_pixels
        spread = pixels.resize((columns * side, rows * side), 3)  # bicubic
        places = [(column * side, row * side) for row in range(rows) for column in range(columns)]
        tiles = [spread.crop((left, top, left + side, top + side)) for left, top in places]
        if self._adds_overview and len(tiles) > 1:
            tiles.append(pixels.resize((side, side), 3))
        return tiles

    def _normal(self, tile: Pixels) -> np.ndarray:
        values = np.asarray(tile, np.float32) / np.float32(255)
        return (values - np.array(self.MEAN, np.float32)) / np.array(self.STD, np.float32)


class ProcessorAdapter(VisionAdapter):
    """A family whose processor, in mlx-vlm, says what a prompt with a picture is, and whose model merges the two.

    The processor makes MLX arrays: `image_tokens`, too, belongs to the engine's thread.
    """

    PLACEHOLDER = "<image>"  # for a picture, in the family's template

    def __init__(self, model: nn.Module, tokenizer: Any, config: Mapping[str, Any], image_tiles: int) -> None:
        super().__init__(model, tokenizer, config, image_tiles)
        self._processor = self.processor(Path(model.model_path))
        names = ("image_token_index", "image_token_id")
        self._image_token = next(getattr(model.config, name) for name in names if hasattr(model.config, name))
        self._frames: dict[tuple[int, int], list[int | None]] = {}

    def processor(self, folder: Path) -> Any:
        """The family's processor, read from the model's folder; it never looks elsewhere."""
        raise NotImplementedError

    def render(self, chat: Sequence[tuple[str, str]], picture: str = "") -> str:
        turns = []
        for i, (role, text) in enumerate(chat):
            content = [{"type": "text", "text": text.replace(self.PLACEHOLDER, "")}]
            if picture and i == last_user_turn(chat):
                content.insert(0, {"type": "image"})
            turns.append({"role": role, "content": content})
        rendered = str(self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
        return rendered.replace(self.PLACEHOLDER, picture)

    def image_tokens(self, width: int, height: int) -> Sequence[int | None]:
        if (known := self._frames.get((width, height))) is None:
            from PIL import Image

            tokens = np.array(self._inputs(Image.new("RGB", (width, height)))["input_ids"])[0]
            known = [None if token == self._image_token else int(token) for token in tokens]
            self._frames[width, height] = known
        return known

    def features(self, pixels: Pixels) -> mx.array:
        inputs = dict(self._inputs(pixels))
        tokens = inputs.pop("input_ids")
        mask = inputs.pop("attention_mask", None)
        merged = self.model.get_input_embeddings(tokens, mask=mask, **inputs).inputs_embeds[0]
        return merged[mx.array(np.flatnonzero(np.array(tokens)[0] == self._image_token))]

    def _inputs(self, pixels: Pixels) -> Mapping[str, mx.array]:
        from mlx_vlm.models.base import to_mlx

        return to_mlx(self._processor(text=self.PLACEHOLDER, images=[pixels], add_special_tokens=False))
