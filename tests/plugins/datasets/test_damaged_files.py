"""Whatever is in the files of a dataset, it gives images, or the package's own error, soon and in little memory."""

import json
import logging
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import layouts
import numpy as np

import transeg
from transeg.core.builders.datasets import build_dataset
from transeg.core.errors import TransegError
from transeg.core.experiment.validation import chosen_dataset
from transeg.core.registry import Registry

REGISTRY = Registry()
NAMES = [c.name for c in REGISTRY.components("dataset") if REGISTRY.describe(c).needs_root]
TURNS = 6
"""Damaged files of each dataset, in which there are up to seven kinds."""
SECONDS, MEGABYTES = 10, 1000
OPTIONS = {"slides": {"region": 64}}


def damage(content, rng):
    """A file whose end is missing, or in which some bytes are others, most of them near the beginning."""
    found = bytearray(content[: rng.integers(len(content))] if rng.random() < 0.3 else content)
    places = rng.integers(0, min(len(found), 400) if rng.random() < 0.5 else len(found), 8) if found else ()
    for place in places:
        found[place] = rng.integers(256)
    return bytes(found)


def read_all(name, root):
    """Every image and mask; what is said where the dataset refuses them."""
    said = []
    try:
        table = {"name": name, "root": str(root), "split": "all", **OPTIONS.get(name, {})}
        dataset = build_dataset(chosen_dataset(table), "source", REGISTRY)
        said += [fault.reason for fault in dataset.faults]
        for index in range(len(dataset)):
            try:
                dataset[index]
            except TransegError as error:
                said.append(str(error))
    except TransegError as error:
        said.append(str(error))
    return said


def damage_all(root):
    """For each dataset how many damaged files were told, and the longest time; and the most memory of all."""
    layouts.COUNT = 4
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    told, longest = {}, {}
    for name in NAMES:
        layouts.write(name, root / name / "data")
        kinds = {}
        for path in sorted(path for path in (root / name).rglob("*") if path.is_file()):
            kinds.setdefault((path.suffix, path.parent.parent.name), []).append(path)
        rng = np.random.default_rng(20)
        told[name], longest[name] = 0, 0.0
        for turn in range(TURNS):
            files = list(kinds.values())[turn % len(kinds)]
            path = files[rng.integers(len(files))]
            whole = path.read_bytes()
            path.write_bytes(damage(whole, rng))
            begun = time.process_time()
            told[name] += bool(read_all(name, root / name / "data"))
            longest[name] = max(longest[name], time.process_time() - begun)
            path.write_bytes(whole)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
    return {"told": told, "longest": longest, "peak": peak}


def test_damaged_files_of_every_dataset_are_read_or_told(tmp_path):
    """In a process of its own, whose memory is that of the readers."""
    script = "import json, sys, test_damaged_files as t; print(json.dumps(t.damage_all(t.Path(sys.argv[1]))))"
    places = (Path(__file__).parent, Path(layouts.__file__).parent, Path(transeg.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert [name for name, count in found["told"].items() if not count] == []
    assert max(found["longest"].values()) < SECONDS
    assert found["peak"] < MEGABYTES
