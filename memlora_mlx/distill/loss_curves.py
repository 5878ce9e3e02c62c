"""The loss curve of a run, as text for the terminal and as a PNG. Import this late: both plotting libraries load slowly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plotext
from matplotlib.figure import Figure

from memlora_mlx.distill.training_metrics import MetricsPoint

_SMOOTHING_WINDOW = 40  # groups of steps, each averaged to one point of the training curve: single batches are noisy


def terminal_loss_curve(points: Sequence[MetricsPoint], *, colours: bool, width: int = 76, height: int = 16) -> str:
    """Training loss as dots and validation loss as a line, over the steps, as text of `width` by `height` characters.

    The text is empty if there are fewer than two validations.
    """
    train, validation = _train(points), _validation(points)
    if len(validation) < 2:
        return ""
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(width, height)
    if train:
        plotext.scatter(*_columns(train), label="training", marker="dot", color="gray")
    plotext.plot(*_columns(validation), label="validation", marker="braille", color="blue")
    plotext.xlabel("step")
    plotext.ylabel("loss")
    text = str(plotext.build())
    return text if colours else str(plotext.uncolorize(text))


def write_loss_png(points: Sequence[MetricsPoint], path: Path, title: str) -> None:
    """The same as an image of 1600 by 1000 pixels; the legend names the best validation. Raises OSError."""
    train, validation = _train(points), _validation(points)
    figure = Figure(figsize=(8, 5), dpi=200, layout="constrained")  # drawn without a window
    axes = figure.subplots()
    if train:
        axes.plot(*_columns(_every(points)), color="0.85", linewidth=0.8)
        axes.plot(*_columns(train), color="0.45", linewidth=1.5, label="training")
    if validation:
        step, loss = min(validation, key=lambda pair: pair[1])
        label = f"validation, best {loss:.3f} at step {step:g}"
        axes.plot(*_columns(validation), color="tab:blue", marker="o", markersize=3, label=label)
    axes.set(xlabel="step", ylabel="loss, nats per answer token", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def _validation(points: Sequence[MetricsPoint]) -> list[tuple[float, float]]:
    return [(point.step, point.validation_loss) for point in points if point.validation_loss is not None]


def _every(points: Sequence[MetricsPoint]) -> list[tuple[float, float]]:
    return [(point.step, point.train_loss) for point in points if point.train_loss is not None]


def _train(points: Sequence[MetricsPoint]) -> list[tuple[float, float]]:
    """Step and loss, averaged over neighbouring steps."""
    every = _every(points)
    size = max(1, len(every) // _SMOOTHING_WINDOW)
    groups = [every[i : i + size] for i in range(0, len(every), size)]
    return [(sum(s for s, _ in group) / len(group), sum(loss for _, loss in group) / len(group)) for group in groups]


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [step for step, _ in pairs], [loss for _, loss in pairs]
