"""`memlora demo`: read a short conversation into memory and answer five questions about it."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import typer

from memlora_mlx.cli.console import interrupt_event, open_workspace, stderr_console, write_text_piece
from memlora_mlx.cli.options import ModelOptions
from memlora_mlx.text import printable_line

if TYPE_CHECKING:
    from memlora_mlx.records import Hit

QUESTIONS = (
    "Where does Maya work?",
    "What does Maya drink now?",
    "What happened to Anne's wrist?",
    "Why did Maya cancel the half marathon?",
    "What is the name of Maya's kitten?",
)


def demo_command(models: ModelOptions) -> None:
    """Read a short invented conversation and answer five questions about it.

    It uses a temporary store, so your own memories are not touched.
    """
    import tempfile
    from dataclasses import replace
    from pathlib import Path

    from memlora_mlx.cli.ingest import IngestProgress, summarise
    from memlora_mlx.conversations import read_conversations
    from memlora_mlx.memory.api import Memory
    from memlora_mlx.memory.evidence import owner_name
    from memlora_mlx.memory.ingest import IngestStats, ingest
    from memlora_mlx.memory.results import ExchangeResult
    from memlora_mlx.memory.stages import format_day
    from memlora_mlx.memory.workspace import Workspace

    speak = stderr_console()
    with (
        tempfile.TemporaryDirectory(prefix="memlora-demo-") as folder,
        as_file(files("memlora_mlx") / "data" / "demo.txt") as file,
        open_workspace(**models.settings()) as opened,
    ):
        own = Workspace(replace(opened.settings, home=Path(folder)), models_folder=opened.settings.models_folder)
        conversations = read_conversations(file)
        typer.echo(f"Two friends talk over five days. {own.student_name} reads the conversation and stores memories.\n")

        with own, IngestProgress() as display:
            display.note_grounding(own.student_name, own.verbatim_stages)
            day_shown = ""

            def progress(tally: IngestStats, last: ExchangeResult | None) -> None:
                nonlocal day_shown
                display.show(tally, last)
                if last is None:
                    return
                if (today := format_day(last.exchange.said_at)) != day_shown:
                    day_shown = today
                    print(f"\n{today}")  # not typer.echo, which writes past the live line
                for change in last.applied:
                    if change.rejected is None:
                        mark = {"ADD": "+", "UPDATE": "~", "DELETE": "-"}.get(change.event, " ")
                        words = change.text or change.old_text or ""
                        whose = owner_name(last.exchange.owner) or ""
                        print(f"  {mark} {words if words.startswith(whose) else f'{whose}: {words}'}", flush=True)

            with interrupt_event() as cancelled:
                tally = ingest(own.pipeline, conversations, user="me", on_progress=progress, cancelled=cancelled)
            display.close()
            typer.echo(f"\n{summarise(tally)}\n")

            memory = Memory.of(own)
            for question in QUESTIONS:
                typer.echo(f"? {question}")
                typer.echo("  ", nl=False)
                answer = memory.ask(question, limit=6, on_text=write_text_piece)
                typer.echo(f"\n    first result: {_first_result(answer.hits[0])}\n" if answer.hits else "\n")
    speak.print(
        "Now try your own:\n"
        "  memlora chat                       chat; what you say is stored as memories\n"
        "  memlora ingest conversations.json  read a ChatGPT export, a transcript or LoCoMo\n"
        '  memlora ask "..."                  ask a question; `memlora memory list` shows the memories',
        markup=False,
    )


def _first_result(hit: Hit) -> str:
    """What the search found first: the day and the words of the message, or of a memory that has none."""
    from memlora_mlx.memory.stages import format_day

    if hit.message is None:
        return f"{format_day(hit.memory.said_at)}, {hit.memory.text}" if hit.memory else ""
    speaker = f"{hit.message.speaker}: " if hit.message.speaker else ""
    return printable_line(f"{format_day(hit.message.said_at)}, {speaker}{hit.message.text}", 110)
