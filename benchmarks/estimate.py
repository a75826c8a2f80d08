"""How near the Dice that is estimated without labels is to the true one, over all finished cells of ladders.

    python benchmarks/estimate.py LADDER... --out FILE.json

Each cell is calibrated on what it has held out of its source, as `toolkit predict --estimate` does it, and its test
images are segmented again, as they were tested. True Dice is what the cell's own evaluation has written. Nothing but
FILE is written: means and intervals of each cell and test set, a line for each of their images, and for each ladder and
all together how the estimates fit. Three measures are compared: `estimated`; `uncalibrated`, the same from the
probabilities as the network gives them; and `agreement` of the segmenter and the average of its weights (or what that
was taken of), where both were kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from transeg.core.api.dice_estimates import agreement_of_weights, held_out_images, held_out_results, mean_of_classes
from transeg.core.api.run_networks import load_trained
from transeg.core.builders.datasets import build_nonempty, normalise_stain
from transeg.core.errors import TransegError
from transeg.core.evaluation.comparison import evaluation_files, read_lines
from transeg.core.evaluation.evaluation_items import EvaluationSet
from transeg.core.evaluation.expected_dice import Calibration
from transeg.core.evaluation.statistics import bootstrap_intervals, interval_ends
from transeg.core.files import write_json
from transeg.core.inference.adaptation import BatchNormAdaptation, evenly
from transeg.core.inference.sliding_window import resize_result
from transeg.core.inference.trained_model import stored_experiment, with_other_average
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.tools.sweep.sweep_folder import read_sweep

MEASURES = ("estimated", "uncalibrated", "agreement")
WIDTH = 150
"""Characters of the tables where there is no terminal."""
FEW = 3
"""Points that a correlation needs at least."""


def estimate_cell(folder: RunFolder, registry: Registry, device: str, most: int) -> dict[str, list[dict[str, Any]]]:
    """Of each test set of a run, a line for each image: `name`, `group`, `true` and the measures, None where undefined.

    Raises:
        TransegError: the run cannot be calibrated, or read.
    """
    method = stored_experiment(folder, registry).test_adaptation
    trained = load_trained(folder, registry, device, layers=method != "none")
    inference = trained.inference()
    adapting = None if method == "none" else BatchNormAdaptation(trained, method, inference)
    held_out = held_out_images(trained, folder, registry)
    calibration = Calibration.learn(held_out_results(trained, held_out, inference, adapting=adapting))
    plain = Calibration((1.0,) * len(calibration.temperatures), calibration.always)
    other = with_other_average(trained, folder, registry) if adapting is None else None
    files, found = evaluation_files(folder.path), {}
    for label, choice in trained.experiment.data.test.items():
        dataset = normalise_stain(build_nonempty(choice, "test", registry, label), trained.experiment.data)
        follow = None if adapting is None else adapting.following(dataset)
        items, truth, lines = EvaluationSet(dataset, inference), read_lines(files[label], ["dice"]), []
        for place in evenly(len(items), most or len(items)):
            item = items[place]
            if follow is not None:
                follow(item.group)
            logits = resize_result(inference.run(trained.segment, item.image, trained.device), *item.mask.shape)
            values = {
                "true": float(truth[item.name]["dice"] or "nan"),
                "estimated": mean_of_classes(calibration.expected_dice(logits)),
                "uncalibrated": mean_of_classes(plain.expected_dice(logits)),
                "agreement": np.nan if other is None else agreement_of_weights(other, inference, item.image, logits),
            }
            lines.append({"name": item.name, "group": item.group} | {k: defined(v) for k, v in values.items()})
        found[label] = lines
    return found


def defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def column(lines: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    return np.array([np.nan if line[key] is None else line[key] for line in lines], dtype=np.float64)


def summarise_cell(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of a test set; of each measure the interval over images, and how it fits image by image."""
    groups, true = [line["group"] for line in lines], column(lines, "true")
    result: dict[str, Any] = {"images": len(lines), "true": defined(mean_of_classes(true))}
    for measure in MEASURES:
        values = column(lines, measure)
        result[measure] = {
            "mean": defined(mean_of_classes(values)),
            "ci": interval_ends(bootstrap_intervals(values[:, None], groups)[0]),
            "undefined": int(np.isnan(values).sum()),
            "of_images": fit(values, true),
        }
    return result


