"""Writes the pictures of the documentation that are no run's own.

    python docs/pictures.py octa RUN FOLDER     # a joint run of octa's ladder, and the graphs; writes docs/octa.png
    python docs/pictures.py kvasir RUN          # a joint run of kvasir's ladder; writes docs/kvasir.jpg
    python docs/pictures.py nuclei LADDER       # of its first seed; writes docs/nuclei.jpg
    python docs/pictures.py axons LADDER        # likewise, docs/axons.jpg
    python docs/pictures.py demo RUN            # of `toolkit run --generator cut --segmenter hardnet`; docs/demo.jpg
    python docs/pictures.py shifts SEM TEM FLUO HE  # folders of axons and of nuclei; writes docs/shifts.jpg
    python docs/pictures.py tissue FOLDER       # of nuclei in stained tissue; writes docs/tissue.jpg

Of octa, only graphs are shown, which are rendered (arXiv:2306.10941), and what is made of them: the angiograms may not
be passed on; so it is with Kvasir-SEG and colons. Images of nuclei (CC0) and of axons (MIT) may be. NOTICE says whose
images each picture shows. docs/file_pictures.py writes those of the how-to pages.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from PIL import Image

from transeg.core.builders.datasets import build_dataset
from transeg.core.data.images import write_image
from transeg.core.inference.trained_model import stored_experiment
from transeg.core.inference.translator import Translator
from transeg.core.inference.visualization import HEADER
from transeg.core.interfaces import Sample
from transeg.core.pipeline.label_maps import LabelMaps
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.plugins.datasets.axon import Axon
from transeg.plugins.datasets.folder import Folder
from transeg.plugins.datasets.phantom import Phantom

HERE = Path(__file__).parent
SHOWN, SIDE = (5, 40, 90), 160
"""Graphs, and pixels of the part of each that is shown."""
RENDERED = (0, 7, 19)
"""Colons that are shown."""
RUNGS = {
    "nuclei": ("source-only", "source-only+inverted+bn", "histogram+inverted", "joint", "joint+inverted"),
    "axons": ("source-only", "source-only+inverted+bn", "histogram+inverted", "joint+inverted"),
}
"""Rungs that are shown, by the picture."""
IMAGES = {
    "nuclei": (("purple", 0), ("purple", 6), ("white", 1), ("white", 4)),
    "axons": tuple(("axon", place) for place in range(4)),
}
"""Test images that are shown: the test set and the place in it."""
PAIRED = {"appearance": (2, 2), "contrast and scale": (0, 0), "contrast and content": (0, 12)}
"""Images that show a kind of shift: those of the source and of the target."""
CORNER = 256
"""Pixels of a large image that are shown, at most."""
LABELLED = (0, 12, 25, 40)
"""Images of stained tissue that are shown."""
COLOURS = ("tab:orange", "tab:cyan")


def octa(run: Path, folder: Path) -> None:
    """Graphs, and what a generator has made of them."""
    graphs = Folder(folder, "all", channels=1)
    _translations(run, [graphs[index] for index in SHOWN], "rendered graph", HERE / "octa.png")


def kvasir(run: Path) -> None:
    """Rendered colons, and what a generator has made of them."""
    colons = Phantom(None, "val", count=400)
    _translations(run, [colons[index] for index in RENDERED], "rendered colon", HERE / "kvasir.jpg")


def _translations(run: Path, samples: list[Sample], title: str, path: Path) -> None:
    """A row of images, and below them what a generator has made of each, with the outlines of its label."""
    translator = Translator.load(run, Registry(), "cpu", direction=None, window=None)
    figure, axes = plt.subplots(2, len(samples), figsize=(9, 6.4), layout="constrained")
    for column, sample in enumerate(samples):
        top, left = (max(0, side - SIDE) // 2 for side in sample.size)
        part = np.s_[top : top + SIDE, left : left + SIDE]
        pictures = {title: sample.image, "translated, and its label": translator(sample.image, sample.name)}
        for row, (label, picture) in enumerate(pictures.items()):
            show(axes[row, column], picture[part])
            axes[row, 0].set_ylabel(label)
        assert sample.mask is not None
        axes[1, column].contour(sample.mask[part], levels=[0.5], colors=COLOURS[0], linewidths=0.6)
    figure.savefig(path, dpi=100 if path.suffix == ".png" else 64)


def pair(name: str, ladder: Path) -> None:
    """A row of source images, one of target images with their labels, and one for each rung with what it finds."""
    runs = {rung: ladder / "cells" / f"seed0_{rung}" for rung in RUNGS[name]}
    experiment = stored_experiment(RunFolder(runs[RUNGS[name][0]]), Registry())
    assert experiment.data.source is not None
    source = build_dataset(experiment.data.source, "source", Registry())
    tests = {label: build_dataset(choice, "test", Registry()) for label, choice in experiment.data.test.items()}
    samples = [tests[label][index] for label, index in IMAGES[name]]
    rows, columns = len(runs) + 2, len(samples)
    figure, axes = plt.subplots(rows, columns, figsize=(2.4 * columns, 2 * rows), layout="constrained")
    for column, sample in enumerate(samples):
        height, width = sample.size
        show(axes[0, column], source[column * len(source) // columns].image[:height, :width])
        show(axes[1, column], sample.image, sample.mask)
        for row, found in enumerate(_found(runs, sample), start=2):
            show(axes[row, column], sample.image, found)
    for row, title in enumerate(("source", "target, labels", *runs)):
        axes[row, 0].set_ylabel(title, fontsize=8)
    figure.savefig(HERE / f"{name}.jpg", dpi=64, pil_kwargs={"quality": 85})


def demo(run: Path) -> None:
    """The first half of what the first run has drawn at its end."""
    drawn = Image.open(run / "previews" / "final.png").convert("RGB")
    half = HEADER + (drawn.height - HEADER) // 2
    drawn.crop((0, 0, drawn.width, half)).save(HERE / "demo.jpg", quality=85)


def shifts(sem: Path, tem: Path, fluo: Path, stained: Path) -> None:
    """Three pairs of domains, the source above, with the outlines of labels: one for each kind of shift."""
    pairs = {
        "appearance": (Phantom(None, "test"), Phantom(None, "test", domain="scope")),
        "contrast and scale": (Axon(sem, "all"), Axon(tem, "all", domain="TEM")),
        "contrast and content": (Folder(fluo, "all"), Folder(stained, "all")),
    }
    figure, axes = plt.subplots(2, len(pairs), figsize=(9, 6.2), layout="constrained")
    for column, (kind, domains) in enumerate(pairs.items()):
        axes[0, column].set_title(kind)
        for row, (domain, index) in enumerate(zip(domains, PAIRED[kind], strict=True)):
            sample = domain[index]
            part = np.s_[: min(CORNER, *sample.size), : min(CORNER, *sample.size)]
            show(axes[row, column], sample.image[part])
            assert sample.mask is not None
            for value, colour in zip((1, 2), COLOURS, strict=True):
                if (sample.mask[part] == value).any():
                    axes[row, column].contour(sample.mask[part] == value, levels=[0.5], colors=colour, linewidths=0.7)
    axes[0, 0].set_ylabel("source")
    axes[1, 0].set_ylabel("target")
    figure.savefig(HERE / "shifts.jpg", dpi=80, pil_kwargs={"quality": 80})


def tissue(folder: Path) -> None:
    """Images, their label maps with a colour for each object, and the label maps that are recombined from these."""
    images = Folder(folder, "all", instances="inst")
    maps = LabelMaps(images, 0, "recombine", seed=0)
    figure, axes = plt.subplots(3, len(LABELLED), figsize=(9, 5.8), layout="constrained")
    for column, index in enumerate(LABELLED):
        show(axes[0, column], images[index].image)
        for row, objects in ((1, images[index].instances), (2, maps[index].instances)):
            assert objects is not None
            show(axes[row, column], _coloured(objects))
    for row, title in enumerate(("labelled tissue", "its label maps", "recombined")):
        axes[row, 0].set_ylabel(title)
    figure.savefig(HERE / "tissue.jpg", dpi=80, pil_kwargs={"quality": 80})


def _coloured(objects: np.ndarray) -> np.ndarray:
    """Numbers ``(H, W)`` -> ``(H, W, 3)`` uint8: a colour for each, black for none."""
    colours = np.random.default_rng(0).integers(80, 256, (int(objects.max()) + 1, 3), dtype=np.uint8)
    colours[0] = 0
    return colours[objects]


def _found(runs: dict[str, Path], sample: Sample) -> list[np.ndarray]:
    """The masks ``(H, W)`` that `toolkit predict` writes of an image, with each rung's own way to adapt."""
    masks = []
    with TemporaryDirectory() as scratch:
        image = Path(scratch, "a.png")
        write_image(image, sample.image)
        for rung, run in runs.items():
            adapt = rung.rpartition("+")[2] if rung.endswith(("+bn", "+tent")) else "none"
            out = Path(scratch, rung)
            options = ["-o", str(out), "--adapt", adapt, "--device", "cpu", "--rescale", "1", "--no-overlays"]
            subprocess.run([sys.executable, "-m", "transeg", "predict", str(run), str(image), *options], check=True)
            masks.append(np.asarray(Image.open(out / "masks" / "a.png")))
    return masks


def show(axes: Axes, picture: np.ndarray, mask: np.ndarray | None = None) -> None:
    """``(H, W, C)`` uint8, with what is in each class of a mask ``(H, W)`` coloured, whatever values stand for them."""
    axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    classes = [] if mask is None else [value for value in np.unique(mask) if value]
    for value, colour in zip(classes, COLOURS, strict=False):
        axes.imshow(np.ones_like(mask), cmap=ListedColormap([colour]), alpha=0.45 * (mask == value))


if __name__ == "__main__":
    picture, *paths = sys.argv[1:]
    if picture in RUNGS:
        pair(picture, Path(*paths))
    else:
        {"octa": octa, "kvasir": kvasir, "demo": demo, "shifts": shifts, "tissue": tissue}[picture](*map(Path, paths))
