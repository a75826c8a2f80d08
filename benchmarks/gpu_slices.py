"""The slices of gpu.py, the most telling first."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import throughput
import train_step

TOLERANCES = {"fp32": 0.01, "tf32": 0.02, "compiled": 0.02, "bf16": 0.1, "fp16": 0.1}
"""How far a loss of the first step may be from the CPU's in float32, relative to it or to 1, whichever is larger."""
NORM_TOLERANCE = 1e-3
"""How far instance norm's gradients may be apart in float32, in the two ways and the two orders of memory."""
WAYS: tuple[throughput.Way, ...] = (
    ("", "fp32", False, False),
    ("", "tf32", False, False),
    ("", "bf16", False, False),
    ("", "bf16", False, True),
    ("", "bf16", True, False),
    ("", "bf16", True, True),
    ("", "fp16", False, False),
)
"""Of computing a step: of a method, in which precision, compiled or not, with channels last or not."""
WORKERS = (0, 4, 16)
KVASIR = 1000
"""Images of the whole of Kvasir-SEG."""
EXPERIMENTS = Path(__file__).parents[1] / "examples" / "experiments"
MEASURES = Path(__file__).with_name("gpu_measures.py")
TOOLKIT = (sys.executable, "-m", "transeg")
OFTEN = ("--set", "train.checkpoint_minutes=2")
"""A run that goes on with the next call loses no more."""
PATIENCE = 60
"""Seconds that an interrupted run has for its last checkpoint."""


@dataclass(frozen=True)
class Given:
    """What the caller named.

    Attributes:
        device: where to measure.
        work: folder of runs that several calls go on with.
        references: checkouts of published code, by the names that train_step.py has for them.
        images: labelled images for loaders, as `toolkit run --source` takes them, or None.
        kvasir: folder of Kvasir-SEG, or None.
        octa: folder of octa, or None.
    """

    device: str
    work: Path
    references: Mapping[str, Path] = field(default_factory=dict)
    images: str | None = None
    kvasir: Path | None = None
    octa: Path | None = None


@dataclass(frozen=True)
class Slice:
    """One measurement.

    Attributes:
        name: in its line.
        measure: with how many seconds it has; gives what goes into the line, raises RuntimeError where it fails. It is
            not called, and may be None, where something is missing.
        missing: what it needs and has not; '' for nothing.
    """

    name: str
    measure: Callable[[Given, float], dict[str, Any]] | None
    missing: str = ""


def slices(given: Given) -> list[Slice]:
    """All of them, in order."""
    pairs = _pairs()
    return [
        Slice("instance-norm", _norms),
        Slice("validation-64", _validation),
        *_ranks(given),
        *_steps("fp32", pairs),
        *_steps("bf16", pairs),
        *_throughput(),
        *_references(given),
        *_loaders(given),
        *_steps("tf32", pairs),
        *_steps("fp16", pairs),
        *_steps("compiled", pairs),
        _octa(given),
        _zh320(given),
    ]


