"""What only a GPU shows, in slices that a later call goes on from.

    python benchmarks/gpu.py --out results.jsonl [--minutes 8] [--device cuda] [--list] [--only NAME]

Every registered strategy with every generator trains a few steps in each precision and compiled, beside the same steps
on the CPU; then a run validates at batch 64. A slice is a process of its own and one JSON line. A slice that fails is
recorded with its error and run again by the next call, as is what was killed and has no line; the last line counts.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOLERANCES = {"fp32": 0.01, "tf32": 0.02, "compiled": 0.02, "bf16": 0.1, "fp16": 0.1}
"""How far a loss of the first step may be from the CPU's in float32, relative to it or to 1, whichever is larger."""


def slices() -> dict[str, list[str]]:
    """Arguments of `toolkit run` by the slice's name, the most telling first."""
    from transeg.core.experiment.combinations import combinations
    from transeg.core.registry import Registry

    pairs: dict[str, list[str]] = {}
    for each in combinations(Registry()):
        if each.missing or each.segmenter not in (None, "unet"):
            continue
        options = ["--strategy", each.strategy]
        options += ["--generator", each.generator] if each.generator else []
        options += ["--segmenter", each.segmenter] if each.segmenter else []
        settings = ["data.size=64", "data.source.count=10", "data.source.side=64"]
        settings += ["train.iterations=4", "train.batch_size=2", "train.val_interval=4"]
        settings += ["data.target.count=10", "data.target.side=64"] if each.target else []
        settings += ["baseline=none"] if each.generator and each.segmenter else []
        name = "-".join(part for part in (each.strategy, each.generator) if part)
        pairs[name] = options + [part for setting in settings for part in ("--set", setting)]
    found: dict[str, list[str]] = {}
    for mode in TOLERANCES:
        setting = "train.compile=true" if mode == "compiled" else f"train.precision={mode}"
        also = ["--set", "train.precision=fp32"] if mode == "compiled" else []
        found |= {f"{name}-{mode}": [*pair, "--set", setting, *also] for name, pair in pairs.items()}
    large = ["data.source.count=640", "data.source.side=64", "data.size=64"]
    large += ["train.batch_size=64", "train.iterations=2", "train.val_interval=1"]
    found["validation-64"] = ["--strategy", "supervised", "--segmenter", "unet"]
    found["validation-64"] += [part for setting in large for part in ("--set", setting)]
    return found


def child(arguments: list[str], strict: bool) -> None:
    """Run `toolkit run`, and answer with the losses and seconds of each step, and the peak memory of the GPU."""
    import torch

    from transeg.cli import main
    from transeg.core.training.tasks.task import Task

    taken = Task.train_step
    losses: list[dict[str, float]] = []
    seconds: list[float] = []

    def step(self: Task, *given: Any, **named: Any) -> dict[str, torch.Tensor]:
        on_gpu = self.device.type == "cuda"
        begin = time.perf_counter()
        if on_gpu and strict and losses:  # the first step sets up what may wait
            torch.cuda.set_sync_debug_mode("error")
        try:
            found = taken(self, *given, **named)
        finally:
            if on_gpu:
                torch.cuda.set_sync_debug_mode("default")
        losses.append({name: float(loss) for name, loss in found.items()})  # waits for the GPU, so the time is whole
        seconds.append(time.perf_counter() - begin)
        return found

    Task.train_step = step  # type: ignore[method-assign]
    main(arguments, standalone_mode=False)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    print(json.dumps({"losses": losses, "seconds": seconds, "bytes": peak}))


def measure(arguments: list[str], device: str, strict: bool, seconds: float) -> dict[str, Any]:
    """What a process of its own answers.

    Raises:
        RuntimeError: it failed, or took too long.
    """
    with tempfile.TemporaryDirectory() as scratch:
        line = ["run", *arguments, "--run-dir", f"{scratch}/run", "--device", device]
        whole = [sys.executable, __file__, "--child", json.dumps([line, strict])]
        try:
            answer = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=max(1.0, seconds))
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"not done after {seconds:.0f} s") from error
    if answer.returncode:
        raise RuntimeError((answer.stderr.strip().splitlines() or ["killed"])[-1])
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def run_slice(name: str, arguments: list[str], device: str, seconds: float) -> dict[str, Any]:
    """The line of a slice."""
    end = time.monotonic() + seconds
    mode = name.rpartition("-")[2]
    try:
        # torch's gradient scaler asks the device whether gradients are finite
        found = measure(arguments, device, mode != "fp16", seconds)
        if not found["losses"]:
            return {"slice": name, "device": device, "checked": "nothing: there is nothing to train"}
        if not all(math.isfinite(loss) for step in found["losses"] for loss in step.values()):
            raise RuntimeError("a loss is not finite")
        if mode in TOLERANCES:
            plain = [*arguments, "--set", "train.precision=fp32", "--set", "train.compile=false"]
            first = measure(plain, "cpu", False, end - time.monotonic())["losses"][0]
            got = found["losses"][0]
            found["difference"] = max(abs(got[key] - first[key]) / max(1.0, abs(first[key])) for key in first)
            if found["difference"] > TOLERANCES[mode]:
                raise RuntimeError(f"a first loss is {found['difference']:.3g} from the CPU's")
    except RuntimeError as error:
        return {"slice": name, "device": device, "error": str(error)}
    return {"slice": name, "device": device, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results.jsonl"))
    parser.add_argument("--minutes", type=float, default=8, help="after which a slice is given up")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--list", action="store_true", help="print the names of the slices")
    parser.add_argument("--only", help="the one slice to run")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*json.loads(arguments.child))
        return
    wanted = {name: given for name, given in slices().items() if arguments.only in (None, name)}
    if arguments.list:
        print("\n".join(wanted))
        return
    if not wanted:
        parser.error(f"there is no slice {arguments.only!r}; --list names them")
    lines = arguments.out.read_text(encoding="utf-8").splitlines() if arguments.out.exists() else []
    done = {found["slice"] for found in map(json.loads, lines) if "error" not in found}
    for name, given in wanted.items():
        if name not in done:
            line = run_slice(name, given, arguments.device, arguments.minutes * 60)
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
