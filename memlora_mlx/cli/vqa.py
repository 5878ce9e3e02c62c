"""`memlora vqa`: data sets of questions about images."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memlora_mlx.cli.console import interrupt_event, print_json, require_files, stderr_console
from memlora_mlx.cli.help import HelpGroup, command, examples
from memlora_mlx.cli.ingest_files import select_conversations
from memlora_mlx.cli.options import ApiKeyOption, BaseUrlOption, JsonOption, SplitsOption, require_split_scheme

if TYPE_CHECKING:
    from rich.progress import Progress

    from memlora_mlx.distill.vqa_build import VqaBuildStats

app = typer.Typer(
    cls=HelpGroup,
    no_args_is_help=True,
    help="Create data sets of questions about images, for `memlora bench --vqa` and `memlora train --stage vqa`.",
    epilog=examples("memlora vqa build --drawings"),
)


@app.callback()
def _group() -> None:  # with a callback, Typer leaves `build` the name of a command
    pass


@dataclass(frozen=True, slots=True)
class TeacherOptions:
    """The vision model that is asked for questions."""

    base_url: BaseUrlOption = None
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of a vision model as the server knows it (default: ask no questions)."),
    ] = None
    api_key: ApiKeyOption = None


@dataclass(frozen=True, slots=True)
class DrawingOptions:
    """How many drawings are generated."""

    count: Annotated[
        int,
        typer.Option(
            metavar="N", min=5, max=9999, help="With --drawings: number of drawings (default: 300).", show_default=False
        ),
    ] = 300
    seed: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="With --drawings: random seed (default: 0).", show_default=False),
    ] = 0


@command(
    app,
    "build",
    "memlora vqa build --drawings",
    "memlora vqa build locomo10.json --base-url http://gpu:8000/v1 --model internvl3-78b",
)
def build(
    *,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DATA", help="Conversations that link to images, such as LoCoMo's.", show_default=False),
    ] = None,
    drawings: Annotated[
        bool, typer.Option("--drawings", help="Generate drawings instead. This needs neither network nor server.")
    ] = False,
    teacher: TeacherOptions,
    size: DrawingOptions,
    images_from: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Take the images from this folder instead of downloading them."),
    ] = None,
    split: SplitsOption = "paper",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of the data set (default: one in <home>/vqa)."),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=64,
            help="Number of hosts to download from at once, or of requests per server (default: 8).",
            show_default=False,
        ),
    ] = 8,
    delay: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Seconds between two downloads from the same host (default: 1).",
            show_default=False,
        ),
    ] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Build a data set: download the images of conversations and ask a teacher for questions, or draw images.

    Without --model the images are downloaded and no questions are asked. You can stop at any time; the same command
    continues.
    """
    from memlora_mlx.errors import UsageError
    from memlora_mlx.settings import load_settings

    home = load_settings().home
    if drawings:
        if files or teacher.model or teacher.base_url or images_from:
            raise UsageError("--drawings needs no data, server or images. Remove these, or remove --drawings.")
        _drawings(out or home / "vqa" / "drawings", size.count, size.seed, as_json)
        return
    if not files:
        raise UsageError("Give DATA, such as LoCoMo's file, or use --drawings, which needs none.")
    if (teacher.model is None) != (not teacher.base_url):
        raise UsageError(
            "A teacher needs both --model and --base-url. Without both, images are downloaded and no questions are asked."
        )
    options = {"concurrency": concurrency, "delay_seconds": delay}
    from memlora_mlx.distill.server_keys import server_keys

    key = server_keys(teacher.base_url or [], teacher.api_key, os.environ)
    with interrupt_event() as cancelled:
        folder = out or home / "vqa" / "locomo"
        tally = _build(
            files, split, folder, images_from, (teacher.base_url or [], teacher.model, key), options, cancelled
        )
    if as_json:
        values = {one.name: getattr(tally, one.name) for one in fields(tally)}
        print_json({**values, "folder": str(folder)})
    else:
        typer.echo(_summary(tally, folder, asked=teacher.model is not None))


