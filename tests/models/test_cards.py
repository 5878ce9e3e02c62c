"""Cards and manifests: old files are read, and a file of any shape is one clear line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memlora_mlx.errors import AdapterMismatch, MemloraError, ModelBroken
from memlora_mlx.models.adapter_registry import SHIPPED, experts_in, read_card
from memlora_mlx.models.cards import (
    CONFIG,
    MANIFEST,
    AdapterConfig,
    BaseModel,
    ExpertCard,
    ModelFile,
    ModelManifest,
    TrainingMetrics,
)
from memlora_mlx.models.folders import is_complete

LORA = {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": {"rank": 8, "scale": 2.0, "keys": ["a"]}}


def config_in(folder: Path, content: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(AdapterMismatch) as caught:
        AdapterConfig.read(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


def test_the_shipped_experts_of_before_are_read_and_lose_nothing_when_written_again(tmp_path: Path) -> None:
    folders = experts_in(SHIPPED / "smollm2-135m")
    assert {"extraction", "update", "generation"} <= set(folders)
    for stage, folder in folders.items():
        before = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config = AdapterConfig.read(folder)
        assert config.card.stage == stage and config.card.base is not None and config.card.version == 1
        assert config.card.base.fingerprint == before["memlora"]["base"]["fingerprint"]
        assert config.lora_parameters is not None and config.lora_parameters.scale == 2.0
        config.write(tmp_path / CONFIG)
        assert AdapterConfig.read(tmp_path) == config
        after = json.loads((tmp_path / CONFIG).read_text(encoding="utf-8"))
        assert lost(before, after) == []
    update = read_card(folders["update"])
    assert update.copied_texts and update.one_fact and update.licence is not None and "CC BY-NC" in update.licence


def lost(before: Any, after: Any, path: str = "") -> list[str]:
    """What the second has not, or has otherwise; null, false and nothing are alike."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [line for name in before for line in lost(before[name], after.get(name), f"{path}.{name}")]
    return [] if before == after or (not before and after is None) else [f"{path}: {before} {after}"]


def test_fields_of_others_are_kept_and_a_card_of_a_newer_memlora_is_refused(tmp_path: Path) -> None:
    card = {"stage": "update", "colour": "green", "base": {"name": "x", "size": 3}}
    config_in(tmp_path, {**LORA, "peft": 1, "memlora": card})
    config = AdapterConfig.read(tmp_path)
    assert config.card.other == {"colour": "green"} and config.other == {"peft": 1}
    assert config.as_json()["memlora"] == {"version": 1, **card} and config.as_json()["peft"] == 1
    assert not config.card.copied_texts and config.card.licence is None and not config.card.is_empty
    config_in(tmp_path, {**LORA, "memlora": {"version": 2}})
    assert "version 2, and this memlora reads version 1; update memlora" in refusal(tmp_path)


