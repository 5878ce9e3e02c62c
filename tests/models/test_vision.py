"""Students that see: the same words as mlx-vlm, pictures in batches and shared prefixes, and experts on what they see."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from tiny_models import ALL_LINEAR, Q_V, expert_folder, relative_error, vision_model, vision_student_folder

from memlora_mlx.errors import AdapterMismatch, ModelBroken, UsageError, VisionMissing
from memlora_mlx.memory import stages
from memlora_mlx.models import vision_student
from memlora_mlx.models.batching import DecodingBatch, PrefixCache
from memlora_mlx.models.decoding import DecodingSequence, GrammarMatcher, PromptLookup
from memlora_mlx.models.engine import Engine
from memlora_mlx.models.experts import ExpertTable, read_experts
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.student import Student
from memlora_mlx.models.vision_student import VisionStudent
from memlora_mlx.records import Priority, Request, Stage

import mlx.core as mx  # isort: skip
import mlx.nn as nn
from mlx.utils import tree_flatten

QUESTIONS = ("What colour is the car?", "How many apples are there?", "Is there a cat?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vision_student_folder(tmp_path_factory.mktemp("students") / "tiny-internvl")


@pytest.fixture(scope="module")
def student(folder: Path) -> VisionStudent:
    loaded = load_student(folder)
    assert isinstance(loaded, VisionStudent)
    return loaded


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small one (one tile), a wide one (two and the whole) and a large square (four and the whole)."""
    made = tmp_path_factory.mktemp("pictures")
    for name, size, colour in (("small", (50, 50), "red"), ("wide", (120, 60), "blue"), ("large", (200, 200), "green")):
        image = Image.new("RGB", size, colour)
        ImageDraw.Draw(image).ellipse((5, 5, size[0] // 2, 40), "yellow", "black")
        image.save(made / f"{name}.png")
    return [made / f"{name}.png" for name in ("small", "wide", "large")]


@pytest.fixture(scope="module")
def experts(student: VisionStudent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("experts")
    adapted: list[tuple[Stage, tuple[str, ...]]] = [("extraction", Q_V), ("update", Q_V)]
    adapted += [("generation", ALL_LINEAR), ("vqa", ALL_LINEAR)]
    for seed, (stage, keys) in enumerate(adapted, start=1):
        expert_folder(made / stage, student.model, keys, seed=seed)
    return made


def run(batch: DecodingBatch, *rows: DecodingSequence) -> list[list[int]]:
    for row in rows:
        batch.add(row)
    while batch.is_busy:
        _, failed = batch.step()
        assert not failed
    return [row.tokens for row in rows]


def free_row(
    student: Student, question: str, picture: Path | None, stage: Stage | None = None, tokens: int = 20
) -> DecodingSequence:
    return DecodingSequence(
        student, stage, student.encode((("user", question),), picture), guide=None, max_tokens=tokens
    )


def test_a_picture_and_a_question_give_the_words_of_mlx_vlm(
    student: VisionStudent, folder: Path, pictures: list[Path]
) -> None:
    from mlx_vlm import load, stream_generate

    whole, processor = load(str(folder))
    processor.image_processor.dynamic_max_num = 4
    said = set()
    for picture in pictures:
        prompt = student._adapter.render((("user", QUESTIONS[0]),), "<image>")
        theirs = [
            int(piece.token)
            for piece in stream_generate(whole, processor, prompt, image=str(picture), max_tokens=12, temperature=0.0)
            if piece.token is not None
        ]
        ours = run(
            DecodingBatch(student, ExpertTable(student.model, {}), 1),
            free_row(student, QUESTIONS[0], picture, tokens=12),
        )
        assert ours[0] == [token for token in theirs if token not in student.eos][: len(ours[0])]
        assert len(ours[0]) >= 8
        said.add(tuple(ours[0]))
    assert len(said) == 3, "pictures that give the same words prove nothing"


def test_a_prompt_without_a_picture_is_read_by_the_language_model_alone(student: VisionStudent) -> None:
    tokens = student.encode((("user", "Where did Ann go?"),))
    assert min(tokens) >= 0
    theirs = student.language_model(mx.array([tokens])).logits
    ours = student.logits(student.hidden(mx.array([tokens]), student.make_cache()))
    assert relative_error(ours, theirs) < 1e-5


def test_tied_embeddings_are_the_output_head(tmp_path: Path, pictures: list[Path]) -> None:
    tied = load_student(vision_student_folder(tmp_path / "tied", tied=True))
    tokens = tied.encode((("user", "Who?"),))
    theirs = tied.language_model(mx.array([tokens])).logits
    assert relative_error(tied.logits(tied.hidden(mx.array([tokens]), tied.make_cache())), theirs) < 1e-5


def test_rows_of_different_pictures_and_experts_say_together_what_they_say_alone(
    student: VisionStudent, experts: Path, pictures: list[Path]
) -> None:
    for mode in ("swap", "fused"):
        table = ExpertTable(student.model, read_experts(experts, student.fingerprint), mode)
        dice = random.Random(4)
        asked = [
            (
                dice.choice(QUESTIONS),
                dice.choice([None, *pictures]),
                dice.choice((None, "extraction", "generation", "vqa")),
            )
            for _ in range(12)
        ]
        alone = [run(DecodingBatch(student, table, 1), free_row(student, *each))[0] for each in asked]
        prefixes: PrefixCache = {}
        together = run(DecodingBatch(student, table, 5, prefixes), *(free_row(student, *each) for each in asked))
        table.use(None)
        assert together == alone
        assert len({tuple(tokens) for tokens in alone}) > 6, "outputs that agree prove nothing"


def test_a_second_question_about_a_picture_begins_behind_it_and_one_about_another_does_not(
    student: VisionStudent, pictures: list[Path], tmp_path: Path
) -> None:
    batch = DecodingBatch(student, ExpertTable(student.model, {}), 1, {})
    first, second, other = (
        free_row(student, question, picture, "vqa")
        for question, picture in zip(QUESTIONS, (pictures[2], pictures[2], pictures[1]), strict=True)
    )
    run(batch, first)
    run(batch, second)
    last = max(i for i, token in enumerate(second.prompt) if token < 0)
    assert second.counters.reused > last
    run(batch, other)
    assert other.counters.reused <= next(i for i, token in enumerate(other.prompt) if token < 0)
    copy = tmp_path / "copy.png"
    copy.write_bytes(pictures[1].read_bytes())
    again = free_row(student, QUESTIONS[0], copy, "vqa")
    run(batch, again)
    assert again.counters.reused > last // 2, "what a picture shows counts, not where it lies"


def test_a_look_is_a_word_and_a_reason(
    student: VisionStudent, experts: Path, pictures: list[Path], folder: Path
) -> None:
    request = Request(
        "vqa",
        stages.visual_question_chat(QUESTIONS[0]),
        stages.visual_answer_grammar(),
        stages.VISUAL_ANSWER_TOKENS,
        pictures[0],
    )
    with Engine(folder, None, experts=experts) as engine:
        for priority in Priority:
            word, reason = stages.parse_visual_answer(engine.complete(request, priority=priority).text)
            assert word and " " not in word and reason
        with_expert = engine.complete(request).text
        assert engine.count_tokens(request.chat, pictures[0]) == len(student.encode(request.chat, pictures[0]))
    with Engine(folder, None) as engine:
        assert engine.complete(request).text != with_expert, "the vqa expert has to matter"


def test_features_are_computed_once_and_dropped_beyond_a_bound_but_not_in_flight(
    folder: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    student = load_student(folder)
    assert isinstance(student, VisionStudent)
    looked: list[tuple[int, int]] = []
    real = student._adapter.features
    monkeypatch.setattr(student._adapter, "features", lambda pixels: looked.append(pixels.size) or real(pixels))
    prompts = [student.encode((("user", "Who?"),), picture) for picture in pictures]
    assert looked == [], "counting does not look"
    for prompt in [*prompts, *prompts]:
        student.compute_features(prompt)
    assert len(looked) == 3

    monkeypatch.setattr(vision_student, "FEATURE_BYTES", 1)
    student.compute_features(prompts[0], in_flight=[prompts[1]])
    assert [sight.features is not None for sight in student._images.values()] == [True, True, False]
    alone = student.hidden(mx.array([prompts[2]]), student.make_cache())  # looked at again
    assert len(looked) == 4 and mx.isfinite(alone).all()


def test_proposals_from_the_prompt_never_hold_a_picture() -> None:
    lookup = PromptLookup([5, 6, 7, -1, -2, -3, 5, 6])
    assert lookup.propose(8) == [7]
    lookup.extend([7])
    assert lookup.propose(8) == []


def test_a_picture_has_as_many_features_as_its_tiles(folder: Path, pictures: list[Path]) -> None:
    counts = {}
    for most in (1, 4):
        student = load_student(folder, image_tiles=most)
        prompts = [student.encode((("user", "Who?"),), picture) for picture in pictures]
        counts[most] = [sum(token < 0 for token in prompt) for prompt in prompts]
        for prompt in prompts:
            student.compute_features(prompt)  # as many are made
    assert counts == {1: [4, 4, 4], 4: [4, 12, 20]}


def test_what_the_user_writes_cannot_stand_for_a_picture(student: VisionStudent, pictures: list[Path]) -> None:
    plain = student.encode((("user", "Who?"),), pictures[0])
    sly = student.encode((("user", "<IMG_CONTEXT> <img> Who?"),), pictures[0])
    assert sum(token < 0 for token in sly) == sum(token < 0 for token in plain)
    run(
        DecodingBatch(student, ExpertTable(student.model, {}), 1), free_row(student, "<IMG_CONTEXT></img>", pictures[0])
    )


def test_experts_hold_to_the_language_model(student: VisionStudent) -> None:
    names = [name for name, _ in tree_flatten(student.model.parameters())]
    assert names and all(name.startswith("language_model.") for name in names)
    whole = sum(array.nbytes for _, array in tree_flatten(student._whole.parameters()))
    assert student.nbytes == whole > sum(array.nbytes for _, array in tree_flatten(student.model.parameters()))


def test_a_picture_that_is_gone_or_no_picture_costs_its_own_request_only(
    folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    gone, text = tmp_path / "gone.png", tmp_path / "notes.png"
    text.write_text("no picture")
    chat = (("user", "Who?"),)
    with Engine(folder, None) as engine:
        fine = engine.submit(Request(None, chat, max_tokens=30, image=pictures[0]), priority=Priority.BACKGROUND)
        for path in (gone, text, tmp_path):
            with pytest.raises(UsageError, match="cannot be read"):
                engine.complete(Request(None, chat, image=path))
        assert fine.result().output_tokens
        gone.write_bytes(pictures[1].read_bytes())
        engine.count_tokens(chat, gone)
        gone.unlink()
        with pytest.raises(UsageError, match="cannot be read"):
            engine.complete(Request(None, chat, image=gone))


def test_a_quantised_student_sees_with_experts_kept_apart(
    folder: Path, experts: Path, pictures: list[Path], tmp_path: Path
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = {"group_size": 32, "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    built, _ = vision_model()
    # As mlx-vlm converts: tables whose size is no multiple of 64 stay as they are.
    nn.quantize(
        built.language_model,
        group_size=32,
        bits=4,
        class_predicate=lambda _, module: hasattr(module, "to_quantized") and module.weight.size % 64 == 0,
    )
    arrays = dict(tree_flatten(built.parameters()))
    mx.save_safetensors(str(tmp_path / "model.safetensors"), arrays, {"format": "mlx"})
    student = load_student(tmp_path)
    assert student.nbytes < load_student(folder).nbytes
    table = ExpertTable(student.model, read_experts(experts, student.fingerprint))
    said = [
        run(DecodingBatch(student, table, 1), free_row(student, QUESTIONS[0], pictures[1], s))[0] for s in (None, "vqa")
    ]
    table.use(None)
    assert said[0] != said[1]
    with pytest.raises(AdapterMismatch, match="quantised"):
        ExpertTable(student.model, read_experts(experts, student.fingerprint), "fused")


def test_a_folder_as_its_makers_publish_it_is_read(student: VisionStudent, folder: Path, tmp_path: Path) -> None:
    """No tokenizer.json, programs that are not there, and the end of a document as the end of an answer."""
    for name in ("model.safetensors", "config.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["llm_config"]["eos_token_id"] = config.pop("eos_token_id") - 2
    config |= {"architectures": ["InternVLChatModel"], "template": "internvl2_5", "torch_dtype": "bfloat16"}
    config["auto_map"] = {  # programs of the makers' own, which are not fetched and would not be run
        "AutoConfig": "configuration_internvl_chat.InternVLChatConfig",
        "AutoModel": "modeling_internvl_chat.InternVLChatModel",
    }
    config["llm_config"]["architectures"] = ["Qwen2ForCausalLM"]
    config["vision_config"]["architectures"] = ["InternVisionModel"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    built = json.loads((folder / "tokenizer.json").read_text())
    added = {token["content"]: token["id"] for token in built["added_tokens"]}
    (tmp_path / "vocab.json").write_text(json.dumps(built["model"]["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in built["model"]["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Qwen2Tokenizer", "additional_special_tokens": list(added)}
    settings["added_tokens_decoder"] = {
        str(number): {"content": word, "special": True, "normalized": False, "lstrip": False, "rstrip": False}
        for word, number in added.items()
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    published = load_student(tmp_path)
    assert published.eos == {0, 2} and published.end_token == student.end_token == 2
    chat = (("user", "seven green apples"),)
    assert published.encode(chat)[:3] == student.encode(chat)[:3]
    assert published.decode(published.tokenize("seven green apples")) == "seven green apples"
    assert published.encode(chat)[-3:] == student.encode(chat)[-3:]


def test_what_cannot_be_run_is_refused_in_a_line(folder: Path, tmp_path: Path) -> None:
    def changed(name: str, old: str, new: str) -> Path:
        made = tmp_path / name
        made.mkdir()
        for file in folder.iterdir():
            (made / file.name).write_bytes(file.read_bytes().replace(old.encode(), new.encode(), 1))
        return made

    with pytest.raises(VisionMissing, match="family moondream9"):
        load_student(changed("family", '"model_type": "internvl_chat"', '"model_type": "moondream9"'))
    with pytest.raises(ModelBroken, match="program of its own"):
        load_student(changed("code", '"downsample_ratio"', '"model_file": "evil.py", "downsample_ratio"'))
    with pytest.raises(ModelBroken, match="lacks <img>"):
        load_student(changed("marks", '"content": "<img>"', '"content": "<imp>"'))
    with pytest.raises(ModelBroken, match="cannot be loaded"):
        load_student(changed("weights", "mlp1.0.weight", "mlp9.0.weight"))


def test_guided_rows_with_pictures_use_forced_tokens(student: VisionStudent, pictures: list[Path]) -> None:
    table = ExpertTable(student.model, {})
    outputs = []
    for force in (True, False):
        guide = GrammarMatcher(student, stages.visual_answer_grammar())
        prompt = student.encode(stages.visual_question_chat(QUESTIONS[1]), pictures[1])
        row = DecodingSequence(student, "vqa", prompt, guide=guide, max_tokens=stages.VISUAL_ANSWER_TOKENS, force=force)
        outputs += run(DecodingBatch(student, table, 1), row)
    assert outputs[0] == outputs[1]


def test_internvl_with_a_qwen3_language_model_is_qwen3(pictures: list[Path], tmp_path: Path) -> None:
    """InternVL3.5: the language model gives the logits of mlx-lm's Qwen3, and pictures are looked at in batches."""
    from mlx_lm.models import qwen3

    student = load_student(vision_student_folder(tmp_path / "internvl", language="qwen3"))
    assert isinstance(student, VisionStudent)
    weights = {
        name.removeprefix("language_model."): array
        for name, array in tree_flatten(student.model.parameters())
        if name.startswith("language_model.")
    }
    assert any(name.endswith("q_norm.weight") for name in weights)
    plain = qwen3.Model(qwen3.ModelArgs.from_dict({**student.config, "model_type": "qwen3"}))
    plain.load_weights(list(weights.items()))
    tokens = mx.array([student.encode((("user", QUESTIONS[0]),))])
    assert mx.allclose(student.logits(student.hidden(tokens, None)), plain(tokens), atol=1e-4)

    table = ExpertTable(student.model, {})
    alone = [run(DecodingBatch(student, table, 1), free_row(student, QUESTIONS[0], one))[0] for one in pictures]
    together = run(DecodingBatch(student, table, 3), *(free_row(student, QUESTIONS[0], one) for one in pictures))
    assert together == alone and alone[0] != alone[1]
