"""Images per second of a data loader, beside the published ones and torchvision's.

    python benchmarks/data.py --root KVASIR --reference NAME=DIR [--reference NAME=DIR]

KVASIR holds `images/` and `masks/`. DIR is a checkout of `hardnet-mseg`, james128333/HarDNet-MSEG (images resized to
352x352, rotated, mirrored; torchvision does the same beside them) or of `zh320`, zh320/medical-segmentation-pytorch
(crops of 352x352 out of images scaled by 0.5 to 2, colours, mirrored); this project holds none of their code. The
sides take turns, each in a fresh process that is kept to the same cores and has the same number of workers. Printed are
the median and the range over the turns of images per second, in the first epoch and in later ones, and of the ratios
turn by turn: by the clock, and without workers by CPU seconds, which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from measuring import answer, checkouts, stdout_for_answers, summary

SIDES = {
    "hardnet-mseg": ["ours", "ours, kept", "ours, kept, scaled", "torchvision", "reference"],
    "zh320": ["ours", "ours, kept", "ours, kept, scaled", "reference"],
}

Epochs = Callable[[], Iterator[int]]
"""Goes through the data again and again, and yields the number of images in each batch; 0 ends an epoch."""


def ours(folder: Path, case: str, side: str, arguments: argparse.Namespace) -> Epochs:
    """The toolkit's loader: batches of 8 bits, which are scaled on the device, here if ``side`` says so."""
    import torch

    from transeg.core.data.cache import SampleCache
    from transeg.core.data.stream import (
        SOURCE,
        Collate,
        ResumableBatchSampler,
        TrainingDataset,
        TrainingDomain,
        training_loader,
    )
    from transeg.core.experiment.augmentation_presets import PRESETS
    from transeg.core.training.tasks.task import to_device
    from transeg.plugins.datasets.polyps import Kvasir

    cache = SampleCache(folder / "cache", 10**11) if "kept" in side else None
    preset = {"hardnet-mseg": "polyp", "zh320": "zh320"}[case]
    domain = TrainingDomain(
        Kvasir(folder / "ours", "all"),
        SOURCE,
        seed=0,
        limit=0,
        sampling="shuffle",
        load_size=arguments.size if case == "hardnet-mseg" else None,
        size=arguments.size,
        transforms=PRESETS[preset],
        cache=cache,
    )
    length = len(list((folder / "ours" / "images").iterdir())) // arguments.batch
    cpu = torch.device("cpu")
    loader = training_loader(
        TrainingDataset(domain, None),
        ResumableBatchSampler(length * arguments.epochs, arguments.batch, 0, 1),
        Collate(0, arguments.batch),
        workers=arguments.workers,
        device=cpu,
    )

    def epochs() -> Iterator[int]:
        for number, batch in enumerate(loader, 1):
            if "scaled" in side:
                to_device(batch, cpu)
            yield len(batch.source)
            if number % length == 0:
                yield 0

    return epochs


def through(loader: Any, count: int) -> Epochs:
    """An ordinary loader, epoch by epoch."""

    def epochs() -> Iterator[int]:
        for _ in range(count):
            for images, *_ in loader:
                yield len(images)
            yield 0

    return epochs


