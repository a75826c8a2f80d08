"""A training step and the inference of each segmenter, beside the published implementations.

    python benchmarks/segmenters.py --reference zh320=DIR --reference hardnet-mseg=DIR --reference revisit=DIR

DIR is a checkout of zh320/medical-segmentation-pytorch (ducknet, resunet, resunetpp, unet, unetpp, and smp as it builds
it), of james128333/HarDNet-MSEG (hardnet) or of aribryan/segmentation_revisit (revisit-unet); this project holds none
of their code. Random weights, one channel of logits, fp32; a training step is forward pass, binary cross-entropy,
backward pass and Adam. Ours is run as the toolkit runs it: images are normalised and padded, a trained network is
folded and laid out for the device, freed memory is kept. Theirs is run as it is written, on normalised images.

The sides take turns, each in a fresh process with the same number of threads, so that a machine that speeds up or
slows down does so for both. Printed are the median and the range over the turns of milliseconds per batch, of the
ratio turn by turn and of peak memory; and what share each side reaches of the multiplications per second of one large
convolution, measured in the same process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import answer, checkouts, stdout_for_answers, summary

if TYPE_CHECKING:
    from torch import Tensor, nn

    from transeg.tools.benchmark.speed import Work

REFERENCE_OF = {
    "hardnet": "hardnet-mseg",
    "unet": "zh320",
    "unetpp": "zh320",
    "resunet": "zh320",
    "resunetpp": "zh320",
    "ducknet": "zh320",
    "smp": "zh320",
    "revisit-unet": "revisit",
}
WIDTHS = {"unet": 32, "unetpp": 32, "resunet": 32, "resunetpp": 32, "ducknet": 17, "smp": None}
ADDS_IN_PLACE = ("resunet", "resunetpp")
"""They add in place to what backward needs; torch 2 refuses, so that their training steps get a sum of its own."""


def ours(case: str, work: str, image: Tensor) -> Work:
    """As the toolkit trains and predicts."""
    from transeg.core.device import keep_freed_memory
    from transeg.core.registry import Registry
    from transeg.tools.benchmark.speed import inference_work, training_work

    if image.device.type == "cpu":
        keep_freed_memory()
    registry = Registry()
    network = registry.load(registry.find("segmenter", case))(3, 1)
    return inference_work(network, image) if work == "inference" else training_work(network.to(image.device), image)


def theirs(case: str, work: str, image: Tensor, checkout: Path) -> Work:
    """As it is published."""
    import torch
    import torch.nn.functional as F

    sys.path.insert(0, str(checkout))
    network = published(case).to(image.device)
    if work == "inference":
        network.eval()
        return torch.inference_mode()(lambda: network(image))
    if case in ADDS_IN_PLACE:
        torch.Tensor.__iadd__ = torch.Tensor.__add__  # type: ignore[method-assign,assignment]
    optimizer = torch.optim.Adam(network.train().parameters())
    mask = (torch.rand_like(image[:, :1]) > 0.9).to(image.dtype)

    def step() -> None:
        loss = F.binary_cross_entropy_with_logits(network(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def published(case: str) -> nn.Module:
    """A network of a checkout that is on the path."""
    import torch

    if case == "hardnet":
        from lib.HarDMSEG import HarDMSEG  # type: ignore[import-not-found]

        load, fill = torch.load, torch.nn.Module.load_state_dict
        torch.load = lambda *_, **__: {}  # type: ignore[assignment]  # it reads weights from its author's home
        torch.nn.Module.load_state_dict = lambda *_, **__: None  # type: ignore[assignment,method-assign,return-value]
        network: nn.Module = HarDMSEG()
        torch.load, torch.nn.Module.load_state_dict = load, fill  # type: ignore[method-assign]
        return network
    if case == "revisit-unet":
        from model import simpleUNet  # type: ignore[import-not-found]

        return simpleUNet(argparse.Namespace(dimensions=64))
    from models import get_model  # type: ignore[import-not-found]

    return get_model(
        argparse.Namespace(
            model=case, num_class=1, base_channel=WIDTHS[case], use_aux=False,
            encoder="resnet18", decoder="unet", encoder_weights=None,
        )
    )  # fmt: skip


def child(arguments: argparse.Namespace) -> None:
    """Answer with the median of the seconds, the multiplications, peak memory, and the machine's peak."""
    answers = stdout_for_answers()
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from transeg.tools.benchmark.speed import machine_peak, peak_memory, time_repetitions

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    image = torch.rand(arguments.batch, 3, arguments.size, arguments.size, device=device) * 2 - 1
    case, work = arguments.child[1:3]
    if arguments.child[0] == "ours":
        run = ours(case, work, image)
    else:
        run = theirs(case, work, image, Path(arguments.child[3]))
    with FlopCounterMode(display=False) as counter:
        run()
    seconds = statistics.median(time_repetitions(run, device, arguments.seconds))
    result = {
        "ms": seconds * 1e3,
        "gb": (peak_memory(device) or 0) / 1e9,
        "share": counter.get_total_flops() / 2 / seconds / machine_peak(device),
    }
    print(json.dumps(result), file=answers)


