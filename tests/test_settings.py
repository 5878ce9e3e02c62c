"""Settings: where they come from, who wins, and what they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlora_mlx.errors import UsageError
from memlora_mlx.settings import Settings, default_home, load_settings


def test_flags_win_over_the_environment_over_the_file_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('student = "file"\nuser = "file"\nlimit = 3\n')
    environ = {"MEMLORA_HOME": str(tmp_path), "MEMLORA_USER": "environ", "MEMLORA_STUDENT": "environ"}
    settings = load_settings({"student": "flag", "user": None}, environ)
    assert (settings.student, settings.user, settings.limit) == ("flag", "environ", 3)
    assert settings.embedder == Settings().embedder
    assert (settings.models_folder, settings.store_folder) == (tmp_path / "models", tmp_path / "store")


def test_the_home_is_a_flag_a_variable_or_the_systems_own_place(tmp_path: Path) -> None:
    assert load_settings({"home": tmp_path / "flag"}, {"MEMLORA_HOME": str(tmp_path)}).home == tmp_path / "flag"
    assert load_settings({}, {"MEMLORA_HOME": ""}).home == default_home()
    assert load_settings({}, {"MEMLORA_HOME": "~/memories"}).home == Path.home() / "memories"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("LIMIT", "12", 12),
        ("QUERY_PROMPT", "no", False),
        ("QUERY_PROMPT", "True", True),
        ("EXPERT_MODE", "fused", "fused"),
        ("PROTOCOL", "paper", "paper"),
        ("STUDENT", "", None),
        ("USER", "", "me"),
        ("EMBEDDER", "", "all-minilm-l6-v2"),
    ],
)
def test_the_environment_gives_text(name: str, text: str, value: object) -> None:
    settings = load_settings({}, {"MEMLORA_HOME": "/nowhere", f"MEMLORA_{name}": text})
    assert getattr(settings, name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text", "takes"),
    [
        ("limit", "0", "a whole number above 0"),
        ("limit", "-3", "a whole number above 0"),
        ("limit", "3.5", "a whole number above 0"),
        ("related", "many", "a whole number above 0"),
        ("query_prompt", "perhaps", "true or false"),
        ("expert_mode", "fast", "swap or fused"),
        ("protocol", "Paper", "product or paper"),
        ("user", "  ", "text"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_its_place(name: str, text: str, takes: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_settings({}, {"MEMLORA_HOME": "/nowhere", f"MEMLORA_{name.upper()}": text})
    assert str(caught.value) == f"the environment: {name} cannot be {text!r}; it takes {takes}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("studnet = 'x'", "unknown setting 'studnet'; known are"),
        ("limit = true", "limit cannot be True"),
        ("limit = [3]", "limit cannot be"),
        ("student = 3", "student cannot be 3"),
        ("[student]\nname = 'x'", "student cannot be"),
        ("home = '/elsewhere'", "set it by --home or MEMLORA_HOME"),
        ("limit = ", "not valid TOML"),
        ("user = '\xff'", "not valid TOML"),
    ],
)
def test_a_wrong_config_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.toml").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError) as caught:
        load_settings({}, {"MEMLORA_HOME": str(tmp_path)})
    assert str(tmp_path / "config.toml") in str(caught.value) and says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_flags_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the command line: unknown setting 'colour'"):
        load_settings({"home": tmp_path, "colour": "blue"}, {})