def by_torchvision(folder: Path, arguments: argparse.Namespace) -> Epochs:
    """What torchvision's manual shows: images and masks by Pillow, transformed together."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.Resize((arguments.size, arguments.size)),
            v2.RandomRotation(90),
            v2.RandomVerticalFlip(),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )

    class Images(Dataset[Any]):
        files = sorted((folder / "ours" / "images").iterdir())

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, index: int) -> Any:
            path = self.files[index]
            image = tv_tensors.Image(Image.open(path).convert("RGB"))
            mask = tv_tensors.Mask(Image.open(path.parent.with_name("masks") / path.name).convert("L"))
            image, mask = transform(image, mask)
            return image, mask > 127

    loader = DataLoader(
        Images(), arguments.batch, shuffle=True, num_workers=arguments.workers, pin_memory=False, drop_last=True
    )
    return through(loader, arguments.epochs)


def published(checkout: Path, folder: Path, case: str, arguments: argparse.Namespace) -> Epochs:
    """The loader of a checkout, with its own settings."""
    sys.path.insert(0, str(checkout))
    if case == "hardnet-mseg":
        from torchvision import transforms

        rotation = transforms.RandomRotation
        gone = ("resample", "fill")  # of which it says what has become the default
        transforms.RandomRotation = lambda degrees, **options: rotation(
            degrees, **{name: value for name, value in options.items() if name not in gone}
        )
        from utils.dataloader import get_loader  # type: ignore[import-not-found]

        loader = get_loader(
            f"{folder}/png/images/", f"{folder}/png/masks/", arguments.batch, arguments.size,
            num_workers=arguments.workers, pin_memory=False, augmentation="True",
        )  # fmt: skip
        return through(loader, arguments.epochs)
    from datasets import get_loader as get_polyps  # type: ignore[import-not-found]

    config = SimpleNamespace(
        dataset="polyp", data_root=str(folder / "zh320"), train_bs=arguments.batch, num_workers=arguments.workers,
        DDP=False, crop_h=arguments.size, crop_w=arguments.size, randscale=[-0.5, 1.0], brightness=0.5, contrast=0.5,
        saturation=0.5, h_flip=0.5, v_flip=0.5,
    )  # fmt: skip
    return through(get_polyps(config, 0, "train"), arguments.epochs)


def child(arguments: argparse.Namespace) -> None:
    """Measure one side; prints seconds by the clock, CPU seconds and images of each epoch."""
    answers = stdout_for_answers()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    import torch

    torch.set_num_threads(arguments.cores)
    torch.manual_seed(0)
    random.seed(0)
    if arguments.child.startswith("ours"):
        epochs = ours(arguments.root, arguments.case, arguments.child, arguments)
    elif arguments.child == "torchvision":
        epochs = by_torchvision(arguments.root, arguments)
    else:
        epochs = published(arguments.checkout, arguments.root, arguments.case, arguments)
    measured, images = [], 0
    clock, cpu = time.perf_counter(), time.process_time()
    for count in epochs():
        images += count
        if count == 0:
            measured.append([time.perf_counter() - clock, time.process_time() - cpu, images])
            clock, cpu, images = time.perf_counter(), time.process_time(), 0
    print(json.dumps(measured), file=answers)


def prepare(root: Path, folder: Path) -> None:
    """The images as each side wants them."""
    from PIL import Image

    for place in ("ours", "zh320/train", "png"):
        for kind in ("images", "masks"):
            (folder / place / kind).mkdir(parents=True)
    for path in sorted((root / "images").glob("*.jpg")):
        mask = root / "masks" / path.name
        for place in ("ours", "zh320/train"):
            (folder / place / "images" / path.name).symlink_to(path)
            (folder / place / "masks" / path.name).symlink_to(mask)
        (folder / "png" / "images" / path.name).symlink_to(path)
        Image.open(mask).convert("L").save(folder / "png" / "masks" / f"{path.stem}.png")  # it reads no others


def measure(side: str, checkout: Path, case: str, root: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Images per second of one side, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for part in root.iterdir():
            (place / part.name).symlink_to(part)
        options = {"--child": side, "--case": case, "--checkout": checkout, "--root": place}
        options |= {f"--{name}": getattr(arguments, name) for name in ("size", "batch", "workers", "cores", "epochs")}
        first, *later = answer([__file__, *(part for option in options.items() for part in option)])
    clock, cpu, images = (sum(epoch[part] for epoch in later) for part in range(3))
    rates = {"first": first[2] / first[0], "later": images / clock}
    if arguments.workers == 0:
        rates |= {"first, CPU": first[2] / first[1], "later, CPU": images / cpu}
    return rates


def compare(checkout: Path, case: str, root: Path, arguments: argparse.Namespace) -> None:
    """Measure all sides in turn and print a line for each."""
    sides = SIDES[case]
    turns = [{side: measure(side, checkout, case, root, arguments) for side in sides} for _ in range(arguments.turns)]
    for side in sides:
        shown = []
        for key in turns[0][side]:
            rates = [turn[side][key] for turn in turns]
            ratios = [turn[side][key] / turn["reference"][key] for turn in turns]
            shown.append(f"{key} {summary(rates, 0)}/s, ratio {summary(ratios, 2)}")
        print(f"{case:13} {side:19} {'   '.join(shown)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, type=Path, help="holds images/ and masks/ of Kvasir-SEG")
    parser.add_argument("--reference", action="append", required=True, metavar="NAME=DIR", help="repeatable")
    parser.add_argument("--size", type=int, default=352)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--turns", type=int, default=3, help="of each side")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--checkout", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    if arguments.epochs < 2:
        raise SystemExit("The first epoch is measured apart; say --epochs 2 or more.")
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        prepare(arguments.root.resolve(), Path(folder))
        for case, checkout in checkouts(arguments.reference, tuple(SIDES)).items():
            compare(checkout, case, Path(folder), arguments)


if __name__ == "__main__":
    main()
