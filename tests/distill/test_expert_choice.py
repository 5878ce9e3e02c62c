"""Which of two experts is better, and the way back to the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlora_mlx.distill.expert_judging import Judgement
from memlora_mlx.distill.expert_rollback import keep_previous, restore_previous
from memlora_mlx.errors import UsageError


def expert(place: Path, words: str) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / "adapter_config.json").write_text(words)


def test_better_means_worse_on_neither_set() -> None:
    assert Judgement("the base model", (1.0, 0.5), 12).is_better
    assert not Judgement("the base model", (1.0, 1.0), 12).is_better, "nothing learned"
    assert Judgement("the expert in use", (1.0, 1.0), 12, (0.9, 0.2), 3).is_better
    worse = Judgement("the expert in use", (1.0, 1.2), 12, (0.9, 0.2), 3)
    assert not worse.is_better
    assert worse.as_text() == (
        "Not better than the expert in use. Loss on held-out rows (12): 1.000 → 1.200, worse; "
        "on your corrections (3): 0.900 → 0.200, better."
    )


def test_one_goes_back_to_the_expert_before_and_comes_back(tmp_path: Path) -> None:
    place = tmp_path / "adapters" / "tiny" / "update"
    with pytest.raises(UsageError, match="nothing to go back to"):
        restore_previous("tiny", "update", tmp_path)
    expert(place, "old")
    keep_previous(place)
    expert(place, "new")
    restore_previous("tiny", "update", tmp_path)
    assert (place / "adapter_config.json").read_text() == "old"
    restore_previous("tiny", "update", tmp_path)
    assert (place / "adapter_config.json").read_text() == "new"


def test_before_the_first_installation_there_was_none(tmp_path: Path) -> None:
    place = tmp_path / "adapters" / "tiny" / "update"
    keep_previous(place)
    expert(place, "new")
    assert "came with memlora" in restore_previous("tiny", "update", tmp_path)
    assert not place.exists()
    restore_previous("tiny", "update", tmp_path)
    assert (place / "adapter_config.json").read_text() == "new"
