"""Kills commands that write, at drawn moments, lets the same command go on, and compares all files with unbroken ones.

    python tests/kill_campaign.py --count 10 --seed 0 [COMMAND ...]

A moment is either the n-th time that the command touches the file system, or some seconds after its beginning. Prints a
table: command, tried, failed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from transeg.cli import main

TOUCHES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.copyfile", "shutil.rmtree"}
TOLD = {"times.json", "environment.json", "report.html", "README.md", ".lock"}
"""Files that tell times and places; that they are there is compared."""

TINY = ["data.size=32", "train.batch_size=2", "data.source.count=10", "data.source.side=32", "data.workers=0"]
SEGMENTER = [*TINY, "segmenter.base=4", "train.iterations=2", "data.test.phantom.count=10", "data.test.phantom.side=32"]
CUT = [*TINY, "generator.width=4", "generator.blocks=5", "generator.patches=8", "train.iterations=2"]
CUT += ["data.target.count=10", "data.target.side=32"]
PIX2PIX = [*TINY, "generator.width=4", "generator.depth=4", "train.iterations=2"]
RESUMED = [*SEGMENTER, "train.iterations=8", "train.log_interval=3", "train.checkpoint_interval=2"]
RESUMED += ["train.val_interval=4"]
TRAININGS = {
    "segmenter": ["--segmenter", "unet", *SEGMENTER],
    "cut": ["--generator", "cut", *CUT],
    "pix2pix": ["--generator", "pix2pix", "--source", "phantom", *PIX2PIX],
}


def options(words):
    """Settings behind `--set`, the rest as it is."""
    return [part for word in words for part in (["--set", word] if "=" in word else [word])]


def commands(area):
    """The arguments of each command, without where it writes to: that is ``OUT``."""
    sets, runs = area / "sets", area / "runs"
    three = ["--set", "classes=['background','myelin','axon']", "--set", "values=[0,1,2]"]
    translate = ["translate", runs / "cut"]
    return {
        "predict": ["predict", runs / "segmenter", sets / "two" / "test" / "images", "--probabilities", "--count"],
        "translate": [*translate, sets / "two" / "test" / "images"],
        "translate folder": [*translate, sets / "two", "--format", "folder"],
        "convert folder": ["data", "convert", f"folder:{sets / 'three'}", "folder:OUT", *three],
        "convert hdf5": ["data", "convert", f"folder:{sets / 'three'}", "hdf5:OUT", *three],
        "convert nnunet": ["data", "convert", f"folder:{sets / 'three'}", "nnunet:OUT", *three],
        "convert em": ["data", "convert", f"folder:{sets / 'three'}", "em:OUT", *three],
        "convert axon": ["data", "convert", f"folder:{sets / 'three'}", "axon:SEM:OUT", *three],
        "synthesize": ["synthesize", runs / "pix2pix", "--count", 3],
        "evaluate": ["evaluate", runs / "segmenter", "--count"],
        "measure": ["measure", sets / "two" / "test" / "masks", "--test", f"folder:{sets / 'two'}", "--count"],
        "export": ["export", runs / "segmenter", "--format", "safetensors"],
        "report": ["report", runs / "segmenter", "-o", "OUT/report.html"],
        "compare": ["compare", runs / "segmenter", runs / "again", "-o", "OUT/table.json"],
        "run": ["run", "--segmenter", "unet", *options(RESUMED), "--run-dir", "OUT", "--resume"],
    }


def line(arguments, out):
    """A command line that writes to ``out``."""
    words = [str(argument).replace("OUT", str(out)) for argument in arguments]
    return words if any("OUT" in str(argument) for argument in arguments) else [*words, "-o", str(out)]


def make_sets(area):
    """Folders of two and of three classes, with a train, a val and a test split."""
    for name, values in (("two", (0, 255)), ("three", (0, 1, 2))):
        for index, split in enumerate(("train", "train", "val", "test", "test")):
            random_ = np.random.default_rng(index)
            pixels = {
                "images": random_.integers(0, 256, (32, 32, 1 if name == "three" else 3), dtype=np.uint8),
                "masks": np.array(values, np.uint8)[random_.integers(0, len(values), (32, 32))],
            }
            for kind, array in pixels.items():
                folder = area / "sets" / name / split / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.repeat(3, 2) if array.shape[2:] == (1,) else array).save(
                    folder / f"{split}{index}.png"
                )


def call(arguments, area, log, moment=None, seconds=None):
    """Run a command in a fork of this process, and kill it at its n-th touch of the file system, or after a time.

    Gives its exit code, negative for a signal, and how often it has touched what is in ``area``, where it was not
    killed.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _become(arguments, area, log, moment, write)
    os.close(write)
    if seconds is not None:
        _wait(child, seconds)
    with os.fdopen(read) as file:
        said = file.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), int(said or 0)


