"""The figures of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from transeg.tools.report.plots import SERIES, VARIABLES, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

POINTS = 240
"""The largest number of points of a curve; longer ones are averaged in steps, which a screen could not show anyway."""
DOTS = 400
"""More images than this are shown by their histogram alone."""
MUTED, INK, CARD = VARIABLES["muted"], VARIABLES["ink"], VARIABLES["card"]

Curves = Mapping[str, tuple[Sequence[int], Sequence[float]]]
"""Iterations and values by name."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval, of one line of a table."""

    name: str
    mean: float
    interval: tuple[float, float] | None


def plot_curves(
    name: str,
    title: str,
    shown: Curves,
    *,
    mark: int | None = None,
    small: bool = False,
    limits: tuple[float, float] | None = None,
) -> Markup:
    """Scalars over iterations.

    Args:
        name: of the figure.
        title: what they are.
        shown: at least one of them, with at least one value each.
        mark: an iteration to point out.
        small: whether it stands among many.
        limits: of what is shown of the values, so that figures can be compared; None for all.
    """
    thin = {label: downsample_curve(*curve) for label, curve in shown.items()}

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for label, (x, y) in thin.items():
            axes.plot(x, y, label=label, marker="o" if len(x) < 25 else "", markersize=2.5)
        if mark is not None:
            axes.axvline(mark, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate("best", (mark, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", color=MUTED)
        if len(thin) > 1:
            figure.legend(loc="outside upper left", ncols=4, columnspacing=1.2, handlelength=1.4)
        axes.margins(x=0.02)
        axes.set_ylim(limits)
        axes.xaxis.set_major_locator(_whole(4))
        axes.set_xlabel("iterations")

    said = "; ".join(_course(label, *curve) for label, curve in shown.items())
    return plot(name, title, said, (3.1, 1.9) if small else (4.4, 2.7), draw)


def downsample_curve(x: Sequence[int], y: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """At most :data:`POINTS` points of a curve, each the mean of a stretch."""
    step = -(-len(x) // POINTS)
    starts = np.arange(0, len(x), step)
    count = np.diff([*starts, len(x)])
    return np.add.reduceat(np.asarray(x, float), starts) / count, np.add.reduceat(np.asarray(y, float), starts) / count


def _course(label: str, x: Sequence[int], y: Sequence[float]) -> str:
    return f"{label} from {y[0]:.3g} at iteration {x[0]} to {y[-1]:.3g} at {x[-1]}"


def plot_estimates(name: str, title: str, rows: Sequence[Estimate], axis: str, marks: Sequence[float] = ()) -> Markup:
    """Means with their intervals, one above the other.

    Args:
        name: of the figure.
        title: what they are.
        rows: from the top down.
        axis: what the values are.
        marks: values to compare them with by eye.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for mark in marks:
            axes.axvline(mark, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for place, row in enumerate(reversed(rows)):
            if row.interval is not None:
                axes.plot(row.interval, (place, place), color=SERIES[0], linewidth=2.5, alpha=0.55)
            axes.plot(row.mean, place, "o", color=SERIES[0], markersize=6)
        axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
        axes.tick_params("y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.set(ylim=(-0.6, len(rows) - 0.4), xlabel=axis)
        axes.spines["left"].set_visible(False)
        _unit_range(axes, [end for row in rows for end in (row.mean, *(row.interval or ()))])

    return plot(name, title, "; ".join(map(_in_words, rows)), (4.4, 0.75 + 0.3 * len(rows)), draw)


def _in_words(row: Estimate) -> str:
    ends = "" if row.interval is None else f", 95 % interval {row.interval[0]:.3f} to {row.interval[1]:.3f}"
    return f"{row.name} {row.mean:.3f}{ends}"


def _unit_range(axes: Axes, values: Sequence[float]) -> None:
    """0 to 1 for what cannot leave it, so that figures can be compared by eye."""
    if min(values) >= 0 and max(values) <= 1:
        axes.set_xlim(-0.02, 1.02)


def plot_distribution(name: str, title: str, rows: Mapping[str, np.ndarray], axis: str) -> Markup:
    """Values of single images in [0, 1]: a histogram, its median, and a dot for each image below.

    Args:
        name: of the figure.
        title: what they are.
        rows: ``(images,)`` without NaN and not empty, by the name of what reached them.
        axis: what the values are.
    """

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
        for panel, (label, values), colour in zip(panels, rows.items(), SERIES * len(rows), strict=False):
            counts, edges = np.histogram(values, 20, (0, 1))
            panel.bar(edges[:-1], counts, 0.05, align="edge", color=colour, alpha=0.35)
            panel.axvline(float(np.median(values)), color=INK, linewidth=1.2)
            if len(values) <= DOTS:
                below = -0.16 * counts.max() * (0.5 + 1.5 * ((np.arange(len(values)) * 0.618) % 1))
                panel.plot(values, below, "o", color=colour, markersize=2.6, alpha=0.8, markeredgewidth=0)
            panel.set_title(f"{label}, median {np.median(values):.3f}", loc="left")
            panel.set_yticks([0, counts.max()])
            panel.set_ylabel("images")
            panel.spines["left"].set_visible(False)
            panel.grid(visible=False, axis="y")
        panels[-1].set(xlim=(-0.02, 1.02), xlabel=axis)

    said = "; ".join(
        f"{label}: {len(values)} images from {values.min():.3f} to {values.max():.3f}, median {np.median(values):.3f}, "
        f"quartiles {np.quantile(values, 0.25):.3f} and {np.quantile(values, 0.75):.3f}"
        for label, values in rows.items()
    )
    return plot(name, title, said, (4.4, 0.5 + 1.15 * len(rows)), draw)


def plot_reliability(name: str, title: str, rows: Mapping[str, np.ndarray], *, binary: bool) -> Markup:
    """How often pixels are what they are said to be, over how probable that was called (Guo et al., arXiv:1706.04599).

    Args:
        name: of the figure.
        title: what it shows.
        rows: of :func:`~transeg.core.evaluation.metrics.calibration.calibration_bins`, by what gave the probabilities.
        binary: whether these are of the foreground, else of the likeliest class.
    """
    means = {label: _of_bins(bins) for label, bins in rows.items()}
    what = "foreground" if binary else "right"

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for label, (confidence, right, share) in means.items():
            upper.plot(confidence, right, marker="o", markersize=3.5, label=label)
            lower.plot(confidence, share, marker="o", markersize=2.5)
        upper.set(ylim=(-0.02, 1.02), ylabel=f"share that is {what}")
        lower.set(yscale="log", ylabel="pixels", xlim=(-0.02, 1.02))
        lower.yaxis.set_minor_formatter(lambda *_: "")
        lower.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        lower.set_xlabel("probability of the foreground" if binary else "probability of the likeliest class")
        if len(rows) > 1:
            figure.legend(loc="outside upper left", ncols=3)

    said = "; ".join(
        f"{label}: " + ", ".join(f"{p:.2f} is {what} in {r:.2f}" for p, r, _ in zip(*mean, strict=True))
        for label, mean in means.items()
    )
    return plot(name, title, said, (4.4, 4.2), draw)


def _of_bins(bins: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence, share of right ones and share of all pixels, of each bin that is not empty."""
    count, confidence, right = bins[bins[:, 0] > 0].T
    return confidence / count, right / count, count / count.sum()


def plot_shares(name: str, title: str, rows: Mapping[str, Mapping[str, float]], axis: str) -> Markup:
    """Amounts that add up, a bar for each row.

    Args:
        name: of the figure.
        title: what they are of.
        rows: amounts by what they are, by the row's name.
        axis: their unit.
    """
    kinds = list(dict.fromkeys(kind for row in rows.values() for kind in row))
    colours = dict(zip(kinds, SERIES * len(kinds), strict=False))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        names = list(rows)[::-1]
        left = np.zeros(len(names))
        for kind in kinds:
            amounts = np.array([rows[row].get(kind, 0.0) for row in names])
            axes.barh(names, amounts, 0.6, left, label=kind, color=colours[kind], edgecolor=CARD, linewidth=0.8)
            left += amounts
        axes.tick_params("y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set(xlabel=axis, ylim=(-0.6, len(names) - 0.4))
        figure.legend(loc="outside upper left", ncols=3)

    said = "; ".join(
        f"{row}: " + ", ".join(f"{kind} {amount:.3g}" for kind, amount in amounts.items())
        for row, amounts in rows.items()
    )
    return plot(name, title, said, (4.4, 1.1 + 0.3 * len(rows)), draw)


def plot_heat_map(
    name: str, title: str, values: np.ndarray, columns: Sequence[str], rows: Sequence[str], axes_names: tuple[str, str]
) -> Markup:
    """Numbers in a grid, darker where they are higher.

    Args:
        name: of the figure.
        title: what they are.
        values: ``(rows, columns)``, NaN where there is none.
        columns: what the columns are.
        rows: what the rows are.
        axes_names: what columns and rows differ in.
    """
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 1.0)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for (row, column), value in np.ndenumerate(values):
            missing = np.isnan(value)
            strength = 0.0 if missing else 0.08 + 0.52 * (value - low) / max(high - low, 1e-9)
            axes.add_patch(_square(column, row, strength))
            text = "-" if missing else f"{value:.3f}"
            axes.text(column, row, text, ha="center", va="center", fontweight="bold" if value == high else "normal")
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
        axes.set_xticks(range(len(columns)), columns, rotation=0 if len("".join(columns)) < 40 else 30)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel(axes_names[0])
        axes.set_ylabel(axes_names[1])
        axes.tick_params(length=0, labelcolor=INK)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)

    said = "; ".join(
        f"{rows[row]} with {columns[column]}: " + ("none" if np.isnan(value) else f"{value:.3f}")
        for (row, column), value in np.ndenumerate(values)
    )
    width = min(7.0, 1.4 + 0.9 * len(columns))
    return plot(name, title, said, (max(3.2, width), 0.9 + 0.42 * len(rows)), draw)


def _square(column: int, row: int, strength: float) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, facecolor=SERIES[0], alpha=strength, linewidth=0)


def _whole(count: int) -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(count, integer=True)
