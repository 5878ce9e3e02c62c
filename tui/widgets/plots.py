"""Curves and bars drawn with characters, in the theme's colours. No fact is shown by colour alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.color import Color
from textual_plotext import PlotextPlot

if TYPE_CHECKING:
    from memlora_mlx.distill.training_metrics import MetricsPoint

MAX_TICKS = 10  # epochs that are named below a curve
MAX_POINTS = 60  # of the training loss: it is averaged over steps, because single batches are noisy


class LossPlot(PlotextPlot):
    """Training loss as dots, validation loss as a line, and a vertical line at the best validation."""

    def show(self, points: Sequence[MetricsPoint], title: str) -> None:
        plot = self.plt
        plot.clear_figure()
        train = [(point.epoch, point.train_loss) for point in points if point.train_loss is not None]
        validation = [(point.epoch, point.validation_loss) for point in points if point.validation_loss is not None]
        if train:
            size = max(1, len(train) // MAX_POINTS)
            groups = [train[i : i + size] for i in range(0, len(train), size)]
            places = [sum(place for place, _ in group) / len(group) for group in groups]
            losses = [sum(loss for _, loss in group) / len(group) for group in groups]
            plot.scatter(places, losses, label="training", marker="dot", color=_rgb(self, "foreground-muted"))
        if validation:
            places, losses = [place for place, _ in validation], [loss for _, loss in validation]
            plot.plot(places, losses, label="validation", marker="braille", color=_rgb(self, "primary"))
            best, _ = min(validation, key=lambda pair: pair[1])
            plot.vline(best, color=_rgb(self, "accent"))
        plot.title(title)
        last = max((point.epoch for point in points), default=0.0)
        plot.xlim(0, max(1.0, math.ceil(last)))
        plot.xticks(*_epoch_ticks(last))
        plot.xlabel("epoch")
        self.refresh()


def _epoch_ticks(last: float) -> tuple[list[float], list[str]]:
    """Whole epochs up to the last one that began: all of them, or of many at most `MAX_TICKS`."""
    end = max(1, math.ceil(last))
    step = math.ceil(end / MAX_TICKS)
    ticks = range(0, end + 1, step)
    return [float(tick) for tick in ticks], [str(tick) for tick in ticks]


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
