"""Curves and bars drawn with characters, in the theme's colours. No fact is shown by colour alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.color import Color
from textual_plotext import PlotextPlot

if TYPE_CHECKING:
    from memlora_mlx.distill.training_metrics import MetricsPoint

MAX_POINTS = 60  # of the training loss: it is averaged over steps, because single batches are noisy


class LossPlot(PlotextPlot):
    """Training loss as dots, validation loss as a line, and a vertical line at the best validation."""

    def show(self, points: Sequence[MetricsPoint], title: str) -> None:
        plot = self.plt
        plot.clear_figure()
        train = [(point.step, point.train_loss) for point in points if point.train_loss is not None]
        validation = [(point.step, point.validation_loss) for point in points if point.validation_loss is not None]
        if train:
            size = max(1, len(train) // MAX_POINTS)
            groups = [train[i : i + size] for i in range(0, len(train), size)]
            steps = [sum(step for step, _ in group) / len(group) for group in groups]
            losses = [sum(loss for _, loss in group) / len(group) for group in groups]
            plot.scatter(steps, losses, label="training", marker="dot", color=_rgb(self, "foreground-muted"))
        if validation:
            steps, losses = [float(step) for step, _ in validation], [loss for _, loss in validation]
            plot.plot(steps, losses, label="validation", marker="braille", color=_rgb(self, "primary"))
            best, _ = min(validation, key=lambda pair: pair[1])
            plot.vline(best, color=_rgb(self, "accent"))
        plot.title(title)
        plot.xlabel("step")
        self.refresh()


class BarPlot(PlotextPlot):
    """Horizontal bars from 0, the first at the top. Each label contains its figure."""

    DEFAULT_CSS = """
    BarPlot { width: 1fr; margin: 1 1 0 1; }
    """

    def show(self, bars: Sequence[tuple[str, float]], maximum: float) -> None:
        plot = self.plt
        plot.clear_figure()
        labels, values = [label for label, _ in reversed(bars)], [value for _, value in reversed(bars)]
        plot.bar(labels, values, orientation="horizontal", width=0.01, color=_rgb(self, "primary"), marker="sd")
        plot.xlim(0, max(maximum, 1e-9))
        # One bar every second line, so that positions fall on lines and not between them; the axis is below.
        plot.ylim(*((1, len(bars)) if len(bars) > 1 else (0, 2)))
        self.styles.height = max(2 * len(bars), 4)
        plot.frame(False)
        self.refresh()


def _rgb(plot: PlotextPlot, name: str) -> tuple[int, int, int]:
    """A colour of the theme in the form that plotext needs."""
    variables = plot.app.theme_variables
    return Color.parse(variables.get(name, variables["foreground"])).rgb