def test_an_expert_without_a_card_says_nothing(tmp_path: Path) -> None:
    assert read_card(config_in(tmp_path, LORA)).is_empty and ExpertCard().as_json() == {}
    assert "memlora" not in AdapterConfig.read(tmp_path).with_card(ExpertCard()).as_json()
    written = AdapterConfig.read(tmp_path).with_card(ExpertCard(base=BaseModel(name="x")))
    assert written.as_json()["memlora"] == {"version": 1, "base": {"name": "x"}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "the file is a list, not an object"),
        ("7", "the file is 7, not an object"),
        ("null", "the file is null, not an object"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"a":' * 5_000, "cannot be read"),
        ("\udcff", "cannot be read"),
        ({"fine_tune_type": 3}, "fine_tune_type is 3, not text"),
        ({"num_layers": "all"}, "num_layers is 'all', not a whole number"),
        ({"num_layers": True}, "num_layers is true, not a whole number"),
        ({"lora_parameters": [2.0]}, "lora_parameters is a list, not an object"),
        ({"lora_parameters": {}}, "lora_parameters.scale is missing"),
        ({"lora_parameters": {"scale": "2"}}, "lora_parameters.scale is '2', not a number"),
        ('{"lora_parameters": {"scale": NaN}}', "lora_parameters.scale is nan, not a finite number"),
        ('{"lora_parameters": {"scale": 1e999}}', "lora_parameters.scale is inf, not a finite number"),
        ('{"lora_parameters": {"scale": 1' + "0" * 400 + "}}", "lora_parameters.scale is inf, not a finite number"),
        ({"lora_parameters": {"scale": 1, "keys": "q_proj"}}, "lora_parameters.keys is 'q_proj', not a list"),
        ({"memlora": []}, "memlora is a list, not an object"),
        ({"memlora": "x" * 300}, "memlora is 'xxx"),
        ({"memlora": {"stage": "cooking"}}, "memlora.stage is 'cooking'; it takes extraction, update"),
        ({"memlora": {"stage": ["update"]}}, "memlora.stage is a list"),
        ({"memlora": {"copied_texts": "yes"}}, "memlora.copied_texts is 'yes', not true or false"),
        ({"memlora": {"base": {"fingerprint": 3}}}, "memlora.base.fingerprint is 3, not text"),
        ({"memlora": {"metrics": {"validation_loss": {"base": "low"}}}}, "validation_loss.base is 'low', not a number"),
        ({"memlora": {"data": {"files": ["a", 3]}}}, "memlora.data.files[1] is 3, not text"),
        ({"memlora": {"start": {"base": 3}}}, "memlora.start.base is 3, not an object"),
        ({"memlora": {"version": "one"}}, "memlora.version is 'one', not a whole number"),
    ],
)
def test_a_card_of_another_shape_is_one_clear_line(tmp_path: Path, content: object, words: str) -> None:
    if content == "\udcff":
        config_in(tmp_path, "").joinpath(CONFIG).write_bytes(b"\xff\xfe{}")
    else:
        config_in(tmp_path, content)
    assert words in refusal(tmp_path)


NAMES = st.sampled_from(
    ["memlora", "stage", "base", "name", "fingerprint", "data", "files", "teachers", "metrics", "validation_loss"]
    + ["start", "recipe", "lora_parameters", "scale", "rank", "keys", "version", "path", "bytes", "sha256", "other"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=JSON)
def test_any_json_is_a_card_and_a_manifest_or_one_line(tmp_path: Path, content: object) -> None:
    config_in(tmp_path, content)
    (tmp_path / MANIFEST).write_text(json.dumps(content), encoding="utf-8")
    for read in (AdapterConfig.read, ModelManifest.read):
        try:
            read(tmp_path)
        except MemloraError as error:
            assert "\n" not in str(error)


def test_a_manifest_is_written_and_read_and_sizes_decide(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"12345")
    manifest = ModelManifest(name="x", repository="o/x", files=(ModelFile(path="a.bin", bytes=5),))
    manifest.write(tmp_path)
    assert ModelManifest.read(tmp_path) == manifest and is_complete("x", tmp_path)
    replace(manifest, files=(ModelFile(path="a.bin", bytes=6),)).write(tmp_path)
    assert not is_complete("x", tmp_path)
    old = {"name": "x", "repository": "o/x", "revision": "0", "files": [{"path": "a.bin", "bytes": 5}]}
    (tmp_path / MANIFEST).write_text(json.dumps(old))
    assert ModelManifest.read(tmp_path).files == manifest.files and is_complete("x", tmp_path)
    for broken in ('{"files": [3]}', '{"files": {}}', "[]", '{"files": [{"path": 3, "bytes": 1}]}', '{"version": 2}'):
        (tmp_path / MANIFEST).write_text(broken)
        with pytest.raises(ModelBroken) as caught:
            ModelManifest.read(tmp_path)
        assert "\n" not in str(caught.value) and not is_complete("x", tmp_path)


def test_the_first_loss_is_the_bases_or_that_of_the_start() -> None:
    assert TrainingMetrics(validation_loss={"base": 2.0, "expert": 1.0}).first_loss == 2.0
    assert TrainingMetrics(validation_loss={"start": 1.5}).first_loss == 1.5
    assert TrainingMetrics().first_loss is None