def measure(side: list[str], batch: int, arguments: argparse.Namespace) -> dict[str, float]:
    """One side, from a process of its own."""
    same = {f"--{name}": str(getattr(arguments, name)) for name in ("size", "seconds", "threads", "device")}
    options = [part for option in {**same, "--batch": str(batch)}.items() for part in option]
    try:
        found: dict[str, float] = answer([__file__, *options, "--child", *side])
    except RuntimeError as error:
        raise RuntimeError(f"{side[0]}: {error}") from error
    return found


def compare(case: str, work: str, checkout: Path, arguments: argparse.Namespace) -> float | None:
    """Measure both sides in turn and print a line; the median ratio, or None where a side fails."""
    batch = 1 if work == "inference" else arguments.train_batch
    sides = (["ours", case, work], ["theirs", case, work, str(checkout)])
    title = f"{case:12} {work:9} batch {batch}"
    try:
        turns = [[measure(side, batch, arguments) for side in sides] for _ in range(arguments.turns)]
    except RuntimeError as error:
        print(f"{title}  {error}", flush=True)
        return None

    def both(key: str, digits: int, unit: str) -> str:
        return " against ".join(summary([turn[side][key] for turn in turns], digits) + unit for side in range(2))

    ratios = [turn[1]["ms"] / turn[0]["ms"] for turn in turns]
    shares = " against ".join(f"{statistics.median(turn[side]['share'] for turn in turns):.0%}" for side in range(2))
    print(
        f"{title}  {both('ms', 0, ' ms')}, ratio {summary(ratios, 2)}, of the machine's peak {shares}, "
        f"memory {both('gb', 2, ' GB')}",
        flush=True,
    )
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", action="append", default=[], metavar="NAME=DIR", help="repeatable")
    parser.add_argument("--segmenters", nargs="+", choices=REFERENCE_OF, metavar="NAME", help="by default all")
    parser.add_argument("--work", nargs="+", choices=["inference", "training"], default=["inference", "training"])
    parser.add_argument("--size", type=int, default=352)
    parser.add_argument("--train-batch", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3, help="of each side")
    parser.add_argument("--seconds", type=float, default=5, help="of repetitions in each turn; five at least")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    folders = checkouts(arguments.reference, sorted(set(REFERENCE_OF.values())))
    cases = arguments.segmenters or [case for case, reference in REFERENCE_OF.items() if reference in folders]
    missing = {REFERENCE_OF[case] for case in cases} - folders.keys()
    if missing or not cases:
        raise SystemExit(f"Say where the checkout is: --reference {missing.pop() if missing else 'zh320'}=DIR")
    print("ours against theirs; a ratio above 1 means that ours is faster", flush=True)
    for work in arguments.work:
        ratios = [ratio for case in cases if (ratio := compare(case, work, folders[REFERENCE_OF[case]], arguments))]
        if len(ratios) > 1:
            print(f"{work}: ratio {summary(ratios, 2)} over {len(ratios)} segmenters", flush=True)


if __name__ == "__main__":
    main()
