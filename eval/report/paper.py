"""The paper's own figures, to stand beside measured ones and never among them.

Its L is by roberta-large and MiniLM, its J by gpt-oss-120b, its questions those of two test conversations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Table 1: system, L, J
TABLE_1: tuple[tuple[str, float, float], ...] = (
    ("Gemma2-27B", 38.6, 39.1),
    ("GPT-OSS-120B", 38.9, 48.9),
    ("Qwen2.5-1.5B", 30.5, 29.6),
    ("Qwen2.5-1.5B + experts (27B teacher)", 37.3, 36.9),
    ("Qwen2.5-1.5B + experts (120B teacher)", 38.4, 42.1),
    ("Gemma2-2B", 29.1, 24.9),
    ("Gemma2-2B + experts (27B teacher)", 44.5, 47.2),
    ("Gemma2-2B + experts (120B teacher)", 42.7, 44.6),
)

# By student, with experts or without: L, J (27B teacher where there are two).
QUALITY: Mapping[tuple[str, bool], tuple[float, float]] = {
    ("qwen2.5-0.5b", False): (19.5, 11.2),
    ("qwen2.5-0.5b", True): (28.1, 26.6),
    ("qwen2.5-1.5b", False): (30.5, 29.6),
    ("qwen2.5-1.5b", True): (37.3, 36.9),
    ("qwen2.5-3b", False): (39.9, 35.6),
    ("qwen2.5-3b", True): (42.3, 42.1),
    ("gemma2-2b", False): (29.1, 24.9),
    ("gemma2-2b", True): (44.5, 47.2),
}

# Table 3, on an A100: size in 2^30 bytes, tokens a second, tokens and seconds an answer.
TABLE_3: tuple[tuple[str, float, float, float, float], ...] = (
    ("Gemma2-27B", 50.71, 9.2, 97.63, 10.66),
    ("GPT-OSS-120B", 60.77, 11.4, 209.91, 22.82),
    ("Qwen2.5-1.5B", 2.88, 71.0, 54.74, 0.77),
    ("Qwen2.5-1.5B + experts", 2.92, 71.0, 45.26, 0.64),
    ("Gemma2-2B", 4.87, 47.4, 33.13, 0.70),
    ("Gemma2-2B + experts", 4.92, 47.4, 32.73, 0.69),
)

# Table 4: who extracts, updates and generates; L, J. S is Gemma2-2B, T is Gemma2-27B.
TABLE_4: tuple[tuple[str, float, float], ...] = (
    ("S/S/S", 29.1, 24.9),
    ("T/S/S", 32.7, 30.9),
    ("T/T/S", 34.7, 34.8),
    ("T/T/T", 38.6, 39.1),
    ("S+e/S/S", 32.9, 32.2),
    ("S+e/S+e/S", 35.1, 35.6),
    ("S+e/S+e/S+e", 44.5, 47.2),
)

# Tables 2 and E8: V of the questions about images. The first two are told BLIP's captions.
TABLE_2_V: tuple[tuple[str, float], ...] = (
    ("Gemma2-27B, captions", 23.7),
    ("GPT-OSS-120B, captions", 22.0),
    ("InternVL3-1B", 50.0),
    ("InternVL3-1B + experts", 69.4),
    ("InternVL3-2B", 70.8),
    ("InternVL3-2B + experts", 81.3),
    ("InternVL3-8B", 74.0),
    ("InternVL3-38B", 87.8),
    ("InternVL3-78B", 92.0),
)

# Tables A6 and A7: tokens in and out of a call.
INPUT_TOKENS: Mapping[str, tuple[float, float]] = {"extraction": (756.94, 102.94), "update": (1734.62, 172.56)}
OUTPUT_TOKENS: tuple[tuple[str, float, float], ...] = (
    ("GPT-OSS-120B", 289.25, 167.0),
    ("Gemma2-27B", 30.94, 238.71),
    ("Gemma2-2B", 20.75, 87.35),
    ("Qwen2.5-1.5B", 46.62, 131.94),
    ("MemLoRA, Gemma2-2B", 30.25, 54.75),
    ("MemLoRA, Qwen2.5-1.5B", 32.25, 79.31),
)

EXPERT = " + expert"

_STUDENT = re.compile(r"(gemma)-?(2)-(2b)|(qwen2\.5)-(0\.5b|1\.5b|3b)", re.IGNORECASE)


def student(name: str) -> str | None:
    """The paper's student that a name or a folder means, in the catalogue's spelling; quantised ones are others."""
    found = _STUDENT.search(name)
    if not found or re.search(r"[2-8]-?bit|int[48]|gguf", name, re.IGNORECASE):
        return None
    return "gemma2-2b" if found[1] else f"{found[4]}-{found[5]}".lower()


def ablation_row(stages: Mapping[str, str], student: str) -> str:
    """The row of Table 4 that answers to who does what here.

    Args:
        stages: by stage, a student's name, followed by " + expert" where it has one.
        student: the one that stands where the paper has Gemma2-2B.
    """
    letters = []
    for stage in ("extraction", "update", "generation"):
        name = stages.get(stage, "")
        letters.append(("S" if name.removesuffix(EXPERT) == student else "T") + "+e" * name.endswith(EXPERT))
    return "/".join(letters)
