"""What a search shows: its live line, and its leaderboard as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memlora_mlx.cli.progress import ProgressLine

if TYPE_CHECKING:
    from rich.table import Table

    from memlora_mlx.distill.hyperparameter_search import LeaderboardEntry, Search, SearchEvent
    from memlora_mlx.records import Stage


def leaderboard_table(places: Sequence[LeaderboardEntry], metric: str) -> Table:
    """Each stage's candidates, the combinations by their candidates' ranks, and the test."""
    from rich.table import Table
    from rich.text import Text

    measured = {name for place in places for name in place.scores or {}}
    shown = [metric, *(name for name in ("f1", "L") if name in measured and name != metric)]
    ranks = {one.name: place.rank for place in places if len(place.experts) == 1 for one in place.experts}
    failed = [f"{one}: {one.failure}" for place in places for one in place.experts if one.failure]
    table = Table(box=None, pad_edge=False, caption=Text("\n".join(failed)) if failed else None, caption_justify="left")
    table.add_column("Stage", no_wrap=True)
    table.add_column("Rank", no_wrap=True, justify="right")
    table.add_column("Expert")
    for name in shown:
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("Val. loss", no_wrap=True, justify="right")
    table.add_column("", no_wrap=True)
    part = ""
    for place in places:
        if place.part in ("combination", "test"):
            expert = ", ".join(f"{one.stage} {ranks.get(one.name) or '?'}" for one in place.experts)
            loss = ""
        else:
            [one] = place.experts
            expert = f"rate {one.learning_rate:g}, batch {one.batch_size}"
            loss = "" if one.validation_loss is None else f"{one.validation_loss:.4f}"
        found = place.scores or {}
        scores = [f"{found[name]:.2f}" if name in found else "" for name in shown]
        table.add_row(
            "" if place.part == part else place.part,
            str(place.rank or ""),
            expert,
            *scores,
            loss,
            place.status,
            style="bold" if place.status == "best" else None,
        )
        part = place.part
    return table


def leaderboard_as_json(search: Search, chosen: Mapping[Stage, Path]) -> dict[str, object]:
    """The leaderboard for programs."""
    from memlora_mlx.distill.hyperparameter_search import leaderboard

    lines = []
    for place in leaderboard(search):
        experts = {
            one.stage: {
                "learning_rate": one.learning_rate,
                "batch_size": one.batch_size,
                "validation_loss": one.validation_loss,
                "failure": one.failure,
            }
            for one in place.experts
        }
        scores = dict(place.scores) if place.scores else None
        line = {"part": place.part, "rank": place.rank, "status": place.status, "experts": experts, "scores": scores}
        lines.append(line)
    return {
        "folder": str(search.folder),
        "metric": search.plan.metric,
        "best": {stage: str(path) for stage, path in chosen.items()},
        "leaderboard": lines,
    }


class SearchProgress(ProgressLine):
    """The live line of a search on a terminal, and a line for each training and measurement that ends."""

    def __init__(self) -> None:
        super().__init__("searching", "", bar_width=16)

    def start(self, search: Search) -> None:
        count = sum(map(len, search.candidates.values()))
        self.print(f"{count} candidates, ranked by {search.plan.metric}: {search.folder}")

    def show(self, event: SearchEvent) -> None:
        self.update(description=event.what, completed=event.done, total=event.total, details=describe_event(event))
        if event.kind in ("trained", "failed", "measured"):
            self.print(f"{event.what}: {describe_event(event)}")


def describe_event(event: SearchEvent) -> str:
    """What an event says, in a few words."""
    if event.point is not None:
        point = event.point
        loss = "" if point.train_loss is None else f", loss {point.train_loss:.3f}"
        held = "" if point.validation_loss is None else f", validation loss {point.validation_loss:.3f}"
        return f"step {point.step} of at most {point.steps}{loss}{held}"
    if event.scores is not None:
        return ", ".join(f"{name} {value:.2f}" for name, value in event.scores.items())
    return f"failed, {event.reason}" if event.reason else event.kind
