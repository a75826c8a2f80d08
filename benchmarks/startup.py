"""How long commands take to begin, as a multiple of `import torch`, in seconds of the processor.

    python benchmarks/startup.py [--turns 3]

Each command is a process of its own, all of them in turns with a bare `import torch`; the best of the turns counts. The
commands see no GPU. `predict` and `translate` take a small image and a small stored run, so that nearly all is start.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = Path(__file__).parents[1] / "tests" / "stored_runs"
COMMANDS = {
    "--help": "--help",
    "list": "list",
    "info segmenter/hardnet": "info segmenter/hardnet",
    "run --dry-run": "run --generator cut --segmenter hardnet --dry-run",
    "predict": f"predict {RUNS}/joint {RUNS}/images/0.png --device cpu --out masks",
    "translate": f"translate {RUNS}/joint {RUNS}/images/0.png --device cpu --out translated",
    "compare": f"compare {RUNS}/joint {RUNS}/joint",
}


def cpu_seconds(code: str, words: list[str], folder: str) -> float:
    """Of a process that runs some Python, with its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(
        [sys.executable, "-c", code, *words],
        check=True,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    best = dict.fromkeys(["import torch", *COMMANDS], float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(turns):
            best["import torch"] = min(best["import torch"], cpu_seconds("import torch", [], folder))
            for name, words in COMMANDS.items():
                took = cpu_seconds("from transeg.cli import main; main()", words.split(), folder)
                best[name] = min(best[name], took)
    print("| | CPU seconds | import torch = 1 |\n|---|---|---|")
    for name, seconds in best.items():
        print(f"| `{name}` | {seconds:.2f} | {seconds / best['import torch']:.2f} |")


if __name__ == "__main__":
    main()
