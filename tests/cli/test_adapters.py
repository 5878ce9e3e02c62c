"""`memlora adapters`: experts found, checked, installed before the shipped ones, and handed on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import ALL_LINEAR, expert_folder, model

from memlora_mlx.distill import adapter_operations, training_runs
from memlora_mlx.distill.examples import TrainingExample, write_examples
from memlora_mlx.distill.recipes import Recipe
from memlora_mlx.memory.workspace import Workspace
from memlora_mlx.models import adapter_registry
from memlora_mlx.models.experts import weight_fingerprint
from memlora_mlx.models.loading import load_student
from memlora_mlx.settings import load_settings

Command = Callable[..., tuple[int, str, str]]
RECIPE = Recipe("extraction", ("self_attn.q_proj",), learning_rate=5e-3, batch_size=4, epochs=1, validations=1)


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shipped"
    monkeypatch.setattr(adapter_registry, "SHIPPED", folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Path:
    """A home with teacher data, and a run that was made from it."""
    home = tmp_path_factory.mktemp("home")
    rows = [
        TrainingExample(
            "extraction", (("user", f"Ann likes tea {i}"),), '{"facts": ["Ann likes tea"]}', "synthetic", f"l{i}", "", s
        )
        for i, s in enumerate(["train"] * 12 + ["validation"] * 4)
    ]
    data = home / "teacher" / "extraction" / "synthetic.jsonl"
    write_examples(data, rows)  # type: ignore[arg-type]
    order = training_runs.TrainingConfig("extraction", str(tiny_student), (str(data),), RECIPE)
    training_runs.create_run(order, home / "runs" / "one")
    training_runs.train(load_student(tiny_student), order, home / "runs" / "one", command="memlora train")
    return home


@pytest.fixture
def run(trained: Path, tiny_home: Path) -> Path:
    shutil.copytree(trained, tiny_home, dirs_exist_ok=True)
    return tiny_home / "runs" / "one"


def one_line(done: tuple[int, str, str], code: int, *parts: str) -> None:
    assert done[0] == code, done
    assert done[2].startswith("memlora: ") and done[2].count("\n") == 1
    for part in parts:
        assert part in done[2]


def used(**flags: object) -> dict[str, Path]:
    with Workspace(load_settings(flags)) as workspace:
        return dict(workspace.expert_folders)


# Which expert a stage gets


def test_installed_experts_go_before_shipped_ones_stage_by_stage(tiny_home: Path, shipped: Path) -> None:
    base, _ = model()
    assert used() == {}
    for stage in ("extraction", "update"):
        expert_folder(shipped / "tiny-llama" / stage, base)
    mine = expert_folder(tiny_home / "adapters" / "tiny-llama" / "update", base, seed=2)
    generation = expert_folder(tiny_home / "adapters" / "tiny-llama" / "generation", base, ALL_LINEAR, seed=3)
    expert_folder(tiny_home / "adapters" / "another" / "vqa", base)
    expected = {"extraction": shipped / "tiny-llama" / "extraction", "update": mine, "generation": generation}
    assert used() == expected
    with Workspace(load_settings()) as workspace:
        experts = workspace.engine.experts.experts
        assert {stage: expert.folder for stage, expert in experts.items()} == expected
    assert used(experts="none") == {}
    assert used(experts=str(shipped / "tiny-llama")) == {
        s: shipped / "tiny-llama" / s for s in ("extraction", "update")
    }


def test_the_free_experts_are_used_where_they_are_asked_for(
    tiny_home: Path, shipped: Path, tmp_path: Path, run_memlora: Command
) -> None:
    (talk := tmp_path / "talk.txt").write_text("Ann: I like tea.\nBob: Me too.\n")
    one_line(run_memlora("ingest", talk, "--experts", "free"), 1, "No free experts", "tiny-llama", "none")
    base, _ = model()
    ours = expert_folder(shipped / "tiny-llama" / "update", base)
    free = expert_folder(shipped / "free" / "tiny-llama" / "update", base, seed=2)
    expert_folder(tiny_home / "adapters" / "tiny-llama" / "extraction", base, seed=3)
    assert used()["update"] == ours
    assert used(experts="free") == {"update": free}, "no other one, whose licence is not known"
    listed = json.loads(run_memlora("adapters", "list", "--json")[1])
    assert [(each["origin"], each["is_used"]) for each in listed if each["stage"] == "update"] == [
        ("free", False),
        ("shipped", True),
    ]


def test_a_single_expert_can_be_named(run: Path) -> None:
    assert used(experts=str(run / "expert")) == {"extraction": run / "expert"}


@pytest.mark.parametrize(
    ("student", "name"),
    [("smollm2-135m", "smollm2-135m"), ("org/tiny", "org--tiny"), ("{}/a/tiny-llama", "tiny-llama")],
)
def test_a_student_has_one_shelf_however_it_is_named(tmp_path: Path, student: str, name: str) -> None:
    (tmp_path / "a" / "tiny-llama").mkdir(parents=True)
    assert adapter_registry.registry_name(student.format(tmp_path), tmp_path) == name


# The commands


def test_list_shows_where_each_comes_from_and_what_it_gained(
    run: Path, shipped: Path, tiny_home: Path, run_memlora: Command
) -> None:
    assert run_memlora("adapters", "list")[:2] == (0, "")
    shutil.copytree(run / "expert", shipped / "tiny-llama" / "extraction")
    assert run_memlora("adapters", "install", run)[0] == 0
    (shipped / "tiny-llama" / "update").mkdir()
    (shipped / "tiny-llama" / "update" / "adapter_config.json").write_text("{")
    installed, ours, broken = json.loads(run_memlora("adapters", "list", "--json")[1])
    assert (installed["origin"], installed["is_used"], installed["base"]) == ("installed", True, "tiny-llama")
    assert (ours["origin"], ours["is_used"]) == ("shipped", False)
    assert installed["licence"] == "Apache-2.0 (memlora)" and installed["data"] == {"synthetic": 12}
    assert installed["validation_loss"]["expert"] < installed["validation_loss"]["base"]
    assert (broken["stage"], broken["state"], broken["base"]) == ("update", "broken", None)
    table = run_memlora("adapters", "list")[1]
    assert "(shipped)" in table and "broken" in table and " -> " in table


def test_show_prints_the_whole_card(run: Path, run_memlora: Command) -> None:
    code, out, _ = run_memlora("adapters", "show", run / "expert")
    card = json.loads((run / "expert" / "adapter_config.json").read_text())["memlora"]
    assert code == 0
    for part in (card["base"]["fingerprint"], card["data"]["hash"], card["sha256"], "learning rate: 0.005", "licence"):
        assert part in out
    told = json.loads(run_memlora("adapters", "show", run, "--json")[1])
    assert told["metrics"] == card["metrics"] and told["adapter_config"]["fine_tune_type"] == "lora"
    one_line(
        run_memlora("adapters", "show", "extraction"), 1, "has no extraction expert", "memlora train --stage extraction"
    )
    one_line(run_memlora("adapters", "show", "nonsense"), 2, "'nonsense' is neither a stage nor a folder")


def test_install_puts_it_into_use_whole(run: Path, tiny_home: Path, run_memlora: Command) -> None:
    code, out, err = run_memlora("adapters", "install", run)
    place = tiny_home / "adapters" / "tiny-llama" / "extraction"
    assert (code, out) == (0, f"{place}\n") and "from now on" in err
    assert used() == {"extraction": place}
    for name in ("adapters.safetensors", "adapter_config.json"):
        assert (place / name).read_bytes() == (run / "expert" / name).read_bytes()
    base, _ = model()
    other = expert_folder(run.parent / "other", base, card={"stage": "extraction"})
    assert run_memlora("adapters", "install", other)[0] == 0
    assert (place / "adapters.safetensors").read_bytes() == (other / "adapters.safetensors").read_bytes()
    assert [path.name for path in place.parent.iterdir()] == ["extraction"], "nothing is left beside it"
    assert run_memlora("adapters", "install", place)[0] == 0, "what is there already stays there"
    assert (place / "adapters.safetensors").is_file()
    found = run_memlora("doctor")[1]
    assert "extraction expert" in found


def test_install_refuses_what_does_not_belong(run: Path, tiny_home: Path, tmp_path: Path, run_memlora: Command) -> None:
    base, _ = model()
    card: dict[str, Any] = {"stage": "update", "base": {"name": "qwen2.5-0.5b", "fingerprint": "0123456789abcdef"}}
    other = expert_folder(tmp_path / "other", base, card=card)
    one_line(run_memlora("adapters", "install", other), 1, "qwen2.5-0.5b", "tiny-llama", "--student")

    bare = expert_folder(tmp_path / "bare", base)
    one_line(run_memlora("adapters", "install", bare), 2, "does not say its stage", "--stage")
    one_line(run_memlora("adapters", "install", bare, "--stage", "everything"), 2, "Unknown stage 'everything'")
    assert run_memlora("adapters", "install", bare, "--stage", "update")[0] == 0
    one_line(run_memlora("adapters", "install", run, "--stage", "update"), 2, "is for extraction, not for update")
    one_line(run_memlora("adapters", "install", tmp_path / "nowhere"), 1, "there is no expert in")

    from tiny_models import mx

    wide = expert_folder(tmp_path / "wide", base) / "adapters.safetensors"
    mx.save_safetensors(str(wide), {n: mx.concatenate([a, a]) for n, a in mx.load(str(wide)).items()})
    one_line(run_memlora("adapters", "install", wide.parent, "--stage", "generation"), 1, "another base model")

    damage(run / "expert" / "adapters.safetensors")
    one_line(run_memlora("adapters", "install", run), 1, "damaged", "sha256")
    assert used() == {"update": tiny_home / "adapters" / "tiny-llama" / "update"}


def damage(path: Path) -> None:
    """Change one bit of a weight."""
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)


def test_a_failed_install_leaves_what_was_there(
    run: Path, tiny_home: Path, run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_memlora("adapters", "install", run)[0] == 0
    place = tiny_home / "adapters" / "tiny-llama" / "extraction"
    before = {path.name: path.read_bytes() for path in place.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(adapter_operations.shutil, "copyfile", full)
    base, _ = model()
    other = expert_folder(run.parent / "other", base, card={"stage": "extraction"})
    one_line(run_memlora("adapters", "install", other), 2, "No space left on device", "was not changed")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert [path.name for path in place.parent.iterdir()] == ["extraction"]


def test_verify_measures_what_the_card_says(run: Path, tiny_home: Path, run_memlora: Command) -> None:
    assert run_memlora("adapters", "install", run)[0] == 0
    code, out, _ = run_memlora("adapters", "verify")
    assert code == 0 and out.count("  ok       ") == 4 and "PROBLEM" not in out
    assert "4 examples" in out and "fingerprint" in out

    place = tiny_home / "adapters" / "tiny-llama" / "extraction"
    config = json.loads((place / "adapter_config.json").read_text())
    config["memlora"]["metrics"]["validation_loss"]["expert"] *= 0.9
    (place / "adapter_config.json").write_text(json.dumps(config))
    code, out, _ = run_memlora("adapters", "verify", "extraction")
    assert code == 1 and out.count("PROBLEM") == 1 and "validation loss, expert" in out

    damage(place / "adapters.safetensors")
    code, out, _ = run_memlora("adapters", "verify")
    assert code == 1 and "PROBLEM  files: " in out
    (place / "adapters.safetensors").unlink()
    assert "is missing" in run_memlora("adapters", "verify")[1]
    one_line(run_memlora("adapters", "verify", "update"), 1, "has no update expert")


def test_verify_says_what_it_could_not_measure(
    run: Path, tiny_home: Path, tmp_path: Path, run_memlora: Command
) -> None:
    data = tiny_home / "teacher" / "extraction" / "synthetic.jsonl"
    moved = data.rename(tmp_path / "moved.jsonl")
    code, out, _ = run_memlora("adapters", "verify", run)
    assert code == 0 and "note     validation loss: not measured: Cannot read" in out
    code, out, _ = run_memlora("adapters", "verify", run, "--data", moved)
    assert code == 0 and "validation loss, expert" in out
    lines = moved.read_text().splitlines()
    moved.write_text("\n".join(lines[:-1]))
    code, found, _ = run_memlora("adapters", "verify", run, "--data", moved, "--json")
    [says] = [row["says"] for row in json.loads(found) if row["what"] == "validation loss"]
    assert code == 0 and "is not that of the card" in says

    base, _ = model()
    bare = expert_folder(tmp_path / "bare", base)
    code, out, _ = run_memlora("adapters", "verify", bare, "--stage", "update")
    assert (
        code == 0
        and "the card does not say what it was trained on" in out
        and "not measured: the card does not say" in out
    )
    card = {"stage": "update", "base": {"name": "other", "fingerprint": "0" * 16}}
    code, out, _ = run_memlora("adapters", "verify", expert_folder(tmp_path / "other", base, card=card))
    assert code == 1 and "PROBLEM  base: " in out and "trained on other" in out


def test_verify_leaves_the_student_as_it_was(run: Path, tiny_student: Path, tiny_home: Path) -> None:
    student = load_student(tiny_student)
    projection = student.model.layers[0].self_attn.q_proj
    findings = adapter_operations.verify_expert(run / "expert", student, tiny_home)
    assert [finding.is_right for finding in findings] == [True] * 4
    assert (
        student.model.layers[0].self_attn.q_proj is projection
        and weight_fingerprint(student.model) == student.fingerprint
    )


def test_export_is_what_mlx_lm_takes(run: Path, tmp_path: Path, tiny_student: Path, run_memlora: Command) -> None:
    assert run_memlora("adapters", "install", run)[0] == 0
    code, out, err = run_memlora("adapters", "export", "extraction", tmp_path / "out")
    assert (code, out) == (0, f"{tmp_path / 'out'}\n")
    assert err == f"mlx_lm.generate --model {tiny_student} --adapter-path {tmp_path / 'out'}\n"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"adapters.safetensors", "adapter_config.json"}

    from mlx_lm import generate, load
    from tiny_models import mx

    base, tokenizer = load(str(tiny_student))
    adapted, _ = load(str(tiny_student), adapter_path=str(tmp_path / "out"))
    assert generate(adapted, tokenizer, "Ann likes", max_tokens=4)
    tokens = mx.array([[5, 17, 300]])
    assert not mx.allclose(adapted(tokens), base(tokens), atol=1e-3)
    one_line(run_memlora("adapters", "export", "extraction", tmp_path / "out"), 2, "already exists")
    one_line(run_memlora("adapters", "export", "vqa", tmp_path / "new"), 1, "has no vqa expert")
    assert not (tmp_path / "new").exists()
