"""The overlay video of a recording, beside the network alone on its frames.

    python benchmarks/video.py [--segmenter hardnet] [--size 352] [--frames 300] [--threads 2] [--cpu-time]

The recording is made first: H.264 of 1920x1080 pixels, a disc that wanders over smooth colours with a sensor's noise.
`predict` decodes it, segments every frame, follows objects, draws outlines, encodes and writes the tables; `network` is
the toolkit's network on a prepared frame, thirty times. Weights are random. Memory is the process's at
its peak, each side in a process of its own, and for a tenth of the frames, too: it must not grow with the recording.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from measuring import answer, peak_memory
from rich.console import Console

from transeg.core.api.run_networks import load_trained
from transeg.core.api.video_prediction import predict_video
from transeg.core.data.video_frames import VideoFile
from transeg.core.inference.overlay_video import OverlayVideo
from transeg.core.inference.prediction import prepared_images
from transeg.core.inference.reading import Reading
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

HEIGHT, WIDTH, RATE = 1080, 1920, 25


def record(path: Path, frames: int) -> None:
    random = np.random.default_rng(0)
    colours = cv2.resize(random.uniform(30, 220, (9, 16, 3)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    noise = random.normal(0, 3, (8, *colours.shape)).astype(np.float32)
    with OverlayVideo(path, Fraction(RATE), Fraction(1, RATE)) as video:
        for number in range(frames):
            picture = (colours + noise[number % len(noise)]).clip(0, 255).astype(np.uint8)
            centre = int(WIDTH * (0.5 + 0.3 * np.sin(number / 40))), int(HEIGHT * (0.5 + 0.3 * np.cos(number / 25)))
            cv2.circle(picture, centre, 120, (220, 90, 80), -1)
            video.add(picture, number, 1)


def begin_run(folder: Path, segmenter: str, size: int) -> None:
    options = [f"data.size={size}", "data.source.count=4", "train.iterations=1"]
    line = [sys.executable, "-m", "transeg", "run", "--strategy", "supervised", "--segmenter", segmenter]
    line += ["--source", "phantom:clean", "--run-dir", str(folder), "--device", "cpu", "--set", *options]
    subprocess.run(line, check=True, capture_output=True)


def measure(side: str, run: Path, video: Path, out: Path) -> dict[str, float]:
    """Seconds by the clock and of the processor a frame, and the peak of memory in bytes."""
    registry = Registry()
    if side == "network":
        trained = load_trained(RunFolder(run), registry, "cpu")
        inference = trained.inference()
        with VideoFile(video, "A video") as file:
            picture = next(iter(file.chosen(0, 0, 0))).pixels()
        still = out.with_suffix(".png")
        cv2.imwrite(str(still), picture[:, :, ::-1])
        (prepared,) = prepared_images(trained, [still], inference, Reading(), None, (1.0, 1.0))
        inference.run(trained.segment, prepared, torch.device("cpu"))
    begin, processor = time.perf_counter(), time.process_time()
    if side == "network":
        count = 30
        for _ in range(count):
            inference.run(trained.segment, prepared, torch.device("cpu"))
    else:
        named = {"fps": 0, "start": 0, "end": 0, "window": None, "flips": False, "device": "cpu"}
        count, *_ = predict_video(run, video, registry, Console(quiet=True), out=out, **named)
    clock, processor = time.perf_counter() - begin, time.process_time() - processor
    return {"frames": count, "clock": clock / count, "processor": processor / count, "peak": peak_memory()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segmenter", default="hardnet")
    parser.add_argument("--size", type=int, default=352)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.measure:
        side, *places = options.measure
        print(json.dumps(measure(side, *map(Path, places))))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        begin_run(root / "run", options.segmenter, options.size)
        short, whole = root / "short.mp4", root / "whole.mp4"
        record(short, options.frames // 10)
        record(whole, options.frames)
        print(f"{options.segmenter}, {options.size} pixels, {options.threads} threads, frames of {WIDTH}x{HEIGHT}")
        print("| | frames | ms a frame | of the processor | peak, GB |\n|---|---|---|---|---|")
        for side, video in (("network", short), ("predict", short), ("predict", whole)):
            line = [__file__, "--threads", str(options.threads), "--measure"]
            line += [side, str(root / "run"), str(video), str(root / f"out_{side}_{video.name}")]
            found = answer(line)
            clock, processor = (f"{found[what] * 1000:.0f}" for what in ("clock", "processor"))
            print(f"| {side} | {found['frames']} | {clock} | {processor} | {found['peak'] / 1e9:.2f} |", flush=True)


if __name__ == "__main__":
    main()
