"""`memlora doctor`: is everything in order, and if not, what to do."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from memlora_mlx.cli.options import AsJson, Experts, Student, print_json, workspace

if TYPE_CHECKING:
    from memlora_mlx.memory.workspace import Workspace

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check-up."""

    what: str
    state: State
    says: str


def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Mend the store: rebuild the index, embed again.")] = False,
    student: Student = None,
    experts: Experts = None,
    as_json: AsJson = False,
) -> None:
    """Check device, libraries, models, experts, store and index; exit code 1 if something is wrong."""
    with workspace(models=False, student=student, experts=experts) as opened:
        findings: list[Finding] = []
        for check in (_machine, _libraries, _student, _embedder, _store):
            for finding in _guarded(check, opened, repair):
                findings.append(finding)
                if not as_json:
                    mark = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}[finding.state]
                    typer.echo(f"{mark}  {finding.what}: {finding.says}")
    if as_json:
        print_json([{"what": f.what, "state": f.state, "says": f.says} for f in findings])
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def _guarded(
    check: Callable[[Workspace, bool], Iterator[Finding]], opened: Workspace, repair: bool
) -> Iterator[Finding]:
    from memlora_mlx.errors import MemloraError

    try:
        yield from check(opened, repair)
    except MemloraError as error:
        yield Finding(check.__name__.lstrip("_"), "problem", str(error))


def _machine(opened: Workspace, repair: bool) -> Iterator[Finding]:
    from memlora_mlx.models import device

    yield Finding(
        "machine", "ok", f"{platform.platform()}, Python {platform.python_version()}, {device.describe_device()}"
    )
    status = device.blas_status()
    yield Finding("blas", "problem" if "reference" in status else "ok", status)


def _libraries(opened: Workspace, repair: bool) -> Iterator[Finding]:
    from importlib.metadata import version

    from memlora_mlx import __version__

    names = ("mlx", "mlx-lm", "llguidance", "usearch", "tokenizers")
    yield Finding("memlora", "ok", f"{__version__} with " + ", ".join(f"{name} {version(name)}" for name in names))
    yield Finding("home", "ok", str(opened.settings.home))


def _student(opened: Workspace, repair: bool) -> Iterator[Finding]:
    folder = opened.student_folder
    student = opened.engine.student
    gigabytes = student.nbytes / 1e9
    yield Finding("student", "ok", f"{student.name}, {student.family}, {gigabytes:.2f} GB resident, in {folder}")
    table = opened.engine.experts
    for stage, expert in table.experts.items():
        yield Finding(f"{stage} expert", "ok", f"{expert.nbytes / 1e6:.1f} MB, {expert.folder}")
    missing = [stage for stage in ("extraction", "update", "generation") if stage not in table.experts]
    if missing:
        yield Finding("experts", "note", f"none for {', '.join(missing)}: the base student does these stages")


def _embedder(opened: Workspace, repair: bool) -> Iterator[Finding]:
    space = opened.embedding_fingerprint
    [vector] = opened.engine.embed(["hello"])
    sound = abs(float((vector * vector).sum()) - 1.0) < 1e-3 and len(vector) == space.dim
    yield Finding("embedder", "ok" if sound else "problem", f"{opened.settings.embedder}, {space}")


def _store(opened: Workspace, repair: bool) -> Iterator[Finding]:
    from memlora_mlx.memory.store.store import Store

    folder = opened.settings.store_folder
    if not (folder / "memories.db").is_file():
        yield Finding("store", "note", f"nothing is remembered yet in {folder}")
        return
    with Store(folder, opened.embedding_fingerprint, create=False, any_embedding=True) as store:
        if repair:
            for done in store.repair(opened.engine.embed):
                yield Finding("repair", "ok", done)
        problems = store.check()
        for problem in problems:
            yield Finding("store", "problem", f"{problem}; `memlora doctor --repair` mends what can be mended")
        if not problems:
            yield Finding("store", "ok", f"{store.count()} memories of {len(store.owners())} owners in {folder}")
        if store.read_only:
            yield Finding("store", "note", "the folder cannot be written: memories can be read and asked only")
