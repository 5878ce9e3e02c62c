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

from memlora_mlx.errors import ModelBroken, VisionMissing
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


def vision_adapter_for(config: Mapping[str, Any]) -> type[VisionAdapter]:
    """How a model's family looks at images; `model_config.VISION_FAMILIES` are the families that have one.

    Raises:
        VisionMissing: the family is not known, or its vision tower cannot be run.
    """
    family = str(config.get("model_type", "unknown"))
    reason = next((why for names, why in _REFUSED if family.startswith(names)), None)
    if reason and family not in _FAMILIES:
        raise VisionMissing(
            f"students of the family {family} cannot be run: {reason}; choose another, such as internvl3-1b"
        )
    if (found := _FAMILIES.get(family)) is None:
        raise VisionMissing(f"vision students of the family {family} are not known; {', '.join(_FAMILIES)} are")
    return found


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
            known = [None if token == self.model.config.image_token_index else int(token) for token in tokens]
            self._frames[width, height] = known
        return known

    def features(self, pixels: Pixels) -> mx.array:
        inputs = dict(self._inputs(pixels))
        tokens = inputs.pop("input_ids")
        mask = inputs.pop("attention_mask", None)
        merged = self.model.get_input_embeddings(tokens, mask=mask, **inputs).inputs_embeds[0]
        return merged[mx.array(np.flatnonzero(np.array(tokens)[0] == self.model.config.image_token_index))]

    def _inputs(self, pixels: Pixels) -> Mapping[str, mx.array]:
        from mlx_vlm.models.base import to_mlx

        return to_mlx(self._processor(text=self.PLACEHOLDER, images=[pixels], add_special_tokens=False))


class SmolVLMAdapter(ProcessorAdapter):
    """SmolVLM 1 and 2, on Idefics3: a grid of tiles, and the whole picture after them."""

    def processor(self, folder: Path) -> Any:
        from mlx_vlm.models.idefics3.processing_idefics3 import Idefics3Processor
        from mlx_vlm.models.smolvlm.processing_smolvlm import SmolVLMProcessor

        family = SmolVLMProcessor if self.config["model_type"] == "smolvlm" else Idefics3Processor
        made = family.from_pretrained(str(folder))
        tile = made.image_processor.max_image_size["longest_edge"]
        made.image_processor.size = {"longest_edge": int(self.max_tiles**0.5) * tile}
        made.image_processor.do_image_splitting = self.max_tiles > 1
        return made

    def embed(self, tokens: mx.array) -> mx.array:
        return self.model.language_model.embed_tokens(tokens)

    def forward(
        self, tokens: mx.array, features: mx.array | None, cache: list[Any] | None, positions: mx.array | None
    ) -> mx.array:
        from mlx_vlm.models.base import create_attention_mask

        language = self.model.language_model
        states = self.embed_all(tokens, features)
        mask = create_attention_mask(states, cache)
        for layer, part in zip(language.layers, cache or [None] * len(language.layers), strict=True):
            states = layer(states, mask, part)
        return language.norm(states)

    def head(self, hidden: mx.array) -> mx.array:
        return self.model.language_model.lm_head(hidden)


class Gemma3Adapter(ProcessorAdapter):
    """Gemma 3: a picture is always 256 features."""

    PLACEHOLDER = "<start_of_image>"

    def processor(self, folder: Path) -> Any:
        from mlx_vlm.models.gemma3.processing_gemma3 import Gemma3Processor

        return Gemma3Processor.from_pretrained(str(folder))


class LFM2Adapter(ProcessorAdapter):
    """LFM2-VL: tiles of 512 pixels and a small view of the whole."""

    def processor(self, folder: Path) -> Any:
        from mlx_vlm.models.lfm2_vl.processing_lfm2_vl import Lfm2VlProcessor

        made = Lfm2VlProcessor.from_pretrained(str(folder))
        made.image_processor.max_tiles = self.max_tiles
        made.image_processor.do_image_splitting = self.max_tiles > 1
        return made

    def forward(
        self, tokens: mx.array, features: mx.array | None, cache: list[Any] | None, positions: mx.array | None
    ) -> mx.array:
        embedded = self.embed_all(tokens, features)
        return self.model.language_model.model(mx.maximum(tokens, 0), cache=cache, input_embeddings=embedded)


