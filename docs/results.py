"""Writes docs/results.md from docs/results/*.json, and those from the folders of ladders.

    python docs/results.py LADDER octa      # reads the ladder's runs, writes docs/results/octa.json
    python docs/results.py                  # writes docs/results.md

tests/test_docs.py fails where the page is older than the files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from transeg.core.evaluation.comparison import evaluation_files, read_columns, read_lines
from transeg.core.experiment.schema import read_experiment
from transeg.core.files import read_json
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

HERE = Path(__file__).parent
TEXT = HERE / "results"
HEAD = ["rung", "Dice [95 % CI]", "of seeds", "clDice", "gap closed", "above source-strong", "p", "min a run"]


def collect(ladder: Path) -> dict[str, Any]:
    """What the page says of a ladder, read from its folder and from those of its runs; no path is in it."""
    found = read_json(ladder / "ladder.json")
    (label,) = found["tests"]
    board, over = found["tests"][label]["dice"], found["over_rival"].get(label, {})
    rungs = []
    for entry in board["entries"]:
        name = entry["entry"]
        rung = found["rungs"][name]
        runs = [Path(run) for run in rung["runs"].values()]
        rungs.append(
            {
                "rung": name,
                "learns_from": rung["learns_from"],
                "seeds": sorted(rung["runs"]),
                "seconds": rung["seconds"],
                "cldice": _mean(runs, label, "cldice"),
                "over_rival": over.get(name),
                **{key: entry[key] for key in ("mean", "ci", "range", "share", "share_ci", "p_holm")},
            }
        )
    first = RunFolder(Path(next(iter(found["rungs"]["source-only"]["runs"].values()))))
    experiment, environment = read_experiment(first.experiment, Registry()), read_json(first.path / "environment.json")
    return {
        "images": board["images"],
        "gap": board["gap"],
        "budget": {
            "segmenter": experiment.segmenter.name if experiment.segmenter else "",
            "iterations": experiment.train.iterations,
            "batch": experiment.train.batch_size,
            "pixels": experiment.data.size,
        },
        "machine": {key: environment[key] for key in ("cpus", "threads", "gpus")},
        "versions": {"transeg": environment["commit"], "torch": environment["packages"]["torch"]},
        "rungs": rungs,
        "regret": found["regret"],
        "failed": {cell["name"]: cell["reason"] for cell in found["cells"] if cell["state"] == "failed"},
        "left_out": found["left_out"],
    }


def _mean(runs: list[Path], label: str, metric: str) -> float | None:
    """A metric's mean over images and runs; None where one was not asked for it."""
    files = [evaluation_files(run)[label] for run in runs]
    if any(metric not in read_columns(file) for file in files):
        return None
    values = [float(line[metric] or "nan") for file in files for line in read_lines(file, [metric]).values()]
    return float(np.nanmean(values))


def page() -> str:
    """The whole page: what is written by hand, and behind each part the tables of its ladder, where it has one."""
    blocks = ["<!-- written by docs/results.py from docs/results/ -->", _text("head")]
    for name in sorted({path.stem for path in TEXT.glob("*.txt")} - {"head", "tail"}):
        tables = TEXT / f"{name}.json"
        blocks += [_text(name), *(_tables(read_json(tables)) if tables.exists() else [])]
    return "\n\n".join([*blocks, _text("tail")]) + "\n"


def _text(name: str) -> str:
    return (TEXT / f"{name}.txt").read_text(encoding="utf-8").strip()


def _tables(found: dict[str, Any]) -> list[str]:
    budget, machine = found["budget"], found["machine"]
    devices = ", ".join(machine["gpus"]) or f"{machine['threads']} thread of {machine['cpus']} cores, no GPU"
    blocks = [
        f"{budget['segmenter']}, {budget['iterations']:,} iterations of {budget['batch']} images of {budget['pixels']} "
        f"pixels; {found['images']} test images; {devices}; torch {found['versions']['torch']}, transeg at "
        f"`{found['versions']['transeg']}`.",
        _table(HEAD, [_row(rung) for rung in found["rungs"]]),
    ]
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


def _row(rung: dict[str, Any]) -> list[str]:
    over, ends, share = rung["over_rival"], rung["share_ci"], rung["share"]
    return [
        rung["rung"],
        f"{rung['mean']:.3f}" + ("" if rung["ci"] is None else " [{:.3f}, {:.3f}]".format(*rung["ci"])),
        "" if rung["range"] is None else "{:.3f} to {:.3f}".format(*rung["range"]),
        "" if rung["cldice"] is None else f"{rung['cldice']:.3f}",
        "" if share is None else f"{share:.0%}" + ("" if ends is None else f" [{ends[0]:.0%}, {ends[1]:.0%}]"),
        "" if over is None else f"{over['difference']:+.3f} [{over['ci'][0]:+.3f}, {over['ci'][1]:+.3f}]",
        "" if rung["p_holm"] is None else f"{rung['p_holm']:.4f}",
        f"{rung['seconds'] / 60:.0f}",
    ]


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


if __name__ == "__main__":
    if len(sys.argv) == 3:
        (TEXT / f"{sys.argv[2]}.json").write_text(json.dumps(collect(Path(sys.argv[1])), indent=1) + "\n")
    (HERE / "results.md").write_text(page(), encoding="utf-8")
