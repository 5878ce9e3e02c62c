"""`memlora doctor`: check the installation and say how to repair what is wrong."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from memlora_mlx.cli.console import open_workspace, print_json
from memlora_mlx.cli.options import ExpertsOption, JsonOption, StudentOption

if TYPE_CHECKING:
    from memlora_mlx.memory.store.store import Store
    from memlora_mlx.memory.workspace import Workspace
    from memlora_mlx.settings import Settings

CheckState = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the check-up.

    Attributes:
        is_locked: the check ended because the store's key cannot be had.
    """

    subject: str
    state: CheckState
    message: str
    is_locked: bool = False


def doctor_command(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Repair the store: rebuild the index and recompute damaged embeddings."),
    ] = False,
    student: StudentOption = None,
    experts: ExpertsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the device, libraries, models, experts, store and index. Exits with 1 if something is wrong."""
    with open_workspace(models=False, student=student, experts=experts) as opened:
        findings: list[CheckResult] = []
        for check in (_machine, _libraries, _modes, _encryption, _student, _embedder, _store, _backups, _resident):
            if check in (_store, _backups) and any(finding.is_locked for finding in findings):
                continue  # it would ask for the passphrase again
            for finding in _run_check(check, opened, repair):
                findings.append(finding)
                if not as_json:
                    mark = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}[finding.state]
                    typer.echo(f"{mark}  {finding.subject}: {finding.message}")
    if as_json:
        print_json([{"what": f.subject, "state": f.state, "says": f.message} for f in findings])
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def _run_check(
    check: Callable[[Workspace, bool], Iterator[CheckResult]], opened: Workspace, repair: bool
) -> Iterator[CheckResult]:
    from memlora_mlx.errors import MemloraError, StoreLocked

    try:
        yield from check(opened, repair)
    except MemloraError as error:
        is_locked = isinstance(error, StoreLocked)
        yield CheckResult(check.__name__.lstrip("_"), "problem", str(error), is_locked=is_locked)
    except Exception as error:  # damage can do anything to whoever reads it, and the doctor goes on
        says = f"The check ended early ({type(error).__name__}: {' '.join(str(error).split())})."
        yield CheckResult(check.__name__.lstrip("_"), "problem", says)


def _machine(opened: Workspace, repair: bool) -> Iterator[CheckResult]:
    from memlora_mlx.models import device

    yield CheckResult(
        "machine", "ok", f"{platform.platform()}, Python {platform.python_version()}, {device.describe_device()}"
    )
    status = device.blas_status()
    yield CheckResult("blas", "problem" if "reference" in status else "ok", status)


def _libraries(opened: Workspace, repair: bool) -> Iterator[CheckResult]:
    from importlib.metadata import version

    from memlora_mlx import __version__

    names = ("mlx", "mlx-lm", "llguidance", "usearch", "tokenizers")
    yield CheckResult("memlora", "ok", f"{__version__} with " + ", ".join(f"{name} {version(name)}" for name in names))
    yield CheckResult("home", "ok", str(opened.settings.home))


def _modes(opened: Workspace, repair: bool) -> Iterator[CheckResult]:
    from memlora_mlx.private_files import find_open_paths, make_private

    home = opened.settings.home
    if repair and (count := make_private(home)):
        yield CheckResult("repair", "ok", f"Only you can read {count} more files and folders now.")
    if found := find_open_paths(home):
        shown = f"{found[0]}" if len(found) == 1 else f"{found[0]} and {len(found) - 1} more"
        message = f"Other users of this machine may read {shown}. Run `memlora doctor --repair`."
        yield CheckResult("privacy", "problem", message)
    else:
        yield CheckResult("privacy", "ok", f"Only you can read {home}.")


def _encryption(opened: Workspace, repair: bool) -> Iterator[CheckResult]:
    from memlora_mlx.memory.encryption import plain_files
    from memlora_mlx.memory.store.converting import describe
    from memlora_mlx.memory.store.keys import unlock

    folder = opened.settings.store_folder
    yield CheckResult("encryption", "ok", describe(folder))
    if unlock(folder) is not None:
        leftovers, others = plain_files(opened.settings.home)
        if leftovers:
            named = ", ".join(map(str, leftovers))
            yield CheckResult(
                "encryption", "problem", f"Left from before the encryption, and plain: {named}. Delete them."
            )
        if others:
            yield CheckResult("encryption", "note", f"Not encrypted: {', '.join(map(str, others))}.")


def _student(opened: Workspace, repair: bool) -> Iterator[CheckResult]:
    folder = opened.student_folder
    student = opened.engine.student
    gigabytes = student.nbytes / 1e9
    yield CheckResult("student", "ok", f"{student.name}, {student.family}, {gigabytes:.2f} GB resident, in {folder}")
    table = opened.engine.experts
    for stage, expert in table.experts.items():
        yield CheckResult(f"{stage} expert", "ok", f"{expert.nbytes / 1e6:.1f} MB, {expert.folder}")
    use = opened.engine.memory_use()
    limits = (
        f"; limits: {use.cache_limit / 1e9:.1f} GB kept, {use.wired_limit / 1e9:.1f} GB wired"
        if use.cache_limit
        else ""
    )
    yield CheckResult("memory", "ok", f"{use.active / 1e9:.2f} GB in arrays, {use.cached / 1e9:.2f} GB kept{limits}")
    missing = [stage for stage in ("extraction", "update", "generation") if stage not in table.experts]
    if missing:
        yield CheckResult("experts", "note", f"No expert for {', '.join(missing)}: the base model is used for them.")


def _embedder(opened: Workspace, repair: bool) -> Iterator[CheckResult]:
    space = opened.embedding_fingerprint
    [vector] = opened.engine.embed(["hello"])
    sound = abs(float((vector * vector).sum()) - 1.0) < 1e-3 and len(vector) == space.dim
    yield CheckResult("embedder", "ok" if sound else "problem", f"{opened.settings.embedder}, {space}")


def _store(opened: Workspace, repair: bool) -> Iterator[CheckResult]:
    from memlora_mlx.cli.progress import ProgressLine
    from memlora_mlx.memory.store.integrity import check_store, repair_store
    from memlora_mlx.memory.store.sources import list_owners
    from memlora_mlx.memory.store.store import Store

    folder = opened.settings.store_folder
    if not (folder / "memories.db").is_file():
        yield CheckResult("store", "note", f"No memories yet in {folder}.")
        return
    with Store(folder, opened.embedding_fingerprint, create=False, any_embedding=True) as store:
        if repair:
            for done in repair_store(store, opened.engine.embed):
                yield CheckResult("repair", "ok", done)
        with ProgressLine("building the search index", "vectors") as line:
            problems = check_store(store, lambda progress: line.update(completed=progress.done, total=progress.total))
        advice = "No backup has it. See `memlora restore --help`." if repair else "Run `memlora doctor --repair`."
        for problem in problems:
            yield CheckResult("store", "problem", f"{problem}. {advice}")
        if not problems:
            yield CheckResult(
                "store", "ok", f"{store.count()} memories of {len(list_owners(store))} owners in {folder}"
            )
        if told := _gone(store, opened.settings):
            yield CheckResult("retention", "ok", told)
        if store.database.read_only:
            yield CheckResult(
                "store", "note", "The store is read-only: you can search and ask, but nothing can be added or changed."
            )


def _gone(store: Store, settings: Settings) -> str:
    """What has been removed because of its age, and what the settings say about that."""
    from memlora_mlx.memory.housekeeping import read_counts

    counts = read_counts(store)
    kept = [
        f"{what} for {days} days" if days else f"{what} for ever"
        for what, days in (("history", settings.history_days), ("messages", settings.source_days))
    ]
    return (
        f"Kept: {', '.join(kept)}. Removed so far: {counts.history} lines of history, {counts.messages} messages,"
        f" {counts.turns} turns of conversations, {counts.scraps} scraps of killed saves, {counts.indexes} index files of nobody."
    )


def _resident(opened: Workspace, repair: bool) -> Iterator[CheckResult]:
    from memlora_mlx.serve import connection, service
    from memlora_mlx.serve.work_queue import WorkQueue

    home = opened.settings.home
    resident, installed = connection.find(home), service.service(home.absolute())
    if resident is not None and resident.is_alive():
        places = " and ".join(filter(None, (resident.socket_path, resident.url)))
        yield CheckResult("serve", "ok", f"`memlora serve` runs as process {resident.pid}, on {places}.")
        if (reason := resident.misfit()) is not None:
            yield CheckResult("serve", "note", f"The resident process is not used because {reason}.")
    elif installed.is_installed:
        log = home / service.LOG_FILE
        where = f"see {log}" if log.is_file() else f"see `journalctl --user -u {service.UNIT}`"
        yield CheckResult("serve", "problem", f"The service of {installed.path} does not run; {where}.")
    else:
        yield CheckResult("serve", "note", "`memlora serve` does not run; each program loads models of its own.")
    queue = WorkQueue(home)
    if waiting := queue.count():
        yield CheckResult("queue", "note", f"{waiting} things that were said wait to be read by `memlora serve`.")
    if failed := queue.count_failed():
        yield CheckResult("queue", "problem", f"{failed} could not be remembered; see {queue.failed}, and delete it.")


def _backups(opened: Workspace, repair: bool) -> Iterator[CheckResult]:
    from memlora_mlx.memory.store.backups import read_backups

    backups = read_backups(opened.settings.store_folder)
    for each in backups:
        if each.problem is not None:
            yield CheckResult("backups", "problem", f"The backup of {each.day} is damaged. Delete {each.path}.")
    sound = [each for each in backups if each.problem is None]
    if sound:
        yield CheckResult("backups", "ok", f"{len(sound)} undamaged, the newest of {sound[0].day}")
    elif (opened.settings.store_folder / "memories.db").is_file():
        yield CheckResult("backups", "note", "There is no backup yet. One is made on each day of use.")