def _become(arguments, area, log, moment, write):
    touched = 0
    own, place = os.getpid(), str(area)

    def watch(event, details):
        nonlocal touched
        writes = event == "open" and (details[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (event in TOUCHES or writes) and os.getpid() == own and str(details[0]).startswith(place):
            if touched == moment:
                os.kill(own, signal.SIGKILL)
            touched += 1

    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        torch.set_num_threads(1)
        sys.addaudithook(watch)
        main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        os.write(write, str(touched).encode())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child, seconds):
    """Kill a process after a time, if it is still there then; it stays to be waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)


def tree(root):
    """What every file holds that a command has left, hidden ones too, but for times; folders that are empty, too."""
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else _content(path)
        for path in sorted(root.rglob("*"))
        if "tensorboard" not in path.relative_to(root).parts
    }


def _content(path):
    if path.name in TOLD:
        return None
    if path.suffix == ".pt":
        return _plain(torch.load(path, weights_only=True))
    if path.name == "metrics.jsonl":
        found = [json.loads(text) for text in path.read_text().splitlines()]
        return [{key: value for key, value in each.items() if key != "seconds_per_iteration"} for each in found]
    if path.suffix == ".safetensors":  # which keeps what is said of the tensors in no order
        return _plain(load_file(path))
    if path.name == "export.json":
        return _without_times(json.loads(path.read_text()))
    return path.read_bytes()


def _plain(value):
    if isinstance(value, torch.Tensor):
        return value.dtype, value.tolist()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _without_times(value):
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key != "ms"}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def differences(one, other):
    """Files that are not alike in two trees."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name, ...) != other.get(name, ...))


class Campaign:
    """One command, unbroken and killed.

    Args:
        arguments: of the command.
        area: where its folders go.
    """

    def __init__(self, arguments, area):
        self.arguments = arguments
        self.area = area
        self.log = area / "log.txt"
        begin = time.monotonic()
        code, self.moments = self._call("whole")
        self.seconds = time.monotonic() - begin
        if code:
            raise RuntimeError(f"{line(arguments, 'OUT')} ends with {code}: {self.log.read_text()[-1000:]}")
        self.whole = tree(area / "whole")

    def _call(self, name, **how):
        place = self.area / name
        place.mkdir(exist_ok=True)
        return call(line(self.arguments, place / "out"), place, self.log, **how)

    def killed(self, *kills):
        """What is wrong with the files of a command that was killed so, and then went on to its end; '' for nothing."""
        shutil.rmtree(self.area / "cut", ignore_errors=True)
        for how in kills:
            self._call("cut", **how)
        code, _ = self._call("cut")
        found = differences(self.whole, tree(self.area / "cut"))
        if not found:  # a command that had all but ended may say that its work is there already
            return ""
        return f"differs in {', '.join(found[:5])}" + (f"; {self.log.read_text()[-300:]}" if code else "")

    def draw(self, chance):
        """A moment, by a count or by a time."""
        if chance.random() < 0.5:
            return {"moment": chance.randrange(self.moments)}
        return {"seconds": chance.uniform(0, self.seconds)}


def train(area, names):
    """The runs that commands use."""
    for name in names:
        words = ["run", *options(TRAININGS[name]), "--run-dir", str(area / "runs" / name)]
        code, _ = call(words, area / "runs", area / "log.txt")
        if code:
            raise RuntimeError((area / "log.txt").read_text()[-1000:])


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def campaign():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commands", nargs="*")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    area = Path(tempfile.mkdtemp(prefix="kills-"))
    make_sets(area)
    train(area, TRAININGS)
    shutil.copytree(area / "runs" / "segmenter", area / "runs" / "again")
    table, failed = commands(area), 0
    say(f"{'command':<20}{'tried':>6}{'failed':>8}")
    for name in given.commands or table:
        place = area / name.replace(" ", "-")
        place.mkdir()
        chance, reasons = random.Random(f"{given.seed} {name}"), []
        made = Campaign(table[name], place)
        for number in range(given.count):
            kills = [made.draw(chance) for _ in range(chance.choice((1, 1, 2)))]
            wrong = made.killed(*kills)
            if wrong:
                reasons.append(f"  {number}: {kills}: {wrong}")
        say("\n".join([f"{name:<20}{given.count:>6}{len(reasons):>8}", *reasons]))
        failed += len(reasons)
    shutil.rmtree(area)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(campaign())
