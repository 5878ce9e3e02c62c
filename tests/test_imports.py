"""The rooms stay apart: which may import which, and what may be loaded when."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import grimp
import pytest
from cli_home import environment

from memlora_mlx import Memory

ROOT = "memlora_mlx"
ROOMS = (
    "cli",
    "tui",
    "serve",
    "eval",
    "memory",
    "distill",
    "models",
    "conversations",
    "temporal",
    "records",
    "text",
    "files",
    "json_lines",
    "streaming",
    "extras",
    "errors",
    "settings",
)


@pytest.fixture(scope="module")
def module_graph() -> grimp.ImportGraph:
    return grimp.build_graph(ROOT, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None)


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def importers_of(module_graph: grimp.ImportGraph, *targets: str) -> set[str]:
    """The rooms that import any of the modules, by name and directly."""
    found = set()
    for target in targets:
        if target not in module_graph.modules:
            continue
        found |= {package_of(name) for name in module_graph.find_modules_that_directly_import(target)}
    return found


def packages_below(module_graph: grimp.ImportGraph, name: str) -> list[str]:
    return [module for module in module_graph.modules if module == name or module.startswith(f"{name}.")]


def test_only_the_rooms_by_the_metal_know_mlx(module_graph: grimp.ImportGraph) -> None:
    """Loading `models` is lazy in `memory`, so a direct import is what counts here; the next tests see what loads."""
    users = importers_of(module_graph, "mlx", "mlx_lm", "mlx_vlm", "transformers", "llguidance", "tokenizers", "torch")
    assert f"{ROOT}.models" in users
    assert users <= {f"{ROOT}.{name}" for name in ("models", "distill", "eval")}


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("models", ("memory", "cli", "tui", "serve", "eval", "distill", "conversations")),
        ("memory", ("cli", "tui", "serve", "eval", "distill")),
        ("serve", ("cli", "tui", "eval", "distill", "models")),
        ("distill", ("cli", "tui", "serve", "eval")),
        ("eval", ("cli", "tui", "serve")),
        ("tui", ("cli",)),
        ("temporal", tuple(set(ROOMS) - {"temporal"})),
        ("records", tuple(set(ROOMS) - {"records"})),
        ("text", tuple(set(ROOMS) - {"text"})),
        ("files", tuple(set(ROOMS) - {"files"})),
        ("json_lines", tuple(set(ROOMS) - {"json_lines"})),
        ("streaming", tuple(set(ROOMS) - {"streaming"})),
        ("extras", tuple(set(ROOMS) - {"extras", "errors"})),
        ("errors", tuple(set(ROOMS) - {"errors"})),
        ("settings", tuple(set(ROOMS) - {"settings", "errors"})),
        ("conversations", ("cli", "tui", "serve", "eval", "distill", "memory", "models")),
    ],
)
def test_imports_point_down(module_graph: grimp.ImportGraph, name: str, others: tuple[str, ...]) -> None:
    wrong = [
        f"{module} imports {imported}"
        for module in packages_below(module_graph, f"{ROOT}.{name}")
        for imported in module_graph.find_modules_directly_imported_by(module)
        if package_of(imported) in {f"{ROOT}.{other}" for other in others}
    ]
    assert wrong == []


FLOOR = ("memory.pipeline", "memory.ingest", "memory.visual_questions", "memory.chat", "memory.workspace", "memory.api")
FLOOR += ("memory.editing", "memory.corrections", "memory.scheduling", "memory.results", "memory.mem0_format")
FLOOR += ("memory.evidence", "memory.answering", "memory.pipeline_options")
BENCHMARKS = ("eval.locomo", "eval.conflict", "eval.vqa", "eval.experts", "eval.bench")


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("memory.stages", (*FLOOR, "memory.store", "memory.retrieval", "memory.search")),
        ("memory.retrieval", (*FLOOR, "memory.store", "memory.search", "memory.stages")),
        ("memory.store", (*FLOOR, "memory.search", "memory.stages")),
        ("memory.search", (*FLOOR, "memory.stages")),
        ("eval.metrics", (*BENCHMARKS, "eval.systems", "eval.report")),
        ("eval.systems", (*BENCHMARKS, "eval.metrics", "eval.report")),
        ("eval.locomo", ("eval.conflict", "eval.vqa", "eval.experts", "eval.report", "eval.bench")),
        ("eval.conflict", ("eval.locomo", "eval.vqa", "eval.experts", "eval.report", "eval.bench")),
        ("eval.vqa", ("eval.locomo", "eval.conflict", "eval.experts", "eval.report", "eval.bench")),
        ("eval.experts", ("eval.conflict", "eval.vqa", "eval.report", "eval.bench")),
        ("eval.report", ("eval.systems", "eval.conflict", "eval.vqa", "eval.experts", "eval.bench")),
    ],
)
def test_rooms_within_rooms_point_down_too(module_graph: grimp.ImportGraph, name: str, others: tuple[str, ...]) -> None:
    barred = {module for other in others for module in packages_below(module_graph, f"{ROOT}.{other}")}
    inside = packages_below(module_graph, f"{ROOT}.{name}")
    wrong = [
        f"{module} imports {imported}"
        for module in inside
        for imported in module_graph.find_modules_directly_imported_by(module) & barred
    ]
    assert inside and barred and wrong == []


def test_no_two_modules_import_each_other() -> None:
    """Neither directly nor through others, and imports that only a type checker follows count too."""
    graph = grimp.build_graph(ROOT, cache_dir=None)
    circles = [
        f"{module} imports {imported}, which leads back: {' -> '.join(back)}"
        for module in sorted(graph.modules)
        for imported in sorted(graph.find_modules_directly_imported_by(module))
        if (back := graph.find_shortest_chain(imported, module))
    ]
    assert len(graph.modules) > 200 and circles == []


def test_memory_imports_the_models_only_in_its_workspace_and_front_door() -> None:
    graph = grimp.build_graph(ROOT, cache_dir=None)
    users = {
        module
        for module in graph.modules
        if module.startswith(f"{ROOT}.memory")
        and any(other.startswith(f"{ROOT}.models") for other in graph.find_modules_directly_imported_by(module))
    }
    assert users == {f"{ROOT}.memory.workspace", f"{ROOT}.memory.api"}


def test_nobody_imports_the_laboratory(module_graph: grimp.ImportGraph) -> None:
    assert importers_of(module_graph, "benchmarks") == set()


def test_nobody_imports_the_command_line(module_graph: grimp.ImportGraph) -> None:
    users = importers_of(module_graph, *packages_below(module_graph, f"{ROOT}.cli"))
    assert users <= {f"{ROOT}.cli", f"{ROOT}.__main__"}
    assert importers_of(module_graph, *packages_below(module_graph, f"{ROOT}.tui")) <= {f"{ROOT}.cli", f"{ROOT}.tui"}


SLOW = {"mlx", "mlx_lm", "transformers", "textual", "numpy", "huggingface_hub", "usearch", "tokenizers", "llguidance"}
SLOW |= {"matplotlib", "plotext", "openai", "nltk", "yaml", "mcp", "starlette", "uvicorn", "tomlkit", "pydantic"}


def loaded_modules(environ: dict[str, str], *arguments: str) -> set[str]:
    """The top-level packages that a command imports."""
    command = [sys.executable, "-X", "importtime", "-m", ROOT, *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return {name.strip().split(".")[0] for name in re.findall(r"^import time:.*\|(.*)$", done.stderr, re.MULTILINE)}


def test_help_loads_nothing_slow(tmp_path: Path) -> None:
    environ = environment(tmp_path, tmp_path, tmp_path)
    for arguments in (
        ["--help"],
        ["ask", "--help"],
        ["train", "--help"],
        ["adapters", "--help"],
        ["serve", "--help"],
        ["--version"],
    ):
        names = loaded_modules(environ, *arguments)
        assert "typer" in names and names & SLOW == set()


def test_looking_at_memories_loads_no_model_library(tiny_home: Path, tiny_student: Path, tiny_embedder: Path) -> None:
    with Memory() as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
    names = loaded_modules(environment(tiny_home, tiny_student, tiny_embedder), "memory", "list")
    assert names & (SLOW - {"numpy"}) == set()


def test_searching_memories_loads_neither_transformers_nor_the_student(
    tiny_home: Path, tiny_student: Path, tiny_embedder: Path
) -> None:
    with Memory() as memory:
        memory.add("Ann likes tea", user_id="ann", infer=False)
    names = loaded_modules(environment(tiny_home, tiny_student, tiny_embedder), "memory", "search", "tea")
    assert "mlx" in names and names & {"mlx_lm", "transformers", "torch", "textual", "huggingface_hub"} == set()


def test_importing_the_package_loads_nothing_slow() -> None:
    script = "import sys, memlora_mlx; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & SLOW == set()


def test_the_version_loads_no_command() -> None:
    script = (
        "import atexit, sys; from memlora_mlx.cli import main; atexit.register(lambda: print(*sys.modules)); main()"
    )
    done = subprocess.run([sys.executable, "-c", script, "--version"], capture_output=True, text=True, check=True)
    names = {name.removeprefix(f"{ROOT}.cli.") for name in done.stdout.split() if name.startswith(f"{ROOT}.cli.")}
    assert names == {"app", "help", "printing"}


# What the first frame needs of memlora. A module that is added here costs every start of the app its time, with all that it
# imports; most can be imported in the function that uses them.
FIRST_FRAME = {"cli", "errors", "extras", "json_lines", "private_files", "settings", "text", "tui"}
FIRST_FRAME |= {f"cli.{name}" for name in ("app", "chat", "console", "help", "options", "printing")}
FIRST_FRAME |= {
    f"tui.{name}"
    for name in (
        *("app", "backend", "base_app", "chat_controller", "commands", "conversation_queries", "memory_editor"),
        *("screens", "stylesheet", "terminal_images", "themes", "times", "unsaved", "widgets"),
        *("screens.base", "screens.chat", "screens.chat_conversation"),
        *("screens.conversation_keys", "screens.exchange_keys", "screens.panel_keys"),
        *("widgets.attachment", "widgets.exchange", "widgets.footer", "widgets.memory_item", "widgets.memory_panel"),
        *("widgets.navigation", "widgets.new_text", "widgets.prompt", "widgets.status"),
    )
}
START = f"""
import sys
from pathlib import Path
from {ROOT}.cli import main
from {ROOT}.tui.screens.chat import ChatScreen

