"""Whether gradients should travel while the backward still runs: a training step in each of two processes (gloo, CPU).

`after` is what the toolkit does; `during` sends each bucket as soon as its last gradient is there; `alone` sends none.
All three take turns in the same processes, so that other work on the machine meets all of them.
"""

import argparse
import statistics
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from transeg.core.builders.networks import build_segmenter
from transeg.core.distributed import collectives as distributed
from transeg.core.experiment.choices import SegmenterChoice
from transeg.core.registry import Registry


class During:
    """Averages gradients in buckets, in the order in which a backward is expected to finish them."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.buckets = list(distributed._buckets(parameters[::-1]))
        self.waiting = [len(bucket) for bucket in self.buckets]
        self.sent: list[tuple[int, torch.Tensor, dist.Work]] = []
        self.on = False
        for index, bucket in enumerate(self.buckets):
            for parameter in bucket:
                parameter.register_post_accumulate_grad_hook(lambda _parameter, index=index: self.ready(index))

    def ready(self, index: int) -> None:
        if not self.on:
            return
        self.waiting[index] -= 1
        if self.waiting[index] == 0:
            flat = torch.cat([parameter.grad.flatten() for parameter in self.buckets[index]])
            self.sent.append((index, flat, dist.all_reduce(flat, async_op=True)))

    def finish(self) -> None:
        for index, flat, work in self.sent:
            work.wait()
            flat /= 2
            bucket = self.buckets[index]
            for parameter, mean in zip(bucket, torch.split(flat, [p.numel() for p in bucket]), strict=True):
                parameter.grad.copy_(mean.view_as(parameter))
        self.sent = []
        self.waiting = [len(bucket) for bucket in self.buckets]


def step(way: str, network: nn.Module, image: torch.Tensor, during: During) -> float:
    during.on = way == "during"
    dist.barrier()
    begin = time.perf_counter()
    heads = network(image)
    loss = sum(head.square().mean() for head in (heads if isinstance(heads, list) else [heads]))
    loss.backward()
    if way == "after":
        distributed.average_gradients(network.parameters())
    elif way == "during":
        during.finish()
    seconds = time.perf_counter() - begin
    network.zero_grad()
    return seconds


def work(rank: int, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{options.port}", rank=rank, world_size=2)
    network = build_segmenter(SegmenterChoice(name=options.segmenter), 3, 1, 0, Registry(), pretrained=False)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    during, image = During(parameters), torch.randn(options.batch, 3, options.size, options.size)
    network.zero_grad()
    ways = ("alone", "after", "during")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(options.turns + 1):
        for way in ways:
            took = step(way, network, image, during)
            if turn:  # the first one allocates
                seconds[way].append(took)
    if rank == 0:
        count = sum(parameter.numel() for parameter in parameters)
        print(
            f"{options.segmenter}: {count / 1e6:.1f} M parameters, {options.batch} x {options.size}x{options.size} each"
        )
        for way in ways:
            ratios = [own / base for own, base in zip(seconds[way], seconds["after"], strict=True)]
            print(
                f"{way:7} {statistics.median(seconds[way]) * 1000:8.1f} ms   {statistics.median(ratios):.2f} of after"
            )
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segmenter", default="hardnet")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--port", type=int, default=29876)
    mp.spawn(work, (parser.parse_args(),), nprocs=2)


if __name__ == "__main__":
    main()
