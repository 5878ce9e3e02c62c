"""The families of vision students that are run here, each with what its processor and its language model do of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from memlora_mlx.errors import VisionMissing
from memlora_mlx.models.vision_adapters import InternVLAdapter, ProcessorAdapter, VisionAdapter

if TYPE_CHECKING:
    from PIL.Image import Image as Pixels


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


class Gemma4Adapter(ProcessorAdapter):
    """Gemma 4: a picture in its own shape, of at most 280 features; every layer also reads the token itself."""

    PLACEHOLDER = "<|image|>"

    def processor(self, folder: Path) -> Any:
        from mlx_vlm.models.gemma4.processing_gemma4 import Gemma4Processor

        return Gemma4Processor.from_pretrained(str(folder), trust_remote_code=False)

    def embed(self, tokens: mx.array) -> mx.array:
        language = self.model.language_model.model
        return language.embed_tokens(tokens) * language.embed_scale

    def features(self, pixels: Pixels) -> mx.array:
        inputs = self._inputs(pixels)
        return self.model.encode_image(inputs["pixel_values"], inputs.get("image_position_ids"))[0]

    def forward(
        self, tokens: mx.array, features: mx.array | None, cache: list[Any] | None, positions: mx.array | None
    ) -> mx.array:
        language = self.model.language_model.model
        read = None
        if language.hidden_size_per_layer_input:
            read = language.get_per_layer_inputs(
                mx.maximum(tokens, 0)
            )  # a feature's place reads token 0, as mlx-vlm has it
        embedded = self.embed_all(tokens, features)
        return language(inputs_embeds=embedded, per_layer_inputs=read, cache=cache)


_FAMILIES: dict[str, type[VisionAdapter]] = {
    "internvl_chat": InternVLAdapter,
    "smolvlm": SmolVLMAdapter,
    "idefics3": SmolVLMAdapter,
    "gemma3": Gemma3Adapter,
    "lfm2_vl": LFM2Adapter,
    "lfm2-vl": LFM2Adapter,
    "qwen3_vl": Qwen3VLAdapter,
    "gemma4": Gemma4Adapter,
}
_REFUSED = (  # families by how their names begin, and why
    (
        ("qwen2_vl", "qwen2_5_vl", "qwen3_5", "qwen3_vl_moe"),
        "each part of a picture has positions of its own, which are known here for Qwen3-VL alone",
    ),
    (("gemma3n",), "every layer reads the token itself, and a picture's features are none"),
    (("mllama",), "its pictures are not part of the prompt"),
    (("internvl",), "its language model is read as Qwen3 whatever it is; take the repository without -hf"),
)
