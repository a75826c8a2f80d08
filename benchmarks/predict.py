"""Segmenting a folder of images: `toolkit predict` beside a plain loop with the same network, and the network alone.

    python benchmarks/predict.py [--segmenter unet] [--size 352] [--images 20] [--threads 2] [--turns 3] [--cpu-time]

The plain loop is what the documentation of segmentation_models_pytorch shows: read, resize, normalise, one image at
a time through the network without gradients, threshold, resize the mask, write it. Both write the same kind of mask,
ours once with overlays and once without. `network` is the toolkit's network on prepared images. Weights are random;
images are photographs of 1920x1080 pixels as JPEG files, in the page cache. All sides take turns in one process.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from measuring import Side
from pictures import write_photographs

from transeg.core.builders.networks import build_segmenter
from transeg.core.device import keep_freed_memory
from transeg.core.errors import Failures
from transeg.core.experiment.choices import SegmenterChoice
from transeg.core.experiment.completion import complete_experiment
from transeg.core.inference.prediction import predict_files
from transeg.core.inference.reading import Reading
from transeg.core.inference.trained_model import DomainProperties, TrainedModel
from transeg.core.interfaces import Segmenter
from transeg.core.models.fusion import fuse_for_inference
from transeg.core.registry import Registry

HEIGHT, WIDTH = 1080, 1920
CPU = torch.device("cpu")


def trained_with(segmenter: str, size: int | None, options: dict[str, Any]) -> tuple[Segmenter, TrainedModel]:
    """A network of random weights, and the same as `toolkit predict` has it, folded for inference.

    Args:
        segmenter: its name.
        size: that images are resized to; None for their own.
        options: of the segmenter.
    """
    registry = Registry()
    settings = {"segmenter": {"name": segmenter, **options}, "data": {"size": size or 352}}
    experiment = complete_experiment(settings, registry)
    if size is None:
        experiment = experiment.model_copy(update={"data": experiment.data.model_copy(update={"resize": False})})
    choice = experiment.segmenter
    assert isinstance(choice, SegmenterChoice)
    network = build_segmenter(choice, 3, 2, 0, registry, pretrained=False).eval()
    fused = fuse_for_inference(copy.deepcopy(network), 3, CPU)
    return network, TrainedModel(experiment, DomainProperties(("background", "object"), 3, 3), fused, None, CPU, 0)


def plain_loop(network: Segmenter, files: list[Path], out: Path, size: int | None) -> None:
    mean, std = (np.array(values, dtype=np.float32) for values in (network.mean, network.std))
    for file in files:
        image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        given = cv2.resize(image, (size, size)) if size else image
        given = cv2.copyMakeBorder(
            given,
            0,
            -given.shape[0] % network.size_multiple,
            0,
            -given.shape[1] % network.size_multiple,
            cv2.BORDER_REPLICATE,
        )
        normalised = (given.astype(np.float32) / 255 - mean) / std
        with torch.no_grad():
            outputs = network(torch.from_numpy(normalised.transpose(2, 0, 1).copy())[None])
        logits = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
        mask = (logits.sigmoid()[0, 0].numpy() > 0.5).astype(np.uint8) * 255
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) if size else mask[:height, :width]
        cv2.imwrite(str(out / f"{file.stem}.png"), mask)


def ours(trained: TrainedModel, files: list[Path], out: Path, overlays: bool) -> None:
    predict_files(
        trained,
        files,
        out,
        trained.inference(),
        False,
        lambda: None,
        failures=Failures(),
        reading=Reading(),
        overlays=overlays,
    )


def side(which: str, files: list[Path], out: Path, segmenter: str, size: int | None) -> Side:
    """`predict --no-overlays`, or the plain loop, for table.py; the outcome is the share of the object in each mask.

    Args:
        which: `ours` or `theirs`.
        files: to be segmented.
        out: gets the masks.
        segmenter: as for :func:`trained_with`.
        size: likewise.
    """
    if which == "ours":
        keep_freed_memory()  # as `toolkit predict` does
    network, trained = trained_with(segmenter, size, {})
    masks = out / "masks"
    masks.mkdir(parents=True, exist_ok=True)

    def run(files: list[Path]) -> None:
        if which == "ours":
            ours(trained, files, out, overlays=False)
        else:
            plain_loop(network, files, masks, size)

    return Side(lambda: run(files), len(files), lambda: run(files[:1]), lambda: predicted_shares(masks))


def predicted_shares(masks: Path) -> list[float]:
    """Of the object in each mask of a folder, by name."""
    return [float((cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) > 0).mean()) for file in sorted(masks.glob("*.png"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segmenter", default="unet")
    parser.add_argument("--size", type=int, default=352, help="that images are resized to; 0 for their own")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor, for a busy machine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = options.size or None
    network, trained = trained_with(options.segmenter, size, {})
    inference = trained.inference()
    clock = time.process_time if options.cpu_time else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_photographs(root, options.images, HEIGHT, WIDTH)
        files = sorted((root / "images").iterdir())
        prepared = inference.prepare(Reading().image(files[0], 3))

        def alone() -> None:
            for _ in files:
                inference.run(trained.segment, prepared, CPU)

        sides: dict[str, Callable[[], None]] = {
            "network": alone,
            "plain loop": lambda: plain_loop(network, files, root, size),
            "predict --no-overlays": lambda: ours(trained, files, root / "ours", overlays=False),
            "predict": lambda: ours(trained, files, root / "ours", overlays=True),
        }
        alone()
        took: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.turns):
            for name, side in sides.items():
                begin = clock()
                side()
                took[name].append((clock() - begin) / len(files) * 1000)
    of_plain = [took["plain loop"][turn] for turn in range(options.turns)]
    print(f"{options.segmenter}, {size or 'own'} pixels, {options.threads} threads")
    print("| | ms an image | plain loop = 1 |\n|---|---|---|")
    for name, times in took.items():
        ratio = statistics.median(plain / each for plain, each in zip(of_plain, times, strict=True))
        print(f"| {name} | {statistics.median(times):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
