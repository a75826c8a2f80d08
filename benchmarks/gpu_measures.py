"""What slices of gpu.py measure in a process of their own: the last line that it prints is its answer in JSON.

python benchmarks/gpu_measures.py '["norms", "cuda"]'
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def steps(arguments: list[str], device: str, strict: bool) -> dict[str, Any]:
    """Losses and seconds of each step of `toolkit run`, and the peak memory of the GPU.

    With ``strict``, a step that waits for the GPU ends it.
    """
    from transeg.core.training.tasks.task import Task

    taken = Task.train_step
    losses: list[dict[str, float]] = []
    seconds: list[float] = []

    def step(self: Task, *given: Any, **named: Any) -> dict[str, Tensor]:
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
    _run(arguments, device, lambda _: {})
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"losses": losses, "seconds": seconds, "bytes": peak}


def run(arguments: list[str], device: str) -> dict[str, Any]:
    """Where the seconds of a run have gone, and of how many images it was."""

    def read(folder: Path) -> dict[str, Any]:
        files = {"times": folder / "times.json", "parts": folder / "parts.json"}
        return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items()}

    return _run(arguments, device, read)


def _run(arguments: list[str], device: str, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What is read of the folder of a `toolkit run`, before that is removed."""
    from transeg.cli import main

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        main(["run", *arguments, "--run-dir", str(folder), "--device", device], standalone_mode=False)
        return read(folder)


def norms(device: str) -> dict[str, Any]:
    """PyTorch's instance norm beside a group norm of one channel each, of one image: CUT's residual blocks.

    ``value`` and ``gradient`` are the largest differences, the latter where gradients come in both orders of memory;
    ``seconds`` are those of a forward and a backward, ``bytes`` the peak memory on a GPU.
    """
    ways = {"instance": F.instance_norm, "group": lambda x: F.group_norm(x, x.shape[1])}
    on_gpu = torch.device(device).type == "cuda"
    shape, rounds = ((1, 256, 64, 64), 50) if on_gpu else ((1, 8, 8, 8), 2)
    orders = torch.contiguous_format, torch.channels_last
    torch.manual_seed(0)
    x, gradient = torch.randn(2, *shape, device=device)
    found: dict[str, Any] = {}
    for precision, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
        made, gradients = [], []
        line: dict[str, Any] = {"seconds": {}, "bytes": {}}
        for name, norm in ways.items():
            for order in orders:
                given = x.to(dtype, copy=True).requires_grad_()
                out = norm(given)
                out.backward(gradient.to(dtype).contiguous(memory_format=order))
                made.append(out.detach().float())
                gradients.append(given.grad.float())
            line["seconds"][name], line["bytes"][name] = _cost(norm, x.to(dtype), gradient.to(dtype), rounds)
        line["value"] = max(float((each - made[-1]).abs().max()) for each in made)
        line["gradient"] = max(float((each - gradients[-1]).abs().max()) for each in gradients)
        found[precision] = line
    return found


def _cost(norm: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor, rounds: int) -> tuple[float, int | None]:
    """Seconds of a forward and a backward, and the peak memory of a GPU."""
    given, on_gpu = x.clone().requires_grad_(), x.device.type == "cuda"
    norm(given).backward(gradient)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(rounds):
        norm(given).backward(gradient)
    if on_gpu:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - begin) / rounds
    return seconds, torch.cuda.max_memory_allocated() if on_gpu else None


def share(device: str, rank: int, count: int, port: int) -> dict[str, Any]:
    """Average gradients of HarDNet-MSEG's size between processes, as a training does after each backward."""
    from transeg.core.distributed.collectives import average_gradients
    from transeg.plugins.segmenters.hardnet import HarDNetMSEG

    on_gpu = torch.device(device).type == "cuda"
    place = torch.device("cuda", rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(place)
    backend = "nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    total = torch.full((4,), float(rank + 1), device=place)
    dist.all_reduce(total)
    if total.tolist() != [count * (count + 1) / 2] * 4:
        raise RuntimeError(f"the sum over {count} processes is {total.tolist()}")
    parameters = list(HarDNetMSEG(3, 1).to(place).parameters())
    rounds, begin = 10 if on_gpu else 1, 0.0
    for number in range(rounds + 1):
        if number == 1:
            _wait(on_gpu)
            begin = time.perf_counter()
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, float(rank + 1))
        average_gradients(parameters)
    _wait(on_gpu)
    seconds = (time.perf_counter() - begin) / rounds
    expected = (count + 1) / 2
    if not all(bool((parameter.grad == expected).all()) for parameter in parameters):
        raise RuntimeError("the gradients are not the mean over the processes")
    dist.destroy_process_group()
    return {"backend": backend, "seconds": seconds, "numbers": sum(each.numel() for each in parameters)}


def _wait(on_gpu: bool) -> None:
    if on_gpu:
        torch.cuda.synchronize()


def main() -> None:
    measure, *arguments = json.loads(sys.argv[1])
    print(json.dumps({"steps": steps, "run": run, "norms": norms, "share": share}[measure](*arguments)))


if __name__ == "__main__":
    main()
