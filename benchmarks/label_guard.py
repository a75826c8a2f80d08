"""Whether the guard finds translations whose labels no longer fit, and whether a segmenter is better without them.

    python benchmarks/label_guard.py --out label_guard.json [--images 200] [--side 64] [--iterations 400] [--seeds 3]

Translations are stand-ins whose truth is known: a scene of the phantom as its clean render, the source, and as the
scope sees it, the translation. Into a share of them faults are injected: everything is shifted, a polyp is removed, or
one is added. Each guard ranks them as strategy.quarantine does: by the shift, by the Dice of a judge that knows the
source alone, and by that of a judge that knows a few labelled target images. Segmenters learn from all of a set and
from what each guard leaves, and are tested on true target images. Prints tables, and writes all numbers as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr

from transeg.cli import main as toolkit
from transeg.core.evaluation.label_survival import LabelSurvival
from transeg.core.evaluation.label_table import LabelTable, worst_labels
from transeg.core.evaluation.metrics.counts import mask_dice
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.plugins.datasets.phantom.appearance import render_clean, render_endoscopic
from transeg.plugins.datasets.phantom.scene import CameraView, Scene, draw_scene, render_view

Fault = Literal["shifted", "removed", "added"]
FAULTS: tuple[Fault, ...] = ("shifted", "removed", "added")
SHIFTS = (0.05, 0.15)
"""Of a side, the shortest and the longest shift."""
VISIBLE = 0.03
"""Share of an image that its polyps fill at least, and that the removed or added one changes."""
FEW = 24
"""Labelled target images that the second judge knows."""
ARMS = ("intact", "all", "shift", "source judge", "target judge", "oracle")
"""What segmenters learn from: the set before faults were injected, the set, and what guards and an oracle leave."""


@dataclass(frozen=True)
class Translation:
    """An image, what stands in for its translation, and the label of the one beside the truth of the other.

    Attributes:
        image: ``(H, W, 3)`` uint8, of the source.
        intact: ``(H, W, 3)`` uint8, a translation that keeps its label.
        translated: the same with its fault.
        label: ``(H, W)`` uint8.
        truth: likewise, of ``translated``.
        fault: what was injected; None for nothing.
    """

    image: np.ndarray
    intact: np.ndarray
    translated: np.ndarray
    label: np.ndarray
    truth: np.ndarray
    fault: Fault | None

    @property
    def error(self) -> float:
        """1 - Dice of the label."""
        label, truth = (torch.from_numpy(mask.astype(np.int64)) for mask in (self.label, self.truth))
        return 1 - mask_dice(label, truth, 2)


def translation(key: Sequence[int], side: int, fault: Fault | None) -> Translation:
    """A scene that is drawn until its polyps, and its fault, are to be seen."""
    rng = np.random.default_rng(key)
    while True:
        scene = draw_scene(rng)
        view = render_view(scene, side)
        changed = _without_a_polyp(scene, rng) if fault == "removed" else scene
        changed = _with_another_polyp(scene, rng) if fault == "added" else changed
        after = view if changed is scene else render_view(changed, side)
        differs = (after.polyp != view.polyp).mean() >= VISIBLE or changed is scene
        if view.polyp.mean() >= VISIBLE and differs:
            break
    look = int(rng.integers(2**32))
    intact, translated = (_endoscopic(each, look) for each in (view, after))
    truth = after.polyp.astype(np.uint8)
    if fault == "shifted":
        translated, truth = _shifted(rng, side, translated, truth)
    label = view.polyp.astype(np.uint8)
    return Translation(_bytes(render_clean(view, rng)), intact, translated, label, truth, fault)


def translations(seed: int, count: int, side: int, faulty: float) -> dict[str, Translation]:
    """A set of them by name, with as many faults of each kind as can be, in random order."""
    kinds: list[Fault | None] = [FAULTS[index % len(FAULTS)] for index in range(round(faulty * count))]
    kinds += [None] * (count - len(kinds))
    order = np.random.default_rng((seed, 0)).permutation(count)
    return {f"{place:04d}": translation((seed, 1, place), side, kinds[index]) for place, index in enumerate(order)}


def guarded(found: Mapping[str, LabelSurvival], folder: Path, *, by_dice: bool) -> dict[str, Mapping[str, str]]:
    """The lines that the table of labels has of them, as `sequential` writes and reads it."""
    table = LabelTable(folder / "labels.csv")
    table.begin()
    for name, survival in found.items():
        table.add("train", name, survival if by_dice else replace(survival, dice=None))
    return {key.removeprefix("train/"): line for key, line in table.read().items()}


def ranking(badness: Mapping[str, float], worst: set[str], made: Mapping[str, Translation]) -> dict[str, Any]:
    """How well a guard's numbers follow the true error, and which faults are among what it calls worst."""
    errors = [each.error for each in made.values()]
    found: dict[str, Any] = {"spearman": float(spearmanr([badness[name] for name in made], errors).statistic)}
    for kind in (None, *FAULTS):
        names = {name for name, each in made.items() if each.fault is not None and kind in (None, each.fault)}
        found["found" if kind is None else f"found_{kind}"] = len(names & worst) / len(names) if names else None
    return found


