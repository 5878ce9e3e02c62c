"""Thinking models answer without thinking: with each family's way of writing a prompt, and whatever the model would like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import TEMPLATE, _write_student, model, mx, tokenizer
from tokenizers import AddedToken, Tokenizer

from memlora_mlx.models.batching import DecodingBatch
from memlora_mlx.models.decoding import DecodingSequence
from memlora_mlx.models.experts import ExpertTable
from memlora_mlx.models.loading import load_student
from memlora_mlx.models.student import Student

CHAT = (("user", "Where does Ann live?"),)
# How the families' templates end a prompt; what comes before is the same for all of them here.
SWITCH = "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
ENDS = {
    "qwen3": SWITCH,
    "qwen3.5": SWITCH.replace("{% endif %}{% endif %}", "{% else %}<think>\n{% endif %}{% endif %}"),
    "smollm3": SWITCH.replace("<think>\n\n</think>\n\n", "<think>\n\n</think>\n"),
    "qwen3-thinking": "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
    "deepseek-r1": "{% if add_generation_prompt %}<|im_start|>assistant<think>\n{% endif %}",
    "lfm2.5": "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "granite": "{% if thinking %}Think.{% endif %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
}
GEMMA4 = "{% if add_generation_prompt %}<|im_start|>model\n{% if not enable_thinking | default(false) %}<|channel>thought\n<channel|>{% endif %}{% endif %}"


def student_with(folder: Path, end: str, marks: tuple[str, ...] = ("<think>", "</think>")) -> Student:
    """A tiny student whose tokenizer has these marks and whose prompts end so."""
    words = Tokenizer.from_str(tokenizer().to_str())
    words.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
    built, config = model()
    grown = words.get_vocab_size()
    for name in ("embed_tokens", "lm_head"):
        owner = built.model if name == "embed_tokens" else built
        weight = owner[name].weight
        owner[name].weight = mx.concatenate([weight, mx.random.normal((grown - weight.shape[0], weight.shape[1]))])
    _write_student(folder, built, {**config, "vocab_size": grown}, words)
    turns = TEMPLATE[: TEMPLATE.index("{% if add_generation_prompt")]
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": turns + end}))
    return load_student(folder)


def text_of(student: Student, prompt: list[int]) -> str:
    return str(student._tokenizer._tokenizer.decode(prompt))


@pytest.mark.parametrize("family", ENDS)
def test_no_prompt_leaves_a_block_of_thoughts_open(tmp_path: Path, family: str) -> None:
    student = student_with(tmp_path, ENDS[family])
    text = text_of(student, student.encode(CHAT))
    assert text.count("<think>") == text.count("</think>") <= 1
    assert not text.rpartition("</think>")[2].strip() or "<think>" not in text, "the answer comes next"
    assert "Think." not in text, "a switch of another name is found"
    assert (family in ("lfm2.5", "granite")) == ("<think>" not in text)


def test_gemma_marks_thoughts_as_a_channel(tmp_path: Path) -> None:
    student = student_with(tmp_path, GEMMA4, ("<|channel>", "<channel|>"))
    assert text_of(student, student.encode(CHAT)).endswith("<|channel>thought\n<channel|>")
    always = student_with(tmp_path / "2", GEMMA4.replace("<channel|>", ""), ("<|channel>", "<channel|>"))
    assert text_of(always, always.encode(CHAT)).endswith("thought\n<channel|>\n\n")


def test_a_message_about_thinking_opens_nothing(tmp_path: Path) -> None:
    student = student_with(tmp_path, ENDS["lfm2.5"])
    prompt = student.encode((("user", "What does <think> mean?"),))
    mark = student._tokenizer.think_start_id
    assert text_of(student, prompt).count("</think>") == 0 and mark not in prompt


def answer(student: Student, wish: int, *, lookup: int) -> list[int]:
    """The tokens of free text from a model that wants to write one token and nothing else."""
    logits = student.logits

    def wishing(hidden: mx.array) -> mx.array:
        found = logits(hidden)
        return mx.where(mx.arange(found.shape[-1]) == wish, mx.array(1e4), found)

    student.logits = wishing  # type: ignore[method-assign]
    batch = DecodingBatch(student, ExpertTable(student.model, {}), 1)
    row = DecodingSequence(student, None, student.encode(CHAT), guide=None, max_tokens=12, lookup=lookup)
    batch.add(row)
    while batch.is_busy:
        batch.step()
    return row.tokens


@pytest.mark.parametrize("lookup", [0, 8])
@pytest.mark.parametrize("family", ["qwen3", "lfm2.5"])
def test_a_model_that_wants_to_think_answers_instead(tmp_path: Path, family: str, lookup: int) -> None:
    student = student_with(tmp_path, ENDS[family])
    mark = student._tokenizer.think_start_id
    tokens = answer(student, mark, lookup=lookup)
    assert len(tokens) == 12 and mark not in tokens and "<think>" not in student.decode(tokens)


def test_a_model_that_does_not_think_is_left_alone(tiny_student: Path) -> None:
    student = load_student(tiny_student)
    assert student.thinking is None
    row = DecodingSequence(student, None, student.encode(CHAT), guide=None, max_tokens=4)
    assert row.masks() is None
