"""One training step of CUT, CycleGAN, CUT + HarDNet-MSEG, Pix2pix and SynDiff, beside the published implementations.

    python benchmarks/train_step.py --reference NAME=DIR [--reference NAME=DIR ...]

DIR is a checkout of `cut`, taesungp/contrastive-unpaired-translation (measured as `cut`, and as `cyclegan`, which it
holds, too), of `cut-seg`, enric1994/cut-seg (measured as `joint`), of `pix2pix`, junyanz/pytorch-CycleGAN-and-pix2pix,
also as the folder cyclegan/ of enric1994/synth-colon (measured as `pix2pix`), or of `syndiff`, icon-lab/SynDiff
(measured as `syndiff`, without the penalty of every tenth step, and as `sample`: inference in four steps); this project
holds none of their code. The sides take turns, each in a fresh process with the same number of threads, so that a
machine that speeds up or slows down does so for both, and never both need memory at once. A process takes a step to
warm up and then those that count. Printed are the median and the range over the turns of seconds per step, of the ratio
turn by turn, and of each side's peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

from measuring import answer, checkouts, stdout_for_answers, summary

Step = Callable[[], None]
CASES = {
    "cut": ["cut", "cyclegan"],
    "cut-seg": ["joint"],
    "pix2pix": ["pix2pix"],
    "syndiff": ["syndiff", "sample"],
}
"""What is measured beside each reference."""


def ours(case: str, size: int, count: int, device: str) -> Step:
    """A step of this toolkit."""
    import torch
    from mmengine.optim import OptimWrapper, OptimWrapperDict

    from transeg.core.device import keep_freed_memory
    from transeg.core.inference.conditioning import Conditioning
    from transeg.core.interfaces import Batch, Generator, Optimization
    from transeg.core.models.compilation import fuse_optimizers
    from transeg.core.models.forward import translate
    from transeg.core.models.memory_layout import put_segmenter_channels_last
    from transeg.core.models.winograd import use_winograd
    from transeg.core.training.losses import LossSum
    from transeg.core.training.tasks.joint_task import JointTask
    from transeg.core.training.tasks.task import Task
    from transeg.core.training.tasks.translation_task import TranslationTask
    from transeg.plugins.generators.cut import CUT
    from transeg.plugins.generators.cyclegan import CycleGAN
    from transeg.plugins.generators.pix2pix import Pix2pix
    from transeg.plugins.generators.syndiff import SynDiff
    from transeg.plugins.losses.overlap import LogDiceLoss
    from transeg.plugins.segmenters.hardnet import HarDNetMSEG

    if device == "cpu":
        keep_freed_memory()  # as `toolkit run` does
    channels = 1 if case in ("syndiff", "sample") else 3
    cls: type[Generator] = {"cyclegan": CycleGAN, "pix2pix": Pix2pix}.get(case, SynDiff if channels == 1 else CUT)
    generator = cls(channels, channels)
    task: Task
    given = Conditioning("image", 2, channels)
    if case != "joint":
        task = TranslationTask(generator, given)
    else:
        segmenter = HarDNetMSEG(3, 1)
        loss = LossSum({"log-dice": (1.0, LogDiceLoss())})
        optimization = Optimization(torch.optim.Adam(segmenter.parameters(), lr=2e-4))
        task = JointTask(generator, segmenter, loss, optimization, lambda _: 1e-3, given, 0.5)
    task.to(device).train()
    if device == "cpu":  # as well, in fp32
        use_winograd(task)
        if case == "joint":
            put_segmenter_channels_last(segmenter)
    fuse_optimizers((o.optimizer for o in task.optimizers().values()), True)
    wrappers = OptimWrapperDict(**{name: OptimWrapper(o.optimizer) for name, o in task.optimizers().items()})
    images = [torch.rand(count, channels, size, size) * 2 - 1 for _ in range(2)]
    if case == "sample":
        image, sampler = images[0].to(device), generator.eval()

        @torch.inference_mode()
        def sample() -> None:
            translate(sampler, image, "source-to-target")

        return sample
    mask = (torch.rand(count, size, size) > 0.9).long()
    batch = Batch(images[0], mask, images[1], torch.arange(count), seed=0, iteration=1)
    return lambda: task.train_step(batch, wrappers) and None


class NoGPU(list):
    """An empty list of GPUs whose first entry is the CPU: cut-seg asks for it without looking."""

    def __getitem__(self, index: object) -> str:
        return "cpu"


def pix2pix(checkout: Path, size: int, count: int, device: str) -> Step:
    """A step of the published Pix2pix, imported from its checkout."""
    import torch

    sys.path.insert(0, str(checkout))
    from models.pix2pix_model import Pix2PixModel  # type: ignore[import-not-found]

    options = argparse.Namespace(
        gpu_ids=[] if device == "cpu" else [0], isTrain=True, checkpoints_dir=".", name="x", preprocess="none",
        input_nc=3, output_nc=3, ngf=64, ndf=64, netG="unet_256", netD="basic", n_layers_D=3, norm="batch",
        no_dropout=False, init_type="normal", init_gain=0.02, gan_mode="vanilla", lambda_L1=100.0, lr=2e-4, beta1=0.5,
        direction="AtoB",
    )  # fmt: skip
    model = Pix2PixModel(options)
    images = [torch.rand(count, 3, size, size) * 2 - 1 for _ in range(2)]
    batch = {"A": images[0], "B": images[1], "A_paths": [], "B_paths": []}

    def step() -> None:
        model.set_input(batch)
        model.optimize_parameters()

    return step


def cyclegan(checkout: Path, size: int, count: int, device: str) -> Step:
    """A step of the published CycleGAN, imported from a checkout of CUT, whose authors brought it along."""
    import torch

    sys.path.insert(0, str(checkout))
    leave_out_displays()
    from models.cycle_gan_model import CycleGANModel  # type: ignore[import-not-found]

    options = argparse.Namespace(
        gpu_ids=[] if device == "cpu" else [0], isTrain=True, checkpoints_dir=".", name="x", preprocess="none",
        input_nc=3, output_nc=3, ngf=64, ndf=64, netG="resnet_9blocks", netD="basic", n_layers_D=3, normG="instance",
        normD="instance", no_dropout=True, init_type="normal", init_gain=0.02, no_antialias=True, no_antialias_up=True,
        lambda_A=10.0, lambda_B=10.0, lambda_identity=0.5, pool_size=50, gan_mode="lsgan", lr=2e-4, beta1=0.5,
        direction="AtoB", amp=False,
    )  # fmt: skip
    model = CycleGANModel(options)
    images = [torch.rand(count, 3, size, size) * 2 - 1 for _ in range(2)]
    batch = {"A": images[0], "B": images[1], "A_paths": [], "B_paths": []}

    def step() -> None:
        model.set_input(batch)
        model.optimize_parameters()

    return step


def leave_out_displays() -> None:
    """Let the published code of CUT be imported without what it shows its progress with."""
    for name in ("IPython", "dominate", "visdom"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["IPython"].embed = None  # type: ignore[attr-defined]


def theirs(checkout: Path, case: str, size: int, count: int, device: str) -> Step:
    """A step of a published implementation, imported from its checkout."""
    import torch

    if case in ("syndiff", "sample"):
        import published_syndiff

        return (published_syndiff.step if case == "syndiff" else published_syndiff.sample)(
            checkout, size, count, device
        )
    if case in ("pix2pix", "cyclegan"):
        return (pix2pix if case == "pix2pix" else cyclegan)(checkout, size, count, device)
    sys.path.insert(0, str(checkout))
    leave_out_displays()
    if "segmentation_models_pytorch" not in sys.modules:
        try:
            import segmentation_models_pytorch  # noqa: F401
        except ImportError:
            from transeg.plugins.losses.overlap import LogDiceLoss

            stand_in = types.ModuleType("segmentation_models_pytorch")
            dice = LogDiceLoss()  # the same formula; see the parity tests
            make = types.SimpleNamespace(DiceLoss=lambda **_: lambda p, t: dice(p, t[:, 0].long()))
            stand_in.losses = make  # type: ignore[attr-defined]
            sys.modules["segmentation_models_pytorch"] = stand_in

    from models.cut_model import CUTModel  # type: ignore[import-not-found]

    real_load, real_fill = torch.load, torch.nn.Module.load_state_dict
    torch.load = lambda *_, **__: {}  # type: ignore[assignment]  # ImageNet weights do not change a step's cost
    torch.nn.Module.load_state_dict = lambda *_, **__: None  # type: ignore[assignment,method-assign,return-value]
    options = argparse.Namespace(
        gpu_ids=NoGPU() if device == "cpu" else [0], isTrain=True, checkpoints_dir=".", name="x", preprocess="none",
        input_nc=3, output_nc=3, ngf=64, ndf=64, netG="resnet_9blocks", netD="basic", n_layers_D=3, normG="instance",
        normD="instance", no_dropout=True, init_type="xavier", init_gain=0.02, no_antialias=False,
        no_antialias_up=False, netF="mlp_sample", netF_nc=256, nce_layers="0,4,8,12,16", nce_idt=True, nce_T=0.07,
        num_patches=256, flip_equivariance=False, nce_includes_all_negatives_from_minibatch=False, lambda_GAN=1.0,
        lambda_NCE=1.0, gan_mode="lsgan", lr=2e-4, beta1=0.5, beta2=0.999, direction="AtoB", batch_size=count,
        compute_pl=False, S_loss_weight=1e-3, S_weight_temp=False, S_weight_step=0, stylegan2_G_num_downsampling=1,
        n_epochs=50, n_epochs_decay=0, weights_encoder=None,
    )  # fmt: skip
    model = CUTModel(options)
    torch.load, torch.nn.Module.load_state_dict = real_load, real_fill  # type: ignore[method-assign]
    batch = {
        "A": torch.rand(count, 3, size, size) * 2 - 1,
        "B": torch.rand(count, 3, size, size) * 2 - 1,
        "A_seg": (torch.rand(count, 1, size, size) > 0.9).float(),
        "A_paths": [],
        "B_paths": [],
        "indexes": list(range(count)),
    }
    model.data_dependent_initialize(batch)

    def step() -> None:
        model.set_input(batch)
        model.optimize_parameters()

    return step


def child(arguments: argparse.Namespace) -> None:
    """Warm up, take steps, and answer with the median of their seconds and the peak memory in bytes."""
    answers = stdout_for_answers()
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    sizes = arguments.size, arguments.batch[0], arguments.device
    ours_here = arguments.child == "ours"
    step = ours(arguments.case, *sizes) if ours_here else theirs(arguments.checkout, arguments.case, *sizes)
    on_gpu = arguments.device != "cpu"
    seconds = []
    for _ in range(arguments.steps + 1):
        start = time.perf_counter()
        step()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([statistics.median(seconds[1:]), peak]), file=answers)


def measure(
    side: str, checkout: Path, case: str, count: int, arguments: argparse.Namespace, limit: float | None = None
) -> list[float]:
    """Seconds and bytes of one side, from a process of its own, which has so many seconds; None for any number."""
    options = {
        "--child": side,
        "--case": case,
        "--checkout": checkout,
        "--batch": count,
        **{f"--{name}": getattr(arguments, name) for name in ("size", "steps", "threads", "device")},
    }
    line = [__file__, *(part for option in options.items() for part in option)]
    found: list[float] = answer(line, seconds=limit)
    return found


def compare(checkout: Path, case: str, count: int, arguments: argparse.Namespace) -> None:
    """Measure both sides in turn and print a line."""
    turns = [
        [measure(side, checkout, case, count, arguments) for side in ("ours", "theirs")] for _ in range(arguments.turns)
    ]
    ours_s, theirs_s = ([turn[side][0] for turn in turns] for side in range(2))
    ours_gb, theirs_gb = ([turn[side][1] / 1e9 for turn in turns] for side in range(2))
    ratios = [theirs / ours for ours, theirs in zip(ours_s, theirs_s, strict=True)]
    print(
        f"{case:8} batch {count}  ours {summary(ours_s, 2)} s  reference {summary(theirs_s, 2)} s  "
        f"ratio {summary(ratios, 2)}  peak memory {summary(ours_gb, 2)} GB against {summary(theirs_gb, 2)} GB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", action="append", default=[], metavar="NAME=DIR", help="repeatable")
    parser.add_argument("--batch", action="append", type=int, help="images per step; repeatable; by default 1 and 4")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3, help="of each side")
    parser.add_argument("--steps", type=int, default=2, help="that count, in each turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--child", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--checkout", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    folders = checkouts(arguments.reference, tuple(CASES))
    if not folders:
        raise SystemExit("Say where a checkout is: --reference cut=DIR")
    for name, checkout in folders.items():
        for case in CASES[name]:
            for count in arguments.batch or [1, 4]:
                compare(checkout, case, count, arguments)


if __name__ == "__main__":
    main()