def trained(folder: Path, source: str, options: argparse.Namespace, seed: int, *settings: str) -> float:
    """Train a small segmenter; its Dice on true target images."""
    line = ["run", "--segmenter", "unet", "--source", source, "--test", "phantom:scope", "--val", "phantom:scope"]
    line += ["--run-dir", str(folder), "--seed", str(seed), "--device", "cpu", "--set", "segmenter.base=8"]
    line += [f"data.size={options.side}", f"data.test.phantom.side={options.side}", f"data.val.side={options.side}"]
    line += [f"data.test.phantom.count={5 * options.tests}", "data.val.count=10", "data.workers=0", *settings]
    line += [f"train.iterations={options.iterations}", f"train.val_interval={options.iterations}"]
    line += ["train.batch_size=8", "train.lr=0.001", "train.schedule=cosine"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        toolkit(line, standalone_mode=False)
    return float(json.loads((folder / "metrics.json").read_text())["tests"]["phantom"]["dice"])


def measure_set(
    seed: int, judges: Mapping[str, TrainedModel], folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """A faulty set: how guards rank it, and what segmenters make of what these leave."""
    made = translations(seed, options.images, options.side, options.faulty)
    left_out: dict[str, set[str]] = {"intact": set(), "all": set()}
    guards = {}
    for name in ("shift", *judges):
        judge = judges.get(name)
        found = {key: LabelSurvival.of(each.image, each.translated, each.label, judge) for key, each in made.items()}
        lines = guarded(found, folder / name, by_dice=judge is not None)
        left_out[name] = worst_labels(lines, options.quarantine)
        guards[name] = ranking(
            {key: _badness(each, judge is not None) for key, each in found.items()}, left_out[name], made
        )
    by_error = sorted(made, key=lambda name: -made[name].error)
    left_out["oracle"] = set(by_error[: int(options.quarantine * len(made))])
    dice = {}
    for arm in options.arms:
        data = folder / arm / "data"
        for key, each in made.items():
            if key not in left_out[arm]:
                _write(data, key, each.intact if arm == "intact" else each.translated, each.label)
        dice[arm] = trained(folder / arm / "run", f"folder:{data}", options, seed, "data.source.split=all")
    errors = {kind: [each.error for each in made.values() if each.fault == kind] for kind in FAULTS}
    return {
        "seed": seed,
        "errors": {kind: float(np.mean(of_kind)) if of_kind else None for kind, of_kind in errors.items()},
        "guards": guards,
        "dice": dice,
    }


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Everything, after each set."""
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        folder, side = Path(scratch), f"data.source.side={options.side}"
        sources = {
            "source judge": ("phantom:clean", side, f"data.source.count={options.images}"),
            "target judge": ("phantom:scope", side, f"data.source.count={FEW}"),
        }
        alone = {
            name: trained(folder / name, source, options, 100, *settings)
            for name, (source, *settings) in sources.items()
        }
        judges = {name: TrainedModel.load(RunFolder(folder / name), Registry(), "cpu") for name in sources}
        shown = {
            name: getattr(options, name) for name in ("images", "side", "faulty", "quarantine", "iterations", "tests")
        }
        sets = []
        for seed in range(options.seeds):
            sets.append(measure_set(seed, judges, folder / str(seed), options))
            yield {"options": shown, "judges": alone, "sets": sets, "cpu_seconds": time.process_time() - begin}


def show(found: Mapping[str, Any]) -> None:
    """Means and ranges over the sets."""
    for name, dice in found["judges"].items():
        print(f"Dice of the {name} on true target images: {dice:.3f}")
    columns = ["spearman", "found", *(f"found_{kind}" for kind in FAULTS)]
    print("\n| guard | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for guard in found["sets"][0]["guards"]:
        print(f"| {guard} | " + " | ".join(_spread(found, "guards", guard, column) for column in columns) + " |")
    print("\n| learned from | Dice |\n|---|---|")
    for arm in found["sets"][0]["dice"]:
        print(f"| {arm} | {_spread(found, 'dice', arm)} |")
    print(f"\n{found['cpu_seconds']:.0f} seconds of the processor")


def _spread(found: Mapping[str, Any], *keys: str) -> str:
    values = []
    for each in found["sets"]:
        value = each
        for key in keys:
            value = value[key]
        values.append(value)
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.3f} ({min(known):.3f} to {max(known):.3f})" if known else "-"


def _badness(survival: LabelSurvival, by_dice: bool) -> float:
    """What the guard goes by, more for worse labels; where it knows nothing, labels count as good."""
    if by_dice:
        return 0.0 if survival.dice is None else 1 - survival.dice
    return 0.0 if survival.shift is None else float(np.hypot(*survival.shift))


def _without_a_polyp(scene: Scene, rng: np.random.Generator) -> Scene:
    kept = np.arange(len(scene.radii)) != rng.integers(len(scene.radii))
    return replace(scene, centres=scene.centres[kept], radii=scene.radii[kept])


def _with_another_polyp(scene: Scene, rng: np.random.Generator) -> Scene:
    other = draw_scene(rng)
    centres, radii = np.concatenate([scene.centres, other.centres[:1]]), np.concatenate([scene.radii, other.radii[:1]])
    return replace(scene, centres=centres, radii=radii)


def _shifted(rng: np.random.Generator, side: int, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By whole pixels in any direction; what comes in at an edge is the mirror image."""
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(*SHIFTS) * side
    move = np.array([[1, 0, round(length * np.cos(angle))], [0, 1, round(length * np.sin(angle))]], np.float32)
    moved, truth = (
        cv2.warpAffine(pixels, move, (side, side), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
        for pixels in (image, mask)
    )
    return np.asarray(moved), np.asarray(truth)


def _endoscopic(view: CameraView, look: int) -> np.ndarray:
    return _bytes(render_endoscopic(view, np.random.default_rng(look)))


def _bytes(image: np.ndarray) -> np.ndarray:
    return (image * 255).round().astype(np.uint8)


def _write(root: Path, name: str, image: np.ndarray, label: np.ndarray) -> None:
    for folder, pixels in (("images", image), ("masks", label * 255)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / folder / f"{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("label_guard.json"))
    parser.add_argument("--images", type=int, default=200, help="in each set, and of the source judge")
    parser.add_argument("--side", type=int, default=64, help="in pixels")
    parser.add_argument("--faulty", type=float, default=0.3, help="share of images with a fault")
    parser.add_argument("--quarantine", type=float, default=0.3, help="share of images that guards leave out")
    parser.add_argument("--iterations", type=int, default=400, help="of each training, batch 8")
    parser.add_argument("--seeds", type=int, default=3, help="sets, each with its own trainings")
    parser.add_argument("--tests", type=int, default=100, help="true target images")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, help="what segmenters learn from")
    options = parser.parse_args()
    for found in measure(options):
        options.out.write_text(json.dumps(found, indent=2))
    show(found)


if __name__ == "__main__":
    main()
