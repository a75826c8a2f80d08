"""Draws how two counts differ (Bland & Altman, Lancet 1986, doi:10.1016/S0140-6736(86)90837-8)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from transeg.core.analysis.agreement import agreement


def draw_bland_altman(series: Mapping[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Write a picture: difference over mean, a point for each image, with bias and limits of agreement.

    Args:
        series: true and predicted counts ``(images,)`` by title, a panel for each.
        path: of a PNG file.
    """
    from matplotlib.figure import Figure  # slow to import, and pyplot would look for a screen

    figure = Figure(figsize=(5 * len(series), 4), layout="constrained")
    panels = figure.subplots(1, len(series), squeeze=False)[0]
    for panel, (title, (true, predicted)) in zip(panels, series.items(), strict=True):
        found = agreement(true, predicted)
        panel.scatter((true + predicted) / 2, predicted - true, alpha=0.6)
        panel.axhline(0, color="grey", linewidth=0.5)
        lines = {f"bias {found['bias']:.2f}": (found["bias"], "-")}
        lines |= {f"limit {limit:.2f}": (limit, "--") for limit in found["limits"] or ()}
        for text, (height, style) in lines.items():
            panel.axhline(height, color="black", linestyle=style, linewidth=1)
            panel.annotate(text, (1, height), xycoords=("axes fraction", "data"), ha="right", va="bottom")
        panel.set(title=title, xlabel="mean of true and predicted", ylabel="predicted - true")
    figure.savefig(path, dpi=120)