def fit(values: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """How a measure fits the truth: correlations, mean absolute difference, mean difference; None where undefined."""
    both = ~np.isnan(values) & ~np.isnan(true)
    values, true = values[both], true[both]
    result: dict[str, Any] = {"points": len(true), "pearson": None, "spearman": None, "mae": None, "bias": None}
    if len(true):
        result |= {"mae": float(np.abs(values - true).mean()), "bias": float((values - true).mean())}
    if len(true) >= FEW and np.ptp(values) > 0 and np.ptp(true) > 0:
        result["pearson"] = float(stats.pearsonr(values, true).statistic)
        result["spearman"] = float(stats.spearmanr(values, true).statistic)
    return result


def summarise_cells(cells: Sequence[Mapping[str, Any]], bound: float) -> dict[str, Any]:
    """How each measure fits over test sets of cells, and on average over the images within one.

    `holds`: share of those whose interval holds the true mean. `trusted_wrongly` and `refused_wrongly`: how many are
    below the bound in truth and not by the measure, and the other way round.
    """
    true = column(cells, "true")
    result = {}
    for measure in MEASURES:
        of_cells = [cell[measure] for cell in cells]
        means = column(of_cells, "mean")
        known = ~np.isnan(means) & ~np.isnan(true)
        held = [
            each["ci"][0] <= cell["true"] <= each["ci"][1]
            for each, cell in zip(of_cells, cells, strict=True)
            if each["ci"] is not None and cell["true"] is not None
        ]
        within = [each["of_images"] for each in of_cells]
        result[measure] = {
            **fit(means, true),
            "holds": float(np.mean(held)) if held else None,
            "trusted_wrongly": int((known & (true < bound) & (means >= bound)).sum()),
            "refused_wrongly": int((known & (true >= bound) & (means < bound)).sum()),
            "within_cells": {
                key: defined(mean_of_classes(column(within, key))) for key in ("pearson", "spearman", "mae")
            },
        }
    return result


def show_cells(cells: Sequence[Mapping[str, Any]], console: Console) -> None:
    table = Table("ladder", "cell", "test", "images", "true", "estimated [95 %]", "uncalibrated", "agreement")
    for cell in cells:
        ends = cell["estimated"]["ci"]
        interval = "" if ends is None else " [{:.3f}, {:.3f}]".format(*ends)
        shown = [number(cell[measure]["mean"]) for measure in MEASURES]
        table.add_row(
            cell["ladder"], cell["cell"], cell["test"], str(cell["images"]), number(cell["true"]),
            shown[0] + interval, *shown[1:],
        )  # fmt: skip
    console.print(table)


def show_fits(fits: Mapping[str, Mapping[str, Any]], bound: float, console: Console) -> None:
    head = ["ladder", "measure", "test sets", "Pearson", "Spearman", "MAE", "bias", "interval holds"]
    head += ["trusted", "refused", "Pearson", "Spearman", "MAE"]
    about = "Over test sets of cells; trusted and refused wrongly at a bound of"
    table = Table(*head, title=f"{about} {bound:g}; the last three over the images within each")
    for name, measures in fits.items():
        for measure, found in measures.items():
            numbers = [number(found[key]) for key in ("pearson", "spearman", "mae", "bias")]
            held = "" if found["holds"] is None else f"{found['holds']:.0%}"
            wrong = [str(found[f"{what}_wrongly"]) for what in ("trusted", "refused")]
            within = [number(value) for value in found["within_cells"].values()]
            table.add_row(name, measure, str(found["points"]), *numbers, held, *wrong, *within)
    console.print(table)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ladders", nargs="+", type=Path, metavar="LADDER")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE")
    parser.add_argument("--images", type=int, default=0, help="of each test set at most, evenly; by default all")
    parser.add_argument("--bound", type=float, default=0.7, help="Dice below which masks are of no use (0.7)")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    console, registry = Console(), Registry()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    cells: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for ladder in arguments.ladders:
        name = ladder.resolve().name
        for cell in read_sweep(ladder).cells:
            if not cell.folder.metrics.exists():  # to ask for more would hold the locks of a ladder that is trained
                left_out[f"{name}/{cell.name}"] = "It is not finished."
                continue
            try:
                of_tests = estimate_cell(cell.folder, registry, arguments.device, arguments.images)
            except TransegError as error:
                left_out[f"{name}/{cell.name}"] = str(error)
                continue
            for label, lines in of_tests.items():
                cells.append(
                    {"ladder": name, "cell": cell.name, "test": label, **summarise_cell(lines), "lines": lines}
                )
            console.print(f"{name}/{cell.name}", highlight=False)
    names = list(dict.fromkeys(cell["ladder"] for cell in cells))
    fits = {
        name: summarise_cells([cell for cell in cells if cell["ladder"] == name], arguments.bound) for name in names
    }
    if len(names) > 1:
        fits["all"] = summarise_cells(cells, arguments.bound)
    write_json(arguments.out, {"bound": arguments.bound, "fits": fits, "cells": cells, "left_out": left_out})
    show_cells(cells, console)
    show_fits(fits, arguments.bound, console)
    for place, reason in left_out.items():
        console.print(f"Left out: {place}: {reason}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
