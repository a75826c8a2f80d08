"""Writes docs/results.md and docs/choosing.md from docs/results/*.json, and those from the folders of ladders.

    python docs/results.py octa LADDER              # reads the ladder's runs, writes docs/results/octa.json
    python docs/results.py axons LADDER LADDER      # the same, of one ladder for each fold
    python docs/results.py                          # writes the pages

tests/test_docs.py fails where the pages are older than the files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from transeg.core.evaluation.comparison import evaluation_files, read_columns, read_lines
from transeg.core.evaluation.gap import LEAST_GROUPS
from transeg.core.experiment.validation import read_experiment
from transeg.core.files import read_json
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

HERE = Path(__file__).parent
TEXT = HERE / "results"
LADDERS = {"octa": "vessels", "nuclei": "nuclei", "axons": "axons and myelin", "kvasir": "polyps"}
"""What is measured, by the files' names, in the order of the pages."""
LOWEST, HIGHEST, RIVAL = "source-only", "oracle", "source-strong"
ALSO = {"cldice": "clDice", "pq": "PQ", "aji": "AJI", "dice_axon": "axons", "dice_myelin": "myelin"}
"""Columns of evaluations that a table has beside Dice, where there are such."""
OF_OBJECTS = ("pq", "aji")
"""Those that stand among the counts of objects."""


def collect(ladders: Sequence[Path]) -> dict[str, Any]:
    """What the pages say of a ladder, read from its folder and from those of its runs; no path is in it.

    Of several ladders, each of which tests on other groups (folds), a mean over all groups is told, without intervals.
    """
    parts = [_collect(ladder) for ladder in ladders]
    first = parts[0]
    if len(parts) == 1:
        return first
    names = [rung for rung in first["rungs"] if all(rung in part["rungs"] for part in parts)]
    return {
        **first,
        "rungs": {name: _of_folds([part["rungs"][name] for part in parts]) for name in names},
        "tests": {label: _merged([part["tests"][label] for part in parts], names) for label in first["tests"]},
        "regret": None,
        "failed": {name: why for part in parts for name, why in part["failed"].items()},
    }


def _collect(ladder: Path) -> dict[str, Any]:
    found = read_json(ladder / "ladder.json")
    runs = {name: [Path(run) for run in rung["runs"].values()] for name, rung in found["rungs"].items()}
    first = RunFolder(runs[LOWEST][0])
    experiment, environment = read_experiment(first.experiment, Registry()), read_json(first.path / "environment.json")
    return {
        "budget": {
            "segmenter": experiment.segmenter.name if experiment.segmenter else "",
            "iterations": experiment.train.iterations,
            "batch": experiment.train.batch_size,
            "pixels": experiment.data.size,
        },
        "machine": {key: environment[key] for key in ("cpus", "threads", "gpus")},
        "versions": {"transeg": environment["commit"], "torch": environment["packages"]["torch"]},
        "rungs": {
            name: {"learns_from": rung["learns_from"], "seeds": sorted(rung["runs"]), "seconds": rung["seconds"]}
            for name, rung in found["rungs"].items()
        },
        "tests": {
            label: _test(boards["dice"], found["over_rival"].get(label, {}), runs, label)
            for label, boards in found["tests"].items()
        },
        "regret": found["regret"],
        "failed": {cell["name"]: cell["reason"] for cell in found["cells"] if cell["state"] == "failed"},
        "left_out": found["left_out"],
    }


def _test(
    board: Mapping[str, Any], over: Mapping[str, Any], runs: Mapping[str, list[Path]], label: str
) -> dict[str, Any]:
    few = board["groups"] < LEAST_GROUPS
    kept = ("mean", "ci", "range", "share", "share_ci", "p_holm", *(["of_groups"] if few else []))
    rungs = {
        entry["entry"]: {
            **{key: entry[key] for key in kept},
            "over_rival": over.get(entry["entry"]),
            "also": _also(runs[entry["entry"]], label),
        }
        for entry in board["entries"]
    }
    return {**{key: board[key] for key in ("images", "groups", "gap", "note")}, "rungs": rungs}


