"""`toolkit data verify` and `toolkit data convert` beside plain loops over Pillow, for table.py.

The folder holds photographs as JPEG files and black-and-white masks as PNG files. To verify, the loop opens each image
and its mask, compares their sizes and collects the mask's values; ours also looks at intensities, objects, duplicates
and files that nobody reads. To convert, both write a raw dataset of nnU-Net: PNG files of images and of class numbers.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from measuring import Side


def verify(which: str, folder: Path, one: Path, count: int) -> Side:
    """Every image and mask of a folder; the outcome is how many images there are, and the masks' values.

    Args:
        which: `ours` or `theirs`.
        folder: holds ``images/`` and ``masks/``.
        one: likewise, with a single image, to warm up with.
        count: of the images.
    """
    run = our_check if which == "ours" else plain_check
    found: list[list[float]] = []

    def work() -> None:
        found[:] = [run(folder)]

    return Side(work, count, warm_up=lambda: run(one), outcome=lambda: found[0])


def our_check(folder: Path) -> list[float]:
    from rich.console import Console

    from transeg.core.api.verification import verify_dataset
    from transeg.core.registry import Registry

    report = verify_dataset(f"folder:{folder}", (), Registry(), Console(quiet=True))
    (domain,) = report["domains"].values()
    return [report["images"], *map(float, sorted(map(int, domain["mask_values"])))]


def plain_check(folder: Path) -> list[float]:
    from PIL import Image

    values: set[int] = set()
    files = sorted((folder / "images").iterdir())
    for file in files:
        image = np.asarray(Image.open(file).convert("RGB"))
        mask = np.asarray(Image.open(folder / "masks" / f"{file.stem}.png"))
        if image.shape[:2] != mask.shape:
            raise ValueError(f"{file} and its mask differ in size")
        values |= set(np.unique(mask).tolist())
    return [len(files), *map(float, sorted(values))]


def convert(which: str, folder: Path, one: Path, count: int, out: Path) -> Side:
    """A folder into a raw dataset of nnU-Net; the outcome is the mean of each image and of each mask that was written.

    Args:
        which: `ours` or `theirs`.
        folder: as for :func:`verify`.
        one: likewise.
        count: likewise.
        out: what is written, anew each time.
    """

    def run(origin: Path) -> None:
        shutil.rmtree(out, ignore_errors=True)
        (our_conversion if which == "ours" else plain_conversion)(origin, out)

    return Side(lambda: run(folder), count, warm_up=lambda: run(one), outcome=lambda: means(out))


def our_conversion(folder: Path, out: Path) -> None:
    from rich.console import Console

    from transeg.core.registry import Registry
    from transeg.tools.data.convert import convert_dataset

    convert_dataset(f"folder:{folder}", f"nnunet:{out}", (), Registry(), Console(quiet=True))


def plain_conversion(folder: Path, out: Path) -> None:
    from PIL import Image

    for kind in ("imagesTr", "labelsTr"):
        (out / kind).mkdir(parents=True)
    for file in sorted((folder / "images").iterdir()):
        Image.open(file).convert("RGB").save(out / "imagesTr" / f"{file.stem}_0000.png")
        mask = np.asarray(Image.open(folder / "masks" / f"{file.stem}.png"))
        Image.fromarray((mask > 127).astype(np.uint8)).save(out / "labelsTr" / f"{file.stem}.png")


def means(out: Path) -> list[float]:
    """Of the pixels of each file, by name."""
    from PIL import Image

    files = sorted(out.rglob("*.png"), key=lambda file: file.name)
    return [float(np.asarray(Image.open(file)).mean()) for file in files]
