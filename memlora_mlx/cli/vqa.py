"""`memlora vqa`: benchmarks of questions about images."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memlora_mlx.cli.ingest import interrupt_event, select_conversations
from memlora_mlx.cli.options import JsonOption, print_json, require_files, stderr_console

if TYPE_CHECKING:
    from rich.progress import Progress

    from memlora_mlx.distill.vqa_build import VqaBuildStats

app = typer.Typer(no_args_is_help=True, help="Make a benchmark of questions about images.")


@app.callback()
def callback() -> None:
    """Keeps `build` a command of its own."""


@app.command()
def build(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DATA...", help="Conversations that link to images, such as LoCoMo's.", show_default=False
        ),
    ] = None,
    drawings: Annotated[bool, typer.Option("--drawings", help="The drawings instead: no web, no server.")] = False,
    base_url: Annotated[
        list[str] | None,
        typer.Option(help="An OpenAI-compatible server, such as http://host:8000/v1; may be given several times."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The teacher that sees, as its server calls it.")] = None,
    api_key: Annotated[
        str | None, typer.Option(help="Its key; by default OPENAI_API_KEY, or none.", show_default=False)
    ] = None,
    images_from: Annotated[
        Path | None, typer.Option(help="Take the images from this folder; nothing is fetched from the web.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which conversations validate and test.")] = "paper",
    out: Annotated[Path | None, typer.Option(help="The benchmark's folder; by default in the home.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Hosts fetched from, or requests to a server.")] = 8,
    delay: Annotated[float, typer.Option(min=0, help="Seconds between two requests to a host of images.")] = 1.0,
    count: Annotated[int, typer.Option(min=5, max=9999, help="With --drawings: how many.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="With --drawings: which.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Fetch the images of conversations and ask a teacher for questions about each; or draw some.

    Without --model the images are fetched and nobody is asked. Stop it any time and run it again: it goes on where it
    stopped.
    """
    from memlora_mlx.errors import UsageError
    from memlora_mlx.settings import load_settings

    home = load_settings().home
    if drawings:
        if files or model or base_url or images_from:
            raise UsageError("the drawings need no data, server or images; leave them out, or --drawings")
        _drawings(out or home / "vqa" / "drawings", count, seed, as_json)
        return
    if not files:
        raise UsageError("name DATA, such as LoCoMo's file, or give --drawings, which needs none")
    if (model is None) != (not base_url):
        raise UsageError("a teacher is named by --model and --base-url together; without both only images are fetched")
    options = {"concurrency": concurrency, "delay_seconds": delay}
    key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
    with interrupt_event() as cancelled:
        folder = out or home / "vqa" / "locomo"
        tally = _build(files, split, folder, images_from, (base_url or [], model, key), options, cancelled)
    if as_json:
        values = {one.name: getattr(tally, one.name) for one in fields(tally)}
        print_json({**values, "folder": str(folder)})
    else:
        typer.echo(_summary(tally, folder, asked=model is not None))


def _build(
    files: list[Path],
    split: str,
    folder: Path,
    images_from: Path | None,
    server: tuple[list[str], str | None, str],
    options: dict[str, Any],
    cancelled: threading.Event,
) -> VqaBuildStats:
    from memlora_mlx.conversations.splits import SPLITS
    from memlora_mlx.distill import vqa_build
    from memlora_mlx.distill.image_downloads import download_images
    from memlora_mlx.distill.journal import Journal
    from memlora_mlx.distill.teacher_client import Teacher
    from memlora_mlx.errors import UsageError

    if split not in SPLITS:
        raise UsageError(f"there is no split {split!r}; known are {', '.join(sorted(SPLITS))}")
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
    became = ", ".join(f"{count} {status}" for status, count in tally.fetched.most_common()) or "none fetched"
    lines = [f"{tally.links} links: {became}; {tally.images} images to ask about"]
    if tally.in_two_splits:
        lines.append(f"{tally.in_two_splits} images stand in two splits and are left out")
    if not asked:
        lines.append("nobody was asked about them; add --base-url and --model of a teacher that sees")
        return "\n".join(lines)
    lines.append(f"{tally.rows} of {tally.questions} questions written: {folder / 'rows.jsonl'}")
    if tally.refused:
        reasons = ", ".join(f"{count} {reason}" for reason, count in tally.refused.most_common())
        lines.append(f"{tally.refused.total()} answers make no question: {reasons}")
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
    guessed = ", ".join(f"{kind} {100 * entry['right']:.1f}" for kind, entry in test.items())
    typer.echo(f"right without looking, of 100 test questions: {guessed}. It says nothing about photographs.")