def _build(
    files: list[Path],
    split: str,
    folder: Path,
    images_from: Path | None,
    server: tuple[list[str], str | None, dict[str, str]],
    options: dict[str, Any],
    cancelled: threading.Event,
) -> VqaBuildStats:
    from memlora_mlx.conversations.splits import SPLITS
    from memlora_mlx.distill import vqa_build
    from memlora_mlx.distill.image_downloads import download_images
    from memlora_mlx.distill.journal import Journal
    from memlora_mlx.distill.teacher_client import Teacher

    require_split_scheme(split)
    shared = vqa_build.linked_images(select_conversations(require_files(files), None), SPLITS[split])
    urls, model, key = server
    teacher = Teacher(urls, model, api_key=key, concurrency=options["concurrency"]) if model else None
    addresses = list(dict.fromkeys(image.url for image in shared))
    tally = vqa_build.VqaBuildStats(links=len(addresses))
    with Journal(folder / "fetched.jsonl") as links, Journal(folder / "asked.jsonl") as answers, _bar() as bar:
        if images_from is not None:
            tally.fetched = vqa_build.import_images(images_from, shared, folder, links)
        else:
            task = bar.add_task("images", total=len(addresses))

            def fetched(now: Counter[str]) -> None:
                bar.update(task, completed=now.total())

            tally.fetched = download_images(
                addresses, folder, links, on_progress=fetched, cancelled=cancelled, **options
            )
        images, tally.in_two_splits = vqa_build.unique_images(shared, folder, links)
        tally.images = len(images)
        if teacher is not None and model is not None:
            asking = bar.add_task("questions", total=len(images) * 3)

            def answered(now: VqaBuildStats) -> None:
                bar.update(asking, completed=now.rows + now.refused.total())

            vqa_build.ask_teacher(teacher, images, folder, answers, tally, on_progress=answered, cancelled=cancelled)
            vqa_build.write_dataset(folder, images, shared, model, links, answers, tally)
    return tally


def _bar() -> Progress:
    from rich.progress import Progress

    console = stderr_console()
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _summary(tally: VqaBuildStats, folder: Path, *, asked: bool) -> str:
    became = ", ".join(f"{count} {status}" for status, count in tally.fetched.most_common()) or "none downloaded"
    lines = [f"{tally.links} links: {became}; {tally.images} images to ask about"]
    if tally.in_two_splits:
        lines.append(f"{tally.in_two_splits} images occur in two splits and were skipped.")
    if not asked:
        lines.append("No questions were generated. Add --base-url and --model of a vision teacher.")
        return "\n".join(lines)
    lines.append(f"{tally.rows} of {tally.questions} questions written: {folder / 'rows.jsonl'}")
    if tally.refused:
        reasons = ", ".join(f"{count} {reason}" for reason, count in tally.refused.most_common())
        lines.append(f"{tally.refused.total()} answers could not be used: {reasons}")
    return "\n".join(lines)


def _drawings(folder: Path, count: int, seed: int, as_json: bool) -> None:
    from memlora_mlx.eval.vqa.drawings import build as draw_all

    with _bar() as bar:
        task = bar.add_task("drawings", total=count)
        manifest = draw_all(folder, count=count, seed=seed, on_progress=lambda done: bar.update(task, completed=done))
    if as_json:
        print_json({name: value for name, value in manifest.items() if name != "images"} | {"folder": str(folder)})
        return
    typer.echo(f"{count} drawings with {manifest['rows']['count']} questions: {folder}")
    test = manifest["blind"].get("test", {})
    guessed = ", ".join(f"{kind} {100 * entry['right']:.1f} %" for kind, entry in test.items())
    typer.echo(
        f"Majority baseline without the image: {guessed}. These are drawings; the result says nothing about photographs."
    )
