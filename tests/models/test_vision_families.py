"""Other families of vision students: each says what mlx-vlm's own generation says, or is refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from tiny_models import FAMILIES, SHAPE, relative_error, tokenizer

from memlora_mlx.errors import VisionMissing
from memlora_mlx.memory import stages
from memlora_mlx.models import batching, model_config, vision_families
from memlora_mlx.models.batching import DecodingBatch
from memlora_mlx.models.decoding import DecodingSequence, GrammarMatcher
from memlora_mlx.models.experts import ALL_LINEAR, ExpertTable, random_matrices, read_experts, write_expert
from memlora_mlx.models.kv_cache import RaggedCache
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.model_config import VISION_FAMILIES, has_vision
from memlora_mlx.models.student import Student
from memlora_mlx.models.vision_families import vision_adapter_for
from memlora_mlx.models.vision_student import VisionStudent

import mlx.core as mx  # isort: skip
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from tokenizers import AddedToken, Tokenizer

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}PLACEHOLDER{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
PLAIN = {"do_rescale": True, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_resize": True}


def words(*marks: str) -> Tokenizer:
    built = Tokenizer.from_str(tokenizer().to_str())
    built.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    return built


def written(
    folder: Path,
    config: dict[str, Any],
    built: Tokenizer,
    placeholder: str,
    words_loudness: float = 1.0,
    **files: dict[str, Any],
) -> Path:
    """A folder of a model with random weights, attentive enough that pictures matter."""
    import importlib

    package = importlib.import_module(f"mlx_vlm.models.{config['model_type'].replace('-', '_')}")
    parts = {
        "text_config": package.TextConfig.from_dict(config["text_config"]),
        "vision_config": package.VisionConfig.from_dict(config["vision_config"]),
    }
    mx.random.seed(3)
    whole = package.Model(package.ModelConfig.from_dict({**config, **parts}))
    loud = {
        name: mx.random.normal(array.shape) * (words_loudness if "embed_tokens" in name or "lm_head" in name else 0.3)
        for name, array in tree_flatten(whole.parameters())
        if array.ndim == 2 and ("language_model" in name or "proj" in name or "connector" in name)
    }
    whole.update(tree_unflatten(list(loud.items())))
    mx.eval(whole.parameters())
    folder.mkdir(parents=True)
    arrays = dict(tree_flatten(whole.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})
    built.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    settings |= {"pad_token": "<|endoftext|>", "chat_template": TEMPLATE.replace("PLACEHOLDER", placeholder)}
    for name, content in {"config": config, "tokenizer_config": settings, **files}.items():
        kept = {**settings, **content} if name == "tokenizer_config" else content
        (folder / f"{name}.json").write_text(json.dumps(kept))
    return folder


def smolvlm(folder: Path, family: str = "smolvlm") -> Path:
    grid = [f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2)]
    built = words("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *grid)
    text = {**SHAPE, "vocab_size": built.get_vocab_size(), "model_type": "llama"}
    config = {
        "model_type": family,
        "text_config": text,
        "vision_config": {**TOWER, "image_size": 32, "patch_size": 8, "model_type": f"{family}_vision"},
        "scale_factor": 2,
        "image_token_id": built.token_to_id("<image>"),
        "vocab_size": built.get_vocab_size(),
        "eos_token_id": 2,
    }
    kind = "SmolVLMImageProcessor" if family == "smolvlm" else "Idefics3ImageProcessor"
    process = {
        **PLAIN,
        "image_processor_type": kind,
        "do_image_splitting": True,
        "do_pad": True,
        "do_convert_rgb": True,
    }
    process |= {"max_image_size": {"longest_edge": 32}, "size": {"longest_edge": 128}, "rescale_factor": 1 / 255}
    return written(folder, config, built, "<image>", preprocessor_config=process, processor_config={"image_seq_len": 4})


def idefics3(folder: Path) -> Path:
    return smolvlm(folder, "idefics3")


def gemma3(folder: Path) -> Path:
    built = words("<start_of_image>", "<end_of_image>", "<image_soft_token>")
    text = {**SHAPE, "vocab_size": built.get_vocab_size(), "model_type": "gemma3_text", "head_dim": 8}
    text |= {"query_pre_attn_scalar": 8, "sliding_window": 64, "sliding_window_pattern": 2, "mm_tokens_per_image": 4}
    config = {
        "model_type": "gemma3",
        "text_config": text,
        "vision_config": {**TOWER, "image_size": 32, "patch_size": 8, "model_type": "siglip_vision_model"},
        "image_token_index": built.token_to_id("<image_soft_token>"),
        "hidden_size": text["hidden_size"],
        "vocab_size": built.get_vocab_size(),
        "eos_token_id": 2,
    }
    process = {**PLAIN, "image_processor_type": "Gemma3ImageProcessor", "size": {"height": 32, "width": 32}}
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    return written(
        folder,
        config,
        built,
        "<start_of_image>",
        0.1,  # the output head is the same table: louder, a random model repeats its last token for ever
        preprocessor_config=process,
        processor_config={"image_seq_length": 4},
        tokenizer_config={"extra_special_tokens": names},
    )


def lfm2_vl(folder: Path) -> Path:
    grid = [f"<|img_row_{i}_col_{j}|>" for i in (1, 2) for j in (1, 2)]
    built = words("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", *grid)
    text = {**SHAPE, "vocab_size": built.get_vocab_size(), "model_type": "lfm2", "norm_eps": 1e-5}
    text |= {"block_dim": 32, "block_ff_dim": 64, "block_multiple_of": 8, "conv_L_cache": 3}
    text |= {"layer_types": ["conv", "full_attention"], "conv_dim": 32, "conv_dim_out": 32, "num_heads": 4}
    config = {
        "model_type": "lfm2-vl",
        "text_config": text,
        "vision_config": {**TOWER, "image_size": 32, "patch_size": 8, "num_patches": 16, "model_type": "lfm2_vl"},
        "downsample_factor": 2,
        "encoder_patch_size": 8,
        "projector_hidden_size": 64,
        "image_token_id": built.token_to_id("<image>"),
        "eos_token_id": 2,
    }
    process = {**PLAIN, "encoder_patch_size": 8, "downsample_factor": 2, "min_image_tokens": 4, "max_image_tokens": 16}
    process |= {"tile_size": 32, "max_pixels_tolerance": 2.0}
    names = {"image_token": "<image>", "image_start_token": "<|image_start|>", "image_end_token": "<|image_end|>"}
    names["image_thumbnail"] = "<|img_thumbnail|>"
    return written(
        folder,
        config,
        built,
        "<image>",
        preprocessor_config=process,
        tokenizer_config={"extra_special_tokens": names},
    )


def qwen3_vl(folder: Path) -> Path:
    marks = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    built = words(*marks)
    text = {**SHAPE, "vocab_size": built.get_vocab_size(), "model_type": "qwen3_vl_text", "head_dim": 8}
    text |= {"num_hidden_layers": 3, "rope_scaling": {"mrope_section": [2, 1, 1], "rope_type": "default"}}
    tower = {"model_type": "qwen3_vl", "depth": 3, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4}
    tower |= {"patch_size": 8, "out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
    config = {
        "model_type": "qwen3_vl",
        "text_config": text,
        "vision_config": tower,
        "image_token_id": built.token_to_id("<|image_pad|>"),
        "video_token_id": built.token_to_id("<|video_pad|>"),
        "vision_start_token_id": built.token_to_id("<|vision_start|>"),
        "vision_end_token_id": built.token_to_id("<|vision_end|>"),
        "eos_token_id": 2,
    }
    process = {"patch_size": 8, "merge_size": 2, "size": {"shortest_edge": 256, "longest_edge": 4096}}
    return written(
        folder,
        config,
        built,
        "<|vision_start|><|image_pad|><|vision_end|>",
        preprocessor_config={**process, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    )


def gemma4(folder: Path) -> Path:
    built = words("<|image>", "<image|>", "<|image|>", "<|video|>", "<|audio|>")
    text = {**SHAPE, **FAMILIES["gemma4"]["text_config"], "vocab_size": built.get_vocab_size()}
    text |= {"vocab_size_per_layer_input": built.get_vocab_size(), "sliding_window": 64}
    tower = {**TOWER, "model_type": "gemma4_vision", "num_key_value_heads": 4, "head_dim": 8, "global_head_dim": 8}
    tower |= {"patch_size": 8, "pooling_kernel_size": 2, "default_output_length": 6, "position_embedding_size": 64}
    config = {
        "model_type": "gemma4",
        "text_config": text,
        "vision_config": tower,
        "image_token_id": built.token_to_id("<|image|>"),
        "video_token_id": built.token_to_id("<|video|>"),
        "audio_token_id": built.token_to_id("<|audio|>"),
        "audio_config": None,
        "vocab_size": built.get_vocab_size(),
        "eos_token_id": 2,
    }
    names = {"boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>"}
    return written(
        folder,
        config,
        built,
        "<|image|>",
        0.05,  # tied, as Gemma 3's
        processor_config={"image_processor": {"patch_size": 8, "pooling_kernel_size": 2, "max_soft_tokens": 6}},
        tokenizer_config={"extra_special_tokens": names},
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for name, colour in (("red", "red"), ("blue", "blue")):
        image = Image.new("RGB", (120, 80), colour)
        ImageDraw.Draw(image).ellipse((5, 5, 60, 40), "yellow", "black")
        image.save(folder / f"{name}.png")
    return [folder / "red.png", folder / "blue.png"]


BUILDERS = (smolvlm, idefics3, gemma3, lfm2_vl, qwen3_vl, gemma4)


@pytest.fixture(scope="module", params=BUILDERS, ids=lambda build: build.__name__)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    build: Callable[[Path], Path] = request.param
    return build(tmp_path_factory.mktemp("students") / build.__name__)


@pytest.fixture(scope="module")
def student(folder: Path) -> VisionStudent:
    loaded = load_student(folder)
    assert isinstance(loaded, VisionStudent)
    return loaded


def run(
    student: Student,
    rows: int,
    *made: DecodingSequence,
    table: ExpertTable | None = None,
    prefixes: batching.PrefixCache | None = None,
) -> list[list[int]]:
    batch = DecodingBatch(student, table or ExpertTable(student.model, {}), rows, {} if prefixes is None else prefixes)
    for row in made:
        batch.add(row)
    while batch.is_busy:
        _, failed = batch.step()
        assert not failed
    return [row.tokens for row in made]


def free_row(student: Student, picture: Path | None, tokens: int = 10) -> DecodingSequence:
    return DecodingSequence(
        student, "vqa", student.encode((("user", "What is it?"),), picture), guide=None, max_tokens=tokens
    )


def test_a_picture_and_a_question_give_the_words_of_mlx_vlm(student: VisionStudent, pictures: list[Path]) -> None:
    from mlx_vlm import stream_generate
    from mlx_vlm.tokenizer_utils import NaiveStreamingDetokenizer
    from mlx_vlm.utils import StoppingCriteria

    eyes: Any = student._adapter
    processor = eyes._processor
    processor.detokenizer = NaiveStreamingDetokenizer(processor.tokenizer)
    processor.tokenizer.stopping_criteria = StoppingCriteria([2], processor.tokenizer)
    said = []
    for picture in pictures:
        prompt = eyes.render((("user", "What is it?"),), eyes.PLACEHOLDER)
        pieces = stream_generate(student._whole, processor, prompt, image=str(picture), max_tokens=10, temperature=0.0)
        theirs = [int(piece.token) for piece in pieces if piece.token is not None]
        [ours] = run(student, 1, free_row(student, picture))
        assert ours == [token for token in theirs if token != 2][: len(ours)] and len(ours) >= 6
        said.append(ours)
    assert said[0] != said[1], "pictures that give the same words prove nothing"


def test_logits_with_a_picture_equal_those_of_mlx_vlm(student: VisionStudent, pictures: list[Path]) -> None:
    """Alone, and in a batch of rows as training has it, where features and positions are given from outside."""
    from mlx_vlm.models.base import to_mlx

    eyes: Any = student._adapter
    chat, rows, theirs = (("user", "What is it?"),), [], []
    for picture in pictures:
        with Image.open(picture) as file:
            given = to_mlx(eyes._processor(text=eyes.render(chat, eyes.PLACEHOLDER), images=[file.convert("RGB")]))
        tokens, pixels, mask = (given.pop(name, None) for name in ("input_ids", "pixel_values", "attention_mask"))
        rows.append(student.encode(chat, picture))
        assert [token for token in rows[-1] if token >= 0] == [
            int(token) for token in np.array(tokens)[0] if token != eyes._image_token
        ]
        read = student._whole.get_input_embeddings(tokens, pixels, mask=mask, **given).to_dict()
        read.pop("attention_mask_4d", None)  # its own generation passes none
        theirs.append(student._whole.language_model(tokens, cache=student.make_cache(), **read).logits[0])
        ours = student.logits(student.hidden(mx.array([rows[-1]]), student.make_cache()))[0]
        assert relative_error(ours, theirs[-1]) < 1e-5
    batch = np.array([rows[0], rows[1]], np.int32)
    together = student.logits(
        student.hidden(mx.array(batch), None, student.features_at(batch), student.positions_at(batch))
    )
    assert all(relative_error(found, expected) < 1e-5 for found, expected in zip(together, theirs, strict=True))


def test_a_picture_that_is_read_in_parts_or_was_read_before_is_the_same(
    student: VisionStudent, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    [expected] = run(student, 1, free_row(student, pictures[0]))
    monkeypatch.setattr(batching, "PREFILL_TOKENS", 5)  # the cuts fall into the picture
    prefixes: batching.PrefixCache = {}
    for _ in range(3):  # the second keeps what two prompts share where states cannot be cut, the third begins behind it
        row = free_row(student, pictures[0])
        assert run(student, 1, row, prefixes=prefixes) == [expected]
    assert row.counters.reused > sum(token < 0 for token in row.prompt)


def test_an_expert_that_was_switched_to_is_as_in_a_fresh_student(
    student: VisionStudent, folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    for number, stage in enumerate(("vqa", "generation")):
        write_expert(tmp_path / stage, random_matrices(student.model, ALL_LINEAR, seed=number, strength=0.3), scale=2)
    table = ExpertTable(student.model, read_experts(tmp_path, student.fingerprint))
    prompt = student.encode((("user", "What is it?"),), pictures[0])
    logits = {}
    for stage in ("vqa", "generation", None, "vqa"):
        table.use(stage)
        logits[stage] = student.logits(student.hidden(mx.array([prompt]), None))
        mx.eval(logits[stage])
    table.use(None)
    fresh = load_student(folder)
    ExpertTable(fresh.model, read_experts({"vqa": tmp_path / "vqa"}, fresh.fingerprint)).use("vqa")
    prompt = fresh.encode((("user", "What is it?"),), pictures[0])
    assert mx.array_equal(logits["vqa"], fresh.logits(fresh.hidden(mx.array([prompt]), None)))
    assert relative_error(logits["vqa"], logits[None]) > 0.01


def test_experts_grammars_and_batches_work_on_it(student: VisionStudent, pictures: list[Path], tmp_path: Path) -> None:
    alone = [run(student, 1, free_row(student, picture))[0] for picture in (*pictures, None)]
    together = run(student, 3, *(free_row(student, picture) for picture in (*pictures, None)))
    assert together == alone and isinstance(student.make_batch_cache(3), RaggedCache), "they share a batch"
    matrices = random_matrices(student.model, ALL_LINEAR, rank=4, strength=0.3)
    assert matrices and all(name.startswith("language_model.") for name in matrices)
    write_expert(tmp_path / "vqa", matrices, scale=2.0)
    table = ExpertTable(student.model, read_experts(tmp_path, student.fingerprint))
    guide = GrammarMatcher(student, stages.visual_answer_grammar())
    prompt = student.encode(stages.visual_question_chat("What is it?"), pictures[0])
    row = DecodingSequence(student, "vqa", prompt, guide=guide, max_tokens=stages.VISUAL_ANSWER_TOKENS)
    run(student, 1, row, table=table)
    table.use(None)
    word, reason = stages.parse_visual_answer(student.decode(row.tokens))
    assert word and reason


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("mllama", "not part of the prompt"),
        ("internvl", "without -hf"),
        ("moondream9", "are not known; internvl_chat, smolvlm"),
    ],
)
def test_a_family_that_cannot_be_run_is_refused_with_its_reason(tmp_path: Path, family: str, why: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, "vision_config": {"hidden_size": 8}}))
    with pytest.raises(VisionMissing, match=why) as refused:
        load_student(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("family", "why"), [("qwen2_5_vl", "positions of its own"), ("gemma3n", "every layer reads the token")]
)
def test_a_tower_that_cannot_be_run_has_its_reason(family: str, why: str) -> None:
    """mlx-lm loads the language models of these: they are students that read text (`test_families.py`)."""
    with pytest.raises(VisionMissing, match=why):
        vision_adapter_for({"model_type": family, "vision_config": {"hidden_size": 8}})


def test_a_gemma4_whose_image_parts_see_each_other_reads_text(tmp_path: Path) -> None:
    """A prompt is read in parts, which would hide the later parts of an image from the earlier ones."""
    for both_ways, sees in ((None, True), ("vision", False)):
        words = {"model_type": "gemma4_text", "use_bidirectional_attention": both_ways}
        config = {"model_type": "gemma4", "vision_config": {"hidden_size": 8}, "text_config": words}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert has_vision(tmp_path) == sees


def test_the_families_that_are_said_to_see_are_those_that_have_an_adapter() -> None:
    """`model_config` says it without importing MLX. Each is tested here; InternVL in `test_vision.py`."""
    assert set(VISION_FAMILIES) == set(vision_families._FAMILIES)
    assert set(VISION_FAMILIES) == {build.__name__ for build in BUILDERS} | {"lfm2-vl", "internvl_chat"}


def test_without_the_vision_extra_gemma3_is_a_student_that_reads_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = gemma3(tmp_path / "gemma3")
    assert has_vision(folder)
    monkeypatch.setattr(model_config, "has", lambda extra: False)
    assert not has_vision(folder)
    student = load_student(folder)
    assert not student.has_vision
    [said] = run(student, 1, free_row(student, None))
    assert said
    with pytest.raises(VisionMissing, match="reads text only"):
        student.encode((("user", "What is it?"),), tmp_path / "red.png")
