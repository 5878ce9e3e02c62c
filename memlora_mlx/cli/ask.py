"""`memlora ask`: answer a question and list the memories it came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memlora_mlx.cli.console import open_workspace, print_columns, print_json, write_text_piece
from memlora_mlx.cli.hits import print_hit
from memlora_mlx.cli.options import JsonOption, ModelOptions, OldLimitOption, TopKOption, UserOption, top_k_or_old_limit

if TYPE_CHECKING:
    from memlora_mlx.memory.results import Answer
    from memlora_mlx.memory.visual_questions import VisualAnswer


def ask_command(
    *,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question to answer.")],
    user: UserOption = None,
    top_k: TopKOption = None,
    limit: OldLimitOption = None,
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ask about this image instead of the memories (default: no image)."),
    ] = None,
    free: Annotated[
        bool, typer.Option("--free", help="Also answer what no memory says, from what the student knows.")
    ] = False,
    models: ModelOptions,
    as_json: JsonOption = False,
) -> None:
    """Answer a question from the stored memories, and list the memories used.

    A vision model also looks at the image of a memory that was found. With --image it looks at the image you give, which
    is not stored.
    """
    from memlora_mlx.errors import UsageError
    from memlora_mlx.memory.abstention import NOT_MENTIONED
    from memlora_mlx.memory.api import Memory

    if not question.strip():
        raise UsageError('The question is empty. Ask as in: memlora ask "Where does Anna work?"')
    top_k = top_k_or_old_limit(top_k, limit)
    looks = image is not None
    with open_workspace(embedder=not looks, **models.settings()) as opened:
        if image is None and not free:
            opened.require_store()
        streamed = None if as_json or looks else write_text_piece
        answer = Memory.of(opened).ask(question, user_id=user, top_k=top_k, image=image, on_text=streamed, free=free)
    if as_json:
        print_json(_as_dict(question, answer))
        return
    if image is not None:
        assert answer.look is not None
        print_columns("", answer.text)
        print_columns("", answer.look.reason)
        return
    typer.echo()
    if answer.look is not None:
        assert answer.look.hit is not None
        typer.echo()
        label = f"Looked at {answer.look.picture} of {answer.look.hit.id[:8]}: "
        print_columns(label, f"{answer.look.answer}. {answer.look.reason}")
    typer.echo()
    if not answer.hits:
        typer.echo("No memories were found.")
        return
    if answer.text == NOT_MENTIONED:
        typer.echo("The nearest memories do not answer it:")
    else:
        typer.echo(f"From {len(answer.hits)} memories" + _cut_note(answer.cost.truncated) + ":")
    for hit in answer.hits:
        print_hit(hit, "  ")


def _cut_note(cut: int) -> str:
    return f" ({cut} more did not fit into the prompt)" if cut else ""


def _as_dict(question: str, answer: Answer) -> dict[str, Any]:
    from memlora_mlx.memory.mem0_format import hit_to_mem0

    return {
        "question": question,
        "answer": answer.text,
        "memories": [hit_to_mem0(hit) for hit in answer.hits],
        "look": _look_as_dict(answer.look) if answer.look else None,
        "memories_cut": answer.cost.truncated,
        "tokens": {"in": answer.cost.prompt_tokens, "out": answer.cost.output_tokens},
        "seconds": round(answer.cost.seconds, 3),
    }


def _look_as_dict(look: VisualAnswer) -> dict[str, Any]:
    return {
        "answer": look.answer,
        "reason": look.reason,
        "picture": look.picture,
        "memory": look.hit.id if look.hit else None,
        "seconds": round(look.completion.seconds, 3),
    }
