"""What has come of a ladder: each rung's scores, and its share of the gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transeg.core.evaluation.comparison import Lines, evaluation_files, read_lines
from transeg.core.evaluation.gap import METRICS, shares_of_gap
from transeg.core.evaluation.image_values import image_values, shared_images
from transeg.core.evaluation.metrics.table import Rows, is_lower_better
from transeg.core.files import read_json
from transeg.core.runs.run_folder import RunFolder
from transeg.tools.ladder.regret import mean_regrets
from transeg.tools.ladder.rungs import HIGHEST, LOWEST, RIVAL, parse_rung
from transeg.tools.sweep.sweep_folder import Cell, Sweep


def ladder_path(path: Path) -> Path:
    """The file in a ladder's folder that says what has come of it."""
    return path / "ladder.json"


def ladder_results(sweep: Sweep, left_out: Mapping[str, str], rows: Rows) -> dict[str, Any]:
    """All there is to say by now.

    Args:
        sweep: whose cells are the rungs, each with each seed.
        left_out: why rungs are not there.
        rows: what is known of metrics.

    Returns:
        ``rungs``: of each, in the order of a table, ``learns_from``; ``runs``, its folders by seed, those that are
        done; ``seconds`` that a run took on average, None before one is done; ``selection``, what chose its
        checkpoint; and for `few` ``drawn``, the groups of its labelled target images by seed. ``left_out``.
        ``cells``: of each ``name``, ``state``, and ``reason`` where it has failed. ``tests``: by test set and metric,
        see :func:`~transeg.core.evaluation.gap.shares_of_gap`; empty before the lowest rung is done. ``over_rival``: by
        test set and rung how far its Dice is above that of `source-strong`, ``difference`` and its interval ``ci``;
        where that has been trained. ``regret``, see
        :func:`~transeg.tools.ladder.regret.mean_regrets`.
    """
    rungs: dict[str, Any] = {}
    folders: dict[str, list[RunFolder]] = {}
    for name, cells in _by_rung(sweep).items():
        done = {cell.values["seed"].removeprefix("seed"): cell.folder for cell in cells if cell.state() == "done"}
        folders[name] = list(done.values())
        rungs[name] = {
            "learns_from": parse_rung(name).learns_from,
            "runs": {seed: str(folder.path) for seed, folder in done.items()},
            "seconds": sum(map(_seconds, done.values())) / len(done) if done else None,
            "selection": next((read_json(folder.metrics)["selection"] for folder in done.values()), ""),
        }
        drawn = {seed: read_json(folder.parts).get("drawn") for seed, folder in done.items()}
        if any(drawn.values()):
            rungs[name]["drawn"] = drawn
    states = [
        {"name": cell.name, "state": state, "reason": cell.reason() if state == "failed" else ""}
        for cell in sweep.cells
        for state in [cell.state()]
    ]
    runs = {name: [Path(run) for run in rung["runs"].values()] for name, rung in rungs.items() if rung["runs"]}
    return {
        "rungs": rungs,
        "left_out": dict(left_out),
        "cells": states,
        **_tests(runs, rows),
        "regret": mean_regrets({name: each for name, each in folders.items() if parse_rung(name).trained_as == name}),
    }


def _by_rung(sweep: Sweep) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in sweep.cells:
        found.setdefault(parse_rung(cell.values["rung"]).name, []).append(cell)
    return found


def _seconds(folder: RunFolder) -> float:
    """What a run took, with all that it did besides training."""
    times: dict[str, dict[str, float]] = read_json(folder.times) if folder.times.exists() else {}
    return sum(sum(part.values()) for part in times.values())


def _tests(runs: Mapping[str, Sequence[Path]], rows: Rows) -> dict[str, Any]:
    """``tests`` and ``over_rival``."""
    boards: dict[str, Any] = {}
    over: dict[str, Any] = {}
    if LOWEST not in runs:
        return {"tests": boards, "over_rival": over}
    files = {name: [evaluation_files(run) for run in each] for name, each in runs.items()}
    for label in files[LOWEST][0]:
        lines: dict[str, list[Lines]] = {
            name: [read_lines(one[label], METRICS) for one in each if label in one] for name, each in files.items()
        }
        lines = {name: each for name, each in lines.items() if each}
        shared = shared_images(lines)
        values = {metric: image_values(lines, shared, metric) for metric in METRICS}
        boards[label] = {
            metric: shares_of_gap(each, LOWEST, HIGHEST, lower_is_better=is_lower_better(metric, rows))
            for metric, each in values.items()
        }
        if RIVAL in lines:
            compared = shares_of_gap(values[METRICS[0]], RIVAL, HIGHEST)["entries"]
            over[label] = {
                each["entry"]: {"difference": each["difference"], "ci": each["difference_ci"]}
                for each in compared
                if each["entry"] != RIVAL
            }
    return {"tests": boards, "over_rival": over}
