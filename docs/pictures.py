"""Writes the pictures of the documentation that are no run's own.

    python docs/pictures.py RUN FOLDER      # a joint run of octa's ladder, and the graphs; writes docs/octa.png

The graphs are rendered (arXiv:2306.10941), and their translations are made of these: the angiograms themselves, which
may not be passed on, are not shown.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from transeg.core.inference.translator import Translator
from transeg.core.registry import Registry
from transeg.plugins.datasets.folder import Folder

HERE = Path(__file__).parent
SHOWN, SIDE = (5, 40, 90), 160
"""Graphs, and pixels of the part of each that is shown."""


def octa(run: Path, folder: Path) -> None:
    """A row of graphs, and below them what a generator has made of each, with the outlines of its label."""
    graphs = Folder(folder, "all", channels=1)
    translator = Translator.load(run, Registry(), "cpu", direction=None, window=None)
    figure, axes = plt.subplots(2, len(SHOWN), figsize=(9, 6.4), layout="constrained")
    for column, index in enumerate(SHOWN):
        sample = graphs[index]
        top, left = ((side - SIDE) // 2 for side in sample.size)
        part = np.s_[top : top + SIDE, left : left + SIDE]
        pictures = {"rendered graph": sample.image, "translated, and its label": translator(sample.image, sample.name)}
        for row, (title, picture) in enumerate(pictures.items()):
            axes[row, column].imshow(picture[part][:, :, 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes[row, column].set(xticks=[], yticks=[])
            axes[row, 0].set_ylabel(title)
        assert sample.mask is not None
        axes[1, column].contour(sample.mask[part], levels=[0.5], colors="tab:orange", linewidths=0.6)
    figure.savefig(HERE / "octa.png", dpi=100)


if __name__ == "__main__":
    octa(*map(Path, sys.argv[1:3]))
