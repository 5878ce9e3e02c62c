"""The help of every command: full sentences, meaningful value names, and at least one example that parses."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup, TyperOption

from memlora_mlx import Memory
from memlora_mlx.cli.app import COMMANDS, app
from memlora_mlx.errors import UsageError

Command = Callable[..., tuple[int, str, str]]

# Words of the project's first vocabulary; docs/glossary.md has the standard terms that replaced them.
PRIVATE_WORDS = (
    r"anew|aside|at hand|at most so many|bank|barren|entrants?|eyes|fetch(?:ed|es)?|goes? on|going on|kept|leave .* (?:away|out)"
    r"|ledger|life|pictures?|rows|shelf|so many|stands?|take (?:back|in)|told|withdrawn|words"
)


def commands(group: TyperGroup, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All groups and commands below a group, with their names."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, TyperGroup):
            yield from commands(command, *path, name)


ROOT: Any = typer.main.get_command(app)
ALL = [((), ROOT), *commands(ROOT)]


@pytest.fixture(params=ALL, ids=[" ".join(path) or "memlora" for path, _ in ALL])
def command(request: pytest.FixtureRequest) -> tuple[tuple[str, ...], Any]:
    return request.param


def parameters(command: Any) -> list[Any]:
    context = command.context_class(command, info_name="memlora")
    return [parameter for parameter in command.get_params(context) if not getattr(parameter, "hidden", False)]


def test_every_option_and_argument_has_a_full_sentence(command: tuple[tuple[str, ...], Any]) -> None:
    for parameter in parameters(command[1]):
        text = parameter.help or ""
        assert re.match(r"[A-Z]", text) and text.endswith("."), f"{parameter.opts}: {text!r}"
    assert re.match(r"[A-Z]", command[1].help) and command[1].help.endswith(".")


def test_no_private_words(command: tuple[tuple[str, ...], Any]) -> None:
    texts = [command[1].help, *(parameter.help for parameter in parameters(command[1]))]
    found = [re.findall(rf"\b(?:{PRIVATE_WORDS})\b", text, re.IGNORECASE) for text in texts]
    assert not any(found), found


def test_values_have_names_and_flags_have_none(
    command: tuple[tuple[str, ...], Any], run_memlora: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = run_memlora(*command[0], "--help")
    assert (code, err) == (0, "") and not re.search(r"<(?:bool|str|int|float|path|list|file)\b", out)
    for parameter in parameters(command[1]):
        if isinstance(parameter, TyperOption) and not parameter.is_flag:
            assert parameter.metavar and re.search(rf"{parameter.opts[0]}\b.*{re.escape(parameter.metavar)}", out)


def test_every_help_has_examples_that_parse(
    command: tuple[tuple[str, ...], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    heading, *examples = (command[1].epilog or "").split("\n")
    assert "Example" in heading and examples
    for line in examples:
        program, *arguments = shlex.split(line.replace(r"\[", "[").partition(" > ")[0])
        assert program == "memlora"
        assert parsed(ROOT, arguments)[: len(command[0])] == command[0] or not command[0]


def parsed(group: Any, arguments: list[str], *path: str) -> tuple[str, ...]:
    """The command that a command line names; an error if its options are wrong. Nothing runs."""
    context = group.make_context(path[-1] if path else "memlora", list(arguments))
    rest = [*context._protected_args, *context.args]
    if not isinstance(group, TyperGroup):
        return path
    name, command, rest = group.resolve_command(context, rest)
    assert name is not None and command is not None
    return parsed(command, rest, *path, name)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("train", ("train", "all")),
        ("train --budget 2h --locomo locomo10.json", ("train", "all")),
        ("train --stage update", ("train", "run")),
        ("train --stage=update", ("train", "run")),
        ("train --resume", ("train", "resume")),
        ("train --resume runs/update-1", ("train", "resume")),
        ("train --search --locomo locomo10.json --exchanges 3", ("train", "search")),
        ("train --search --resume", ("train", "search")),
        ("train --stage update --search --resume search-1 --metric L", ("train", "search")),
        ("bench locomo10.json --split val", ("bench", "run")),
        ("bench --split val --systems base locomo10.json --conflict --vqa", ("bench", "run")),
        ("bench --vqa", ("bench", "run")),
        ("bench --conflict --questions 3", ("bench", "run")),
        ("bench --mine", ("bench", "run")),
        ("bench run locomo10.json --ablation --scales --efficiency", ("bench", "run")),
        ("bench report folder", ("bench", "report")),
        ("bench vqa folder", ("bench", "vqa")),
    ],
)
def test_the_short_and_the_older_spellings_name_a_command(line: str, names: tuple[str, ...]) -> None:
    assert parsed(ROOT, line.split()) == names


def test_a_search_is_continued_only_if_that_is_asked(run_memlora: Command) -> None:
    code, out, err = run_memlora("train", "search", "search-1")
    assert (code, out) == (2, "") and "Use --resume search-1 to continue a search" in err


def test_commands_are_sorted_by_what_they_are_for(run_memlora: Command) -> None:
    assert set(ROOT.commands) == {name for names in COMMANDS.values() for name in names}
    out = run_memlora("--help")[1]
    places = [out.index(f"─ {panel} ─") for panel in COMMANDS]
    assert places == sorted(places)


@pytest.mark.parametrize("count", [0, -1, True, 2.5])
def test_the_number_of_memories_is_above_0(tiny_home: object, count: Any) -> None:
    with Memory() as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
        for name in ("top_k", "limit"):
            number = {name: count}
            for call in (memory.search, memory.ask):
                with pytest.raises(UsageError, match=f"{name} must be a whole number above 0"):
                    call("tea?", user_id="ann", **number)
            with pytest.raises(UsageError, match=f"{name} must be a whole number above 0"):
                memory.get_all(user_id="ann", **number)