def _settings(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def _pairs() -> dict[str, list[str]]:
    """Arguments of `toolkit run` for a tiny run, by strategy and generator."""
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
        pairs[name] = options + _settings(*settings)
    return pairs


def _steps(mode: str, pairs: dict[str, list[str]]) -> Iterator[Slice]:
    setting = ["train.compile=true", "train.precision=fp32"] if mode == "compiled" else [f"train.precision={mode}"]
    for name, pair in pairs.items():
        yield Slice(f"{name}-{mode}", partial(_beside_the_cpu, mode, [*pair, *_settings(*setting)]))


def _beside_the_cpu(mode: str, arguments: list[str], given: Given, seconds: float) -> dict[str, Any]:
    """Losses of a few steps, the first of them beside the CPU's in float32."""
    end = time.monotonic() + seconds
    strict = mode != "fp16"  # torch's gradient scaler asks the device whether gradients are finite
    found = _in_process("steps", arguments, given.device, strict, seconds=seconds)
    if not found["losses"]:
        return {"checked": "nothing: there is nothing to train"}
    _check_finite(found)
    plain = [*arguments, *_settings("train.precision=fp32", "train.compile=false")]
    first = _in_process("steps", plain, "cpu", False, seconds=end - time.monotonic())["losses"][0]
    got = found["losses"][0]
    found["difference"] = max(abs(got[key] - first[key]) / max(1.0, abs(first[key])) for key in first)
    if found["difference"] > TOLERANCES[mode]:
        raise RuntimeError(f"a first loss is {found['difference']:.3g} from the CPU's")
    return found


def _check_finite(found: dict[str, Any]) -> None:
    if not all(math.isfinite(loss) for step in found["losses"] for loss in step.values()):
        raise RuntimeError("a loss is not finite")


def _validation(given: Given, seconds: float) -> dict[str, Any]:
    """A run that validates at batch 64."""
    large = ["data.source.count=640", "data.source.side=64", "data.size=64"]
    large += ["train.batch_size=64", "train.iterations=2", "train.val_interval=1"]
    arguments = ["--strategy", "supervised", "--segmenter", "unet", *_settings(*large)]
    found = _in_process("steps", arguments, given.device, True, seconds=seconds)
    _check_finite(found)
    return found


def _norms(given: Given, seconds: float) -> dict[str, Any]:
    """Instance norm in both ways: how far apart they are, and what they take."""
    found = _in_process("norms", given.device, seconds=seconds)
    if given.device != "cpu" and found["fp32"]["gradient"] > NORM_TOLERANCE:  # a CPU's is known to be wrong
        raise RuntimeError(f"PyTorch's instance norm has a gradient that is {found['fp32']['gradient']:.3g} off")
    return found


def _throughput() -> Iterator[Slice]:
    for method in throughput.METHODS:
        for _, precision, compiled, channels_last in WAYS:
            parts = ["throughput", method, precision]
            parts += ["compiled"] * compiled + ["channels-last"] * channels_last
            way = method, precision, compiled, channels_last
            yield Slice("-".join(parts), partial(_pace, way, True))
        yield Slice(f"throughput-{method}-tf32-untimed", partial(_pace, (method, "tf32", False, False), False))


def _pace(way: throughput.Way, timed: bool, given: Given, seconds: float) -> dict[str, Any]:
    """Seconds and memory of a training step; ``timed`` says whether cuDNN may time its algorithms."""
    on_cpu = given.device == "cpu"
    size, batch, warm_up, steps = (32, 2, 1, 1) if on_cpu else (256, 8, 5, 20)
    options = argparse.Namespace(
        device=given.device, size=size, batch=batch, threads=2, warm_up=warm_up, steps=steps, full=not on_cpu,
        cpu_time=False, untimed=not timed,
    )  # fmt: skip
    return {"size": size, "batch": batch, **throughput.measure(way, options, seconds)}


def _references(given: Given) -> list[Slice]:
    """Steps of published code and ours."""
    if not given.references:
        return [Slice("reference", None, "no --reference names a checkout")]
    return [
        Slice(f"reference-{case}-{count}", partial(_beside_reference, checkout, case, count))
        for name, checkout in given.references.items()
        for case in train_step.CASES[name]
        for count in (1, 4)
    ]


def _beside_reference(checkout: Path, case: str, count: int, given: Given, seconds: float) -> dict[str, Any]:
    """Seconds and bytes of a step, ours and theirs."""
    on_cpu = given.device == "cpu"
    options = argparse.Namespace(size=64 if on_cpu else 256, steps=1 if on_cpu else 20, threads=2, device=given.device)
    end = time.monotonic() + seconds
    line: dict[str, Any] = {"size": options.size, "batch": count}
    for side in ("ours", "theirs"):
        left = max(1.0, end - time.monotonic())
        found = train_step.measure(side, checkout, case, count, options, left)
        line[side] = dict(zip(("seconds", "bytes"), found, strict=True))
    return line | {"ratio": line["theirs"]["seconds"] / line["ours"]["seconds"]}


def _loaders(given: Given) -> list[Slice]:
    missing = "" if given.images else "no --images names labelled images"
    return [Slice(f"loader-{workers}", partial(_loader, workers), missing) for workers in WORKERS]


def _loader(workers: int, given: Given, seconds: float) -> dict[str, Any]:
    """Images a second of training and of validation, and what of the time is spent waiting for the loader."""
    small = given.device == "cpu"
    size, batch, iterations = (32, 2, 4) if small else (256, 16, 200)
    settings = [f"data.size={size}", f"data.workers={workers}", f"train.batch_size={batch}"]
    settings += [f"train.iterations={iterations}", f"train.val_interval={iterations // 2}"]
    settings += ["segmenter.base=4"] if small else []
    arguments = ["--strategy", "supervised", "--segmenter", "unet", "--source", str(given.images)]
    found = _in_process("run", [*arguments, *_settings(*settings)], given.device, seconds=seconds)
    times, validated = found["times"]["."], 2 * found["parts"]["images"]["val"]
    trained = times["training"] + times["waiting for data"]
    return {
        "size": size,
        "batch": batch,
        "images a second": iterations * batch / trained,
        "share waited": times["waiting for data"] / trained,
        "validated a second": validated / times["validation"],
    }


def _ranks(given: Given) -> list[Slice]:
    import torch

    gpus = torch.cuda.device_count() if given.device != "cpu" else 2
    missing = "" if gpus > 1 else f"it needs two GPUs, and there is {gpus or 'none'}"
    return [Slice("nccl-1", partial(_share, 1)), Slice("nccl-2", partial(_share, 2), missing)]


def _share(count: int, given: Given, seconds: float) -> dict[str, Any]:
    """Gradients averaged between processes, of a GPU each: whether they are right, and how long it takes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lines = [_line("share", given.device, rank, count, port) for rank in range(count)]
    processes = [subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for line in lines]
    end = time.monotonic() + seconds
    try:
        answers = [each.communicate(timeout=max(1.0, end - time.monotonic())) for each in processes]
    finally:
        for each in processes:
            each.kill()
    for process, (_, errors) in zip(processes, answers, strict=True):
        _check(process.returncode, errors)
    return _answer(answers[0][0])


def _octa(given: Given) -> Slice:
    missing = "" if given.octa else "no --octa names its folder"
    return Slice("octa", _ladder, missing)


def _ladder(given: Given, seconds: float) -> dict[str, Any]:
    """The ladder of octa, as far as it comes; the next call goes on."""
    folder = given.work / "octa"
    real = f"folder:{given.octa}/real-train"
    line = [*TOOLKIT, "ladder", "--ladder-dir", str(folder), "--device", given.device, "--json"]
    if not folder.exists():
        config = "ladder.toml" if given.device == "cpu" else "ladder-gpu.toml"
        line += ["--config", str(EXPERIMENTS / "octa" / config), "--seeds", "3", *OFTEN]
        line += ["--source", f"folder:{given.octa}/graph", "--target", real, "--test", real]
        line += _settings(f"data.target.splits={EXPERIMENTS / 'octa' / 'split.json'}")
    output = _as_far_as(line, seconds)
    return {"unfinished": str(folder)} if output is None else {"ladder": json.loads(output)}


def _zh320(given: Given) -> Slice:
    missing = ""
    if given.kvasir is None:
        missing = "no --kvasir names its folder"
    elif (count := sum(1 for _ in given.kvasir.glob("*/images/*"))) != KVASIR:
        missing = f"{given.kvasir} has {count} images in train/, validation/ and test/, and the whole has {KVASIR}"
    return Slice("zh320-unet", _row, missing)


def _row(given: Given, seconds: float) -> dict[str, Any]:
    """zh320's U-Net on Kvasir-SEG, as far as it comes; the next call goes on."""
    folder, data = given.work / "zh320-unet", f"kvasir:{given.kvasir}"
    line = [
        *TOOLKIT,
        "run",
        "--config",
        str(EXPERIMENTS / "zh320-kvasir.toml"),
        "--source",
        data,
        "--test",
        data,
        *OFTEN,
    ]
    line += ["--run-dir", str(folder), "--device", given.device, *(["--resume"] if folder.exists() else [])]
    if _as_far_as(line, seconds) is None:
        return {"unfinished": str(folder)}
    (measured,) = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["tests"].values()
    return {key: measured[key] for key in ("dice_with_background_pooled", "iou_with_background_pooled", "dice")}


def _as_far_as(line: list[str], seconds: float) -> str | None:
    """What a command prints; None where it was not done in time and was interrupted.

    Raises:
        RuntimeError: it failed.
    """
    named: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, cwd=EXPERIMENTS.parents[1], start_new_session=True, **named) as process:
        try:
            output, errors = process.communicate(timeout=max(1.0, seconds - PATIENCE))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            return None
    _check(process.returncode, errors)
    return str(output)


def _line(measure: str, *arguments: Any) -> list[str]:
    return [sys.executable, str(MEASURES), json.dumps([measure, *arguments])]


def _in_process(measure: str, *arguments: Any, seconds: float) -> dict[str, Any]:
    """What a function of gpu_measures.py answers, in a process of its own.

    Raises:
        RuntimeError: it failed.
    """
    line = _line(measure, *arguments)
    answer = subprocess.run(line, capture_output=True, text=True, check=False, timeout=max(1.0, seconds))
    _check(answer.returncode, answer.stderr)
    return _answer(answer.stdout)


def _check(code: int, errors: str) -> None:
    if code:
        raise RuntimeError((errors.strip().splitlines() or ["killed"])[-1])


def _answer(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found