class Qwen3VLAdapter(ProcessorAdapter):
    """Qwen3-VL: the whole picture in parts of 32 by 32 pixels, which stand in rows and columns.

    A feature has what the language model reads, and what its first layers add to their states (DeepStack).
    """

    PLACEHOLDER = "<|vision_start|><|image_pad|><|vision_end|>"
    stands_in_rows = True
    TILE_PIXELS = 512  # the side of a tile, by which `image_tiles` bounds a picture that is not cut into any

    def __init__(self, model: nn.Module, tokenizer: Any, config: Mapping[str, Any], image_tiles: int) -> None:
        super().__init__(model, tokenizer, config, image_tiles)
        self.feature_parts = 1 + len(model.vision_tower.deepstack_visual_indexes)

    def processor(self, folder: Path) -> Any:
        from mlx_vlm.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

        made = Qwen3VLProcessor.from_pretrained(str(folder))
        images = made.image_processor
        images.max_pixels = max(images.min_pixels, min(images.max_pixels, self.max_tiles * self.TILE_PIXELS**2))
        return made

    def feature_positions(self, width: int, height: int) -> np.ndarray:
        images = self._processor.image_processor
        resized_height, resized_width = images._resolved_size(height, width)
        side = images.patch_size * images.merge_size
        rows, columns = np.mgrid[: resized_height // side, : resized_width // side].reshape(2, -1)
        return np.stack([np.zeros_like(rows), rows, columns])

    def features(self, pixels: Pixels) -> mx.array:
        inputs, tower = self._inputs(pixels), self.model.vision_tower
        values = inputs["pixel_values"].astype(tower.patch_embed.proj.weight.dtype)
        made, added = tower(values, inputs["image_grid_thw"])
        return mx.concatenate([made, *added], axis=-1)

    def forward(
        self, tokens: mx.array, features: mx.array | None, cache: list[Any] | None, positions: mx.array | None
    ) -> mx.array:
        from mlx_vlm.models.base import create_attention_mask

        language = self.model.language_model.model
        states = self.embed_all(tokens, features)
        added = self._added(tokens, features, states)
        mask = create_attention_mask(states, cache[0] if cache else None)
        rotary = language.layers[0].self_attn.rotary_emb
        rotation = None if rotary.fused_apply else rotary(states, positions)
        for i, (layer, part) in enumerate(zip(language.layers, cache or [None] * len(language.layers), strict=True)):
            states = layer(states, mask, part, positions, rotation)
            if i < len(added):
                states = states + added[i]
        return language.norm(states)

    def head(self, hidden: mx.array) -> mx.array:
        language = self.model.language_model  # asked as a whole, it would work out positions for tokens it is not given
        if language.args.tie_word_embeddings:
            return language.model.embed_tokens.as_linear(hidden)
        return language.lm_head(hidden)

    def _added(self, tokens: mx.array, features: mx.array | None, states: mx.array) -> list[mx.array]:
        """What the first layers add to their states: nothing where a word stands."""
        if features is None:
            return []
        parts = mx.split(features.astype(states.dtype), self.feature_parts, axis=-1)[1:]
        return [mx.where((tokens < 0)[..., None], part, 0) for part in parts]


_FAMILIES: dict[str, type[VisionAdapter]] = {
    "internvl_chat": InternVLAdapter,
    "smolvlm": SmolVLMAdapter,
    "idefics3": SmolVLMAdapter,
    "gemma3": Gemma3Adapter,
    "lfm2_vl": LFM2Adapter,
    "lfm2-vl": LFM2Adapter,
    "qwen3_vl": Qwen3VLAdapter,
}
_REFUSED = (  # families by how their names begin, and why
    (
        ("qwen2_vl", "qwen2_5_vl", "qwen3_5", "qwen3_vl_moe"),
        "each part of a picture has positions of its own, which are known here for Qwen3-VL alone",
    ),
    (("gemma3n", "gemma4"), "every layer reads the token itself, and a picture's features are none"),
    (("mllama",), "its pictures are not part of the prompt"),
    (("internvl",), "its language model is read as Qwen3 whatever it is; take the repository without -hf"),
)