def _also(runs: list[Path], label: str) -> dict[str, float]:
    """Means over images and runs of the other metrics that all runs were asked for."""
    tables = [evaluation_files(run)[label] for run in runs]
    found = {}
    for metric in ALSO:
        files = [file.parent / "counts" / file.name for file in tables] if metric in OF_OBJECTS else tables
        if all(file.exists() and metric in read_columns(file) for file in files):
            values = [float(line[metric] or "nan") for file in files for line in read_lines(file, [metric]).values()]
            found[metric] = float(np.nanmean(values))
    return found


def _of_folds(rungs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {**rungs[0], "seconds": fmean(rung["seconds"] for rung in rungs)}


def _merged(tests: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    """One test of those of folds: means over the groups of all of them, each group as heavy as the others."""
    groups = {
        name: {group: mean for test in tests for group, mean in test["rungs"][name]["of_groups"].items()}
        for name in names
    }
    mean = {name: fmean(values.values()) for name, values in groups.items()}
    gap = mean[HIGHEST] - mean[LOWEST]
    rungs = {
        name: {
            **dict.fromkeys(("ci", "range", "share_ci", "p_holm", "over_rival")),
            "mean": mean[name],
            "share": (mean[name] - mean[LOWEST]) / gap,
            "of_groups": groups[name],
            "also": {
                metric: fmean(test["rungs"][name]["also"][metric] for test in tests)
                for metric in tests[0]["rungs"][name]["also"]
            },
        }
        for name in groups
    }
    counts = {key: sum(test[key] for test in tests) for key in ("images", "groups")}
    return {**counts, "gap": {"value": gap, "ci": None}, "note": "", "rungs": rungs}


def page() -> str:
    """The page of results: what is written by hand, and behind each part the tables of its ladder."""
    blocks = ["<!-- written by docs/results.py from docs/results/ -->", _text("head")]
    for name, found in _found().items():
        blocks += [_text(name), *_tables(found)]
    return "\n\n".join([*blocks, _text("tail")]) + "\n"


def choosing() -> str:
    """The page that puts the rungs of all pairs side by side."""
    found = _found()
    tests = {(name, label): test for name, of_pair in found.items() for label, test in of_pair["tests"].items()}
    several = [name for name, _ in tests]
    head = [LADDERS[name] + (f", {label}" if several.count(name) > 1 else "") for name, label in tests]
    rungs = list(dict.fromkeys(rung for test in tests.values() for rung in test["rungs"]))
    rows = [
        [rung, *(_side_by_side(rung, found[name]["rungs"], test) for (name, _), test in tests.items())]
        for rung in _in_order(rungs)
    ]
    blocks = [
        "<!-- written by docs/results.py from docs/results/ -->",
        _text("choosing"),
        _table(["rung", *head], rows),
    ]
    return "\n\n".join(blocks) + "\n"


def _in_order(rungs: Sequence[str]) -> list[str]:
    """As the tables of ladders have them."""
    from transeg.tools.ladder.rungs import parse_rungs

    return [rung.name for rung in parse_rungs(rungs)]


def _side_by_side(name: str, rungs: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """Dice and share of the gap, and of how many seeds where others have more."""
    if name not in test["rungs"]:
        return ""
    rung, seeds = test["rungs"][name], len(rungs[name]["seeds"])
    share = "" if rung["share"] is None else f" ({rung['share']:.0%})"
    fewer = seeds < max(len(each["seeds"]) for each in rungs.values())
    return f"{rung['mean']:.3f}{share}" + (f", {seeds} seed" + "s" * (seeds > 1) if fewer else "")


def _found() -> dict[str, dict[str, Any]]:
    files = {name: TEXT / f"{name}.json" for name in LADDERS}
    return {name: read_json(file) for name, file in files.items() if file.exists()}


def _text(name: str) -> str:
    return (TEXT / f"{name}.txt").read_text(encoding="utf-8").strip()


def _tables(found: Mapping[str, Any]) -> list[str]:
    budget, machine = found["budget"], found["machine"]
    devices = ", ".join(machine["gpus"]) or f"{machine['threads']} thread of {machine['cpus']} cores, no GPU"
    blocks = [
        f"{budget['segmenter']}, {budget['iterations']:,} iterations of {budget['batch']} images of {budget['pixels']} "
        f"pixels; {devices}; torch {found['versions']['torch']}, transeg at `{found['versions']['transeg']}`."
    ]
    for label, test in found["tests"].items():
        if len(found["tests"]) > 1:
            blocks.append(f"**{label}**, {test['images']} test images:")
        else:
            blocks.append(f"{test['images']} test images:")
        blocks += [each for each in (_test_table(found["rungs"], test), test["note"]) if each]
    blocks += [f"Failed: `{name}`: {reason}" for name, reason in found["failed"].items()]
    blocks += [f"Left out: {name}: {reason}" for name, reason in found["left_out"].items()]
    if found["regret"]:
        rules = list(found["regret"]["mean"])
        lost = {**found["regret"]["rungs"], "mean": found["regret"]["mean"], "worst run": found["regret"]["worst"]}
        blocks += [
            "Dice lost against the best checkpoint by target labels, by rules that know none:",
            _table(["rung", *rules], [[name, *(f"{row[rule]:.3f}" for rule in rules)] for name, row in lost.items()]),
        ]
    return blocks


def _test_table(of_rungs: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """Columns that no rung has anything in are left out."""
    also = [metric for metric in ALSO if any(metric in rung["also"] for rung in test["rungs"].values())]
    groups = sorted({group for rung in test["rungs"].values() for group in rung.get("of_groups", {})})
    interval = any(rung["ci"] for rung in test["rungs"].values())
    head = ["rung", "Dice [95 % CI]" if interval else "Dice", "of seeds", *groups, *(ALSO[metric] for metric in also)]
    head += ["gap closed", f"above {RIVAL}", "p", "min a run"]
    rows = [_row(name, rung, groups, also, of_rungs[name]["seconds"]) for name, rung in test["rungs"].items()]
    shown = [place for place in range(len(head)) if any(row[place] for row in rows)]
    return _table([head[place] for place in shown], [[row[place] for place in shown] for row in rows])


def _row(name: str, rung: Mapping[str, Any], groups: list[str], also: list[str], seconds: float) -> list[str]:
    over, ends, share = rung["over_rival"], rung["share_ci"], rung["share"]
    of_groups = rung.get("of_groups", {})
    return [
        name,
        f"{rung['mean']:.3f}" + ("" if rung["ci"] is None else " [{:.3f}, {:.3f}]".format(*rung["ci"])),
        "" if rung["range"] is None else "{:.3f} to {:.3f}".format(*rung["range"]),
        *(f"{of_groups[group]:.3f}" if group in of_groups else "" for group in groups),
        *(f"{rung['also'][metric]:.3f}" if metric in rung["also"] else "" for metric in also),
        "" if share is None else f"{share:.0%}" + ("" if ends is None else f" [{ends[0]:.0%}, {ends[1]:.0%}]"),
        ""
        if over is None or over["ci"] is None
        else f"{over['difference']:+.3f} [{over['ci'][0]:+.3f}, {over['ci'][1]:+.3f}]",
        "" if rung["p_holm"] is None else f"{rung['p_holm']:.4f}",
        f"{seconds / 60:.0f}",
    ]


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


if __name__ == "__main__":
    if len(sys.argv) > 2:
        made = collect([Path(ladder) for ladder in sys.argv[2:]])
        (TEXT / f"{sys.argv[1]}.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    (HERE / "results.md").write_text(page(), encoding="utf-8")
    (HERE / "choosing.md").write_text(choosing(), encoding="utf-8")