def note(screen):
    Path(sys.argv[1]).write_text(" ".join(sys.modules))
    screen.app.exit()

ChatScreen.open_first_conversation = note  # what the app does first when the first frame is there
main(["chat"])
"""


def test_the_first_frame_of_the_app_needs_nothing_slow(tmp_path: Path) -> None:
    """The real command in a terminal of its own, until the first frame is there."""
    environ = environment(tmp_path, tmp_path, tmp_path) | {"TERM": "xterm-256color"}
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 110, 0, 0))
    command = [sys.executable, "-c", START, str(tmp_path / "modules")]
    with subprocess.Popen(command, env=environ, stdin=terminal, stdout=terminal, stderr=terminal) as app:
        os.close(terminal)
        with contextlib.suppress(OSError):  # how Linux reports that the program has closed its terminal
            while os.read(screen, 65536):
                pass
    os.close(screen)
    names = set((tmp_path / "modules").read_text().split())
    own = {name.removeprefix(f"{ROOT}.") for name in names if name.startswith(f"{ROOT}.")}
    assert app.returncode == 0 and "tui.screens.chat" in own and own - FIRST_FRAME == set()
    tops = {name.partition(".")[0] for name in names}
    assert "textual" in tops and tops & ((SLOW - {"textual"}) | {"markdown_it", "pygments", "PIL", "sqlite3"}) == set()
    assert names & {f"textual.widgets._{name}" for name in ("markdown", "data_table", "progress_bar")} == set()
