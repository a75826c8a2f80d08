"""What only a GPU shows, in slices that a later call goes on from.

    python benchmarks/gpu.py --out results.jsonl [--minutes 8] [--device cuda] [--list] [--only NAME ...]
        [--reference NAME=DIR ...] [--images kvasir:FOLDER] [--kvasir FOLDER] [--octa FOLDER]

First come instance norms, validation at batch 64 and NCCL. Then every registered strategy with every generator trains a
few steps in each precision and compiled, beside the same steps on the CPU; in between come throughput, checkouts of
published code beside ours, and loaders; at the end two long ones, the ladder of octa and zh320's row of Kvasir-SEG.

A slice is a process of its own, takes at most --minutes, and is one JSON line. What has failed, was killed, or is
longer than a slice goes on with the next call, long runs from their checkpoints in --work; the last line of a name
counts. What needs data or a checkout that no option names, or a second GPU, is left out with a line that says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpu_slices import Given, Slice, slices
from measuring import checkouts
from train_step import CASES


def run_slice(given: Given, wanted: Slice, seconds: float) -> dict[str, Any]:
    """The line of a slice."""
    line: dict[str, Any] = {"slice": wanted.name, "device": given.device}
    if wanted.missing:
        return line | {"left out": wanted.missing}
    try:
        return line | wanted.measure(given, seconds)
    except subprocess.TimeoutExpired as error:
        return line | {"error": f"not done after {error.timeout:.0f} s"}
    except RuntimeError as error:
        return line | {"error": str(error)}


def is_done(line: dict[str, Any]) -> bool:
    """Whether a slice need not be run again."""
    return not line.keys() & {"error", "left out", "unfinished"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results.jsonl"))
    parser.add_argument("--minutes", type=float, default=8, help="after which a slice is given up, or goes on later")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--list", action="store_true", help="print the names of the slices, and why some are left out")
    parser.add_argument("--only", nargs="+", help="the slices to run")
    parser.add_argument("--reference", action="append", default=[], metavar="NAME=DIR", help="as for train_step.py")
    parser.add_argument("--images", help="labelled images for loaders, such as kvasir:FOLDER")
    parser.add_argument("--kvasir", type=Path, help="Kvasir-SEG in train/, validation/ and test/")
    parser.add_argument("--octa", type=Path, help="folder with octa's graph/ and real-train/")
    parser.add_argument("--work", type=Path, help="where long runs are; by default beside --out")
    options = parser.parse_args()
    work = (options.work or options.out.with_suffix(".work")).absolute()
    references = checkouts(options.reference, tuple(CASES))
    given = Given(options.device, work, references, options.images, options.kvasir, options.octa)
    wanted = [each for each in slices(given) if not options.only or each.name in options.only]
    if options.list:
        print("\n".join(f"{each.name}: left out, {each.missing}" if each.missing else each.name for each in wanted))
        return
    if not wanted:
        parser.error(f"there is no slice {' or '.join(options.only)}; --list names them")
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    last = {line["slice"]: line for line in map(json.loads, lines)}
    for each in wanted:
        if each.name in last and is_done(last[each.name]):
            continue
        line = run_slice(given, each, options.minutes * 60)
        if line != last.get(each.name) or "left out" not in line:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
