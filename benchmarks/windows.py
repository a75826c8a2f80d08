"""Windows on images: cut on the fly beside patch files, and a slide larger than memory.

    python benchmarks/windows.py patches [--images FOLDER --masks FOLDER]
    python benchmarks/windows.py slide [--sizes 2000 4000 15855] [--whole 4000]

`patches` trains nothing: it reads windows of 128 pixels, 20 apart, in random order, the way of the tutorial
segmentation_revisit (cut every window out, write it and its mask as PNG, read them back) and ours (an index, images
decoded once). Without a folder it makes images of 512 pixels that look like stained tissue. Printed are windows per
second in an epoch, the seconds before the first window, bytes on disk, and peak memory above what the imports take.

`slide` writes tiled JPEG TIFFs of each size, and segments them with `toolkit predict` and a small U-Net in windows of
512 pixels; `--whole` does so with the whole image in memory. Printed are the seconds and peak memory.

Each measurement has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import answer, peak_memory

if TYPE_CHECKING:
    import numpy as np

TILE, STRIDE = 128, 20
LINE = "{:>10}  {:>12}  {:>16}  {:>12}  {:>12}"


def tissue(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Purple disks on pink: an image ``(H, W, 3)`` and its mask, uint8."""
    import cv2
    import numpy as np

    mask = np.zeros((height, width), np.uint8)
    for _ in range(height * width // 2500):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(mask, centre, int(rng.integers(6, 14)), 255, -1)
    ground = cv2.resize(rng.integers(0, 40, (height // 16 + 1, width // 16 + 1, 1), dtype=np.uint8), (width, height))
    colour = np.where(mask[:, :, None] > 0, np.uint8([110, 70, 150]), np.uint8([215, 165, 195]))
    return colour + ground[:, :, None] + rng.integers(0, 15, (height, width, 1), dtype=np.uint8), mask


def peak_mb() -> float:
    return peak_memory() / 2**20


def read_windows(side: str, images: str, masks: str, folder: str, epochs: int) -> dict[str, float]:
    """Every window a number of times, from one process; and what it took."""
    import cv2
    import numpy as np

    from transeg.core.data.file_dataset import FileDataset, list_pairs
    from transeg.core.data.stream import SOURCE, TrainingDomain
    from transeg.core.data.windows import Windows, sampling_pools
    from transeg.core.interfaces import Dataset, Sample

    class Patches(Dataset):
        """What the tutorial leaves on the disk; names have a separator, so that none is lost."""

        def __init__(self, dataset: Dataset) -> None:
            self.names = []
            for index in range(len(dataset)):
                sample = dataset[index]
                for top in range(0, sample.size[0] - TILE + 1, STRIDE):
                    for left in range(0, sample.size[1] - TILE + 1, STRIDE):
                        place = np.s_[top : top + TILE, left : left + TILE]
                        name = f"{folder}/{sample.name}_{top}_{left}"
                        cv2.imwrite(f"{name}_rgb.png", cv2.cvtColor(sample.image[place], cv2.COLOR_RGB2BGR))
                        cv2.imwrite(f"{name}_mask.png", sample.mask[place] * 255)  # type: ignore[index]
                        self.names.append(name)

        def __len__(self) -> int:
            return len(self.names)

        def __getitem__(self, index: int) -> Sample:
            name = self.names[index]
            image = cv2.cvtColor(cv2.imread(f"{name}_rgb.png"), cv2.COLOR_BGR2RGB)
            mask = cv2.imread(f"{name}_mask.png", cv2.IMREAD_GRAYSCALE)
            return Sample(image, (mask > 127).astype(np.uint8), name, name)

    before = peak_mb()
    start = time.perf_counter()
    dataset: Dataset = FileDataset(list_pairs(Path(images), Path(masks))[0])
    windows, drawn = None, []
    if side == "ours":
        windows = Windows([dataset.size_of(index) for index in range(len(dataset))], TILE, STRIDE)
        drawn = sampling_pools(dataset, windows, "position", lambda: None)
        count = len(windows)
    else:
        dataset = Patches(dataset)
        count = len(dataset)
    domain = TrainingDomain(
        dataset, SOURCE, seed=0, limit=0, sampling="shuffle", load_size=None, size=TILE, transforms=(),
        windows=windows, pools=drawn,
    )  # fmt: skip
    prepared = time.perf_counter() - start
    start = time.perf_counter()
    for position in range(count * epochs):
        domain[position]
    seconds = time.perf_counter() - start
    disk = sum(file.stat().st_size for file in Path(folder).iterdir())
    return {
        "windows": count,
        "per second": count * epochs / seconds,
        "before": prepared,
        "disk": disk / 1e6,
        "memory": peak_mb() - before,
    }


def patches(arguments: argparse.Namespace) -> None:
    import numpy as np

    from transeg.core.data.images import write_image

    with tempfile.TemporaryDirectory() as scratch:
        images, masks = arguments.images, arguments.masks
        if images is None:
            images, masks = Path(scratch, "images"), Path(scratch, "masks")
            for number in range(28):
                image, mask = tissue(np.random.default_rng(number), 512, 512)
                write_image(images / f"{number}.tif", image)
                write_image(masks / f"{number}.png", mask)
        print(LINE.format("", "windows/s", "seconds before", "disk, MB", "memory, MB"))
        for turn in range(arguments.turns):
            for side in ("tutorial", "ours"):
                folder = Path(scratch, f"{side}{turn}")
                folder.mkdir()
                found = answer([__file__, "child", "windows", side, images, masks, folder, arguments.epochs])
                numbers = (f"{found[key]:,.1f}" for key in ("per second", "before", "disk", "memory"))
                print(LINE.format(side, *numbers), f" {found['windows']:,.0f} windows, {arguments.epochs} epochs")


def slide_tiles(size: int) -> Iterator[np.ndarray]:
    """Rows of tiles of 256 pixels; the same few pictures again and again, since this is no test of the generator."""
    import numpy as np

    known = [tissue(np.random.default_rng(number), 256, 256)[0] for number in range(64)]
    rng = np.random.default_rng(0)
    for _ in range((-(-size // 256)) ** 2):
        yield known[int(rng.integers(64))]


def slide(arguments: argparse.Namespace) -> None:
    import numpy as np
    import tifffile

    from transeg.core.data.images import write_image

    with tempfile.TemporaryDirectory() as scratch:
        for number in range(10):
            image, mask = tissue(np.random.default_rng(number), 256, 256)
            write_image(Path(scratch, "set", "images", f"{number}.png"), image)
            write_image(Path(scratch, "set", "masks", f"{number}.png"), mask)
        run = Path(scratch, "run")
        settings = ["data.tile=128", "segmenter.base=4", "train.iterations=30", "train.batch_size=4"]
        options = [part for setting in settings for part in ("--set", setting)]
        line = ["run", "--segmenter", "unet", "--source", f"folder:{scratch}/set", "--run-dir", str(run), *options]
        subprocess.run([sys.executable, "-m", "transeg", *line, "--device", "cpu"], check=True, capture_output=True)
        print(LINE.format("", "in memory", "pixels", "seconds", "peak, MB"))
        for whole, size in [*((False, s) for s in arguments.sizes), *((True, s) for s in arguments.whole)]:
            path = Path(scratch, f"{size}.tif")
            if not path.exists():
                tifffile.imwrite(
                    path, slide_tiles(size), shape=(size, size, 3), dtype=np.uint8, tile=(256, 256),
                    photometric="rgb", compression="jpeg",
                )  # fmt: skip
            found = answer([__file__, "child", "predict", run, path, Path(scratch, "out"), int(whole)])
            place = "whole image" if whole else "a band"
            print(LINE.format("predict", place, f"{size:,}^2", f"{found['seconds']:.0f}", f"{found['peak']:,.0f}"))


def predict(run: str, image: str, out: str, whole: str) -> dict[str, float]:
    """`toolkit predict`, and the peak memory of this process."""
    from transeg.cli import main
    from transeg.core.inference import large_image

    large_image.LARGE = 2**62 if whole == "1" else 0
    start = time.perf_counter()
    arguments = ["predict", run, image, "-o", out, "--window", "512", "--device", "cpu"]
    main(arguments, standalone_mode=False)
    return {"seconds": time.perf_counter() - start, "peak": peak_mb()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("patches")
    one.add_argument("--images", type=Path)
    one.add_argument("--masks", type=Path)
    one.add_argument("--epochs", type=int, default=2)
    one.add_argument("--turns", type=int, default=3)
    two = parts.add_parser("slide")
    two.add_argument("--sizes", type=int, nargs="+", default=[2000, 4000, 15855])
    two.add_argument("--whole", type=int, nargs="*", default=[])
    three = parts.add_parser("child")
    three.add_argument("arguments", nargs="+")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    if arguments.part == "patches":
        patches(arguments)
    elif arguments.part == "slide":
        slide(arguments)
    else:
        kind, *rest = arguments.arguments
        print(json.dumps(predict(*rest) if kind == "predict" else read_windows(*rest[:4], int(rest[4]))))


if __name__ == "__main__":
    main()
