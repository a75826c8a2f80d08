"""The whole table: what the toolkit does beside who else does it, row by row.

    python benchmarks/table.py --out table.json [--reference NAME=DIR ...] [--turns 3] [--threads 1] [--only ROW ...]

A row is a piece of work of ours and the same of a reference: published code in a checkout that --reference names, or a
package that is installed. A row whose reference is not at hand is left out, and said to be. The sides take turns, each
in a process of its own that has as many cores as --threads and computes with as many threads; its first piece of work
warms up and does not count. Ratios above 1 mean that ours is faster, or computes for less time, which is what counts on
a machine that others use, too. Where both sides come to numbers, the table says how far these are apart at most.

--out gets every turn as soon as it is measured. Called again, the command goes on: rows that have all their turns are
printed as they are, unless --again. --tiny shows within seconds that all rows run, in one process and at sizes at which
times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measuring import CHECKOUTS, Side, answer, checkouts, measure, stdout_for_answers, summary

SIDES = ("ours", "theirs")
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "opencv-python-headless", "pillow")
"""Whose versions are told besides those of the references."""


@dataclass(frozen=True)
class Place:
    """Where and how large a side is measured.

    Attributes:
        folder: for files; both sides and all turns of a row have the same.
        checkout: of the reference; None where that is a package.
        images: how many files there are where files are gone through.
        tiny: whether everything is as small as it can be.
    """

    folder: str
    checkout: str | None
    images: int
    tiny: bool

    def size(self, pixels: int, tiny: int) -> int:
        return tiny if self.tiny else pixels


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        title: what is done.
        reference: a checkout of :data:`CHECKOUTS`, or a package.
        make: `ours` or `theirs`, and the place -> that side.
        prepare: writes the files that both sides need.
    """

    title: str
    reference: str
    make: Callable[[str, Place], Side]
    prepare: Callable[[Place], None] | None = None


def training_step(case: str, which: str, place: Place) -> Side:
    import train_step

    size = place.size(256, 32)
    if which == "ours":
        return Side(train_step.ours(case, size, 1, "cpu"))
    assert place.checkout is not None
    return Side(train_step.theirs(Path(place.checkout), case, size, 1, "cpu"))


def segmenter(case: str, work: str, which: str, place: Place) -> Side:
    import segmenters
    import torch

    size, count = place.size(352, 64), 1 if work == "inference" else 2
    image = torch.rand(count, 3, size, size) * 2 - 1
    if which == "ours":
        return Side(segmenters.ours(case, work, image), count)
    assert place.checkout is not None
    return Side(segmenters.theirs(case, work, image, Path(place.checkout)), count)


def loader(case: str, kept: bool, which: str, place: Place) -> Side:
    """Epochs of a loader; the first one warms up, and fills what is kept."""
    import data

    batch = place.size(16, 2)
    size, without_end = place.size(352, 32), 10**6
    arguments = argparse.Namespace(size=size, batch=batch, workers=0, epochs=without_end)
    folder = Path(place.folder)
    if which == "ours":
        epochs = data.ours(folder, "zh320" if case == "zh320" else "hardnet-mseg", f"ours{', kept' * kept}", arguments)
    elif case == "torchvision":
        epochs = data.by_torchvision(folder, arguments)
    else:
        epochs = data.published(Path(place.checkout or ""), folder, case, arguments)
    counts = epochs()

    def epoch() -> None:
        while next(counts):
            pass

    return Side(epoch, loaded(place))


def loaded(place: Place) -> int:
    """Images of an epoch: whole batches alone."""
    return place.size(64, 4)


def write_polyps(place: Place) -> None:
    """As large as those of Kvasir-SEG are in the middle, with masks as JPEG files like theirs."""
    import data
    from pictures import write_photographs

    root = Path(place.folder, "polyps")
    write_photographs(root, loaded(place), place.size(529, 48), place.size(622, 64), masks=".jpg")
    data.prepare(root, Path(place.folder))


def windows(which: str, place: Place) -> Side:
    import inferers

    return inferers.windows(which, place.size(1080, 160), place.size(1080, 128), place.size(512, 64))


def metric(what: str, library: str, which: str, place: Place) -> Side:
    import metrics

    if (what, library) == ("outlines", "torchmetrics"):  # which asks for 30 GB at the size of the others
        return metrics.side(which, what, library, place.size(352, 96), place.size(352, 128))
    return metrics.side(which, what, library, place.size(1080, 96), place.size(1920, 128))


def write_photographs(ending: str, place: Place) -> None:
    from pictures import write_photographs

    height, width = place.size(1080, 96), place.size(1920, 128)
    write_photographs(Path(place.folder, "photographs"), place.images, height, width, images=ending)
    write_photographs(Path(place.folder, "one"), 1, height, width, images=ending)


def photographs(place: Place) -> list[Path]:
    return sorted(Path(place.folder, "photographs", "images").iterdir())


def predict(resized: bool, which: str, place: Place) -> Side:
    import predict

    size = place.size(352, 64) if resized else None
    return predict.side(which, photographs(place), Path(place.folder, which), "smp", size)


def predict_in_windows(which: str, place: Place) -> Side:
    import nnunet_predictor

    window, base, stages = place.size(512, 64), place.size(8, 4), place.size(6, 2)
    return nnunet_predictor.side(which, photographs(place), Path(place.folder, which), window, base, stages)


def verify(which: str, place: Place) -> Side:
    import dataset_commands

    return dataset_commands.verify(which, Path(place.folder, "photographs"), Path(place.folder, "one"), place.images)


def convert(which: str, place: Place) -> Side:
    import dataset_commands

    folder = Path(place.folder)
    return dataset_commands.convert(which, folder / "photographs", folder / "one", place.images, folder / which)


def rows() -> dict[str, Row]:
    """All of them, by the name that --only takes."""
    steps = {
        "cut": ("cut", "CUT, a training step"),
        "cyclegan": ("cut", "CycleGAN, a training step"),
        "joint": ("cut-seg", "CUT + HarDNet-MSEG, a training step"),
        "pix2pix": ("pix2pix", "Pix2pix, a training step"),
        "syndiff": ("syndiff", "SynDiff, a training step"),
        "sample": ("syndiff", "SynDiff, a sample in four steps"),
    }
    found = {
        case: Row(f"{title}, 256x256", reference, partial(training_step, case))
        for case, (reference, title) in steps.items()
    }
    from segmenters import REFERENCE_OF

    for work in ("inference", "training"):
        for case, reference in REFERENCE_OF.items():
            make = partial(segmenter, case, work)
            found[f"{case}-{work}"] = Row(f"{case}, {work}, 352x352", reference, make)
    for case in ("hardnet-mseg", "zh320", "torchvision"):
        for kept in (False, True):
            title = f"loader, 352x352{', images kept' * kept}"
            make = partial(loader, case, kept)
            found[f"loader-{case}{'-kept' * kept}"] = Row(title, case, make, write_polyps)
    found["windows"] = Row("windows of 512 over 1080x1080, HarDNet-MSEG", "monai", windows)
    for library in ("monai", "torchmetrics"):
        found[f"dice-{library}"] = Row("Dice, 1080x1920", library, partial(metric, "dice", library))
        title = {"monai": "1080x1920", "torchmetrics": "352x352; theirs HD100 alone"}[library]
        found[f"outlines-{library}"] = Row(
            f"HD95 and surface Dice, {title}", library, partial(metric, "outlines", library)
        )
    smp, jpeg = "segmentation_models_pytorch", partial(write_photographs, ".jpg")
    for resized, size in ((True, "1080x1920 by way of 352x352"), (False, "1080x1920")):
        make = partial(predict, resized)
        found[f"predict{'' if resized else '-whole'}"] = Row(f"`predict --no-overlays`, {size}", smp, make, jpeg)
    png = partial(write_photographs, ".png")
    title = "`predict --window 512 --no-overlays`, 1080x1920"
    found["predict-windows"] = Row(title, "nnunetv2", predict_in_windows, png)
    found["verify"] = Row("`data verify`, JPEG and masks of 1080x1920", "PIL", verify, jpeg)
    found["convert"] = Row("`data convert`, JPEG of 1080x1920 to PNG", "PIL", convert, jpeg)
    return found


def why_left_out(row: Row, folders: dict[str, Path]) -> str | None:
    if row.reference in CHECKOUTS:
        return None if row.reference in folders else f"no checkout of {row.reference} (--reference {row.reference}=DIR)"
    return None if find_spec(row.reference) else f"the package {row.reference} is not installed"


def child(given: dict[str, Any]) -> Any:
    """Prepare a row's files, or measure a side of it, in this process."""
    row, side, place = rows()[given["row"]], given["side"], Place(**given["place"])
    if side == "prepare":
        assert row.prepare is not None
        return row.prepare(place)
    return measure(row.make(side, place), given["seconds"])


def in_own_process(given: dict[str, Any]) -> Any:
    """What :func:`child` gives there; OpenMP, and so PyTorch, is told of the threads, and others see the cores."""
    variables = {"OMP_NUM_THREADS": str(given["threads"]), "CUDA_VISIBLE_DEVICES": ""}
    return answer([__file__, "--out", os.devnull, "--child", json.dumps(given)], variables)


def measure_row(
    name: str, row: Row, checkout: Path | None, turns: list[Any], options: argparse.Namespace
) -> Iterator[None]:
    """Add turns until there are as many as are wanted, and stop after each.

    Raises:
        RuntimeError: a side failed.
    """
    ask = child if options.tiny else in_own_process
    with tempfile.TemporaryDirectory() as folder:
        place = Place(folder, str(checkout) if checkout else None, options.images, options.tiny)
        seconds = 0 if options.tiny else options.seconds
        given = {"row": name, "threads": options.threads, "seconds": seconds, "place": asdict(place)}
        if row.prepare is not None:
            ask({**given, "side": "prepare"})
        while len(turns) < options.turns:
            turn = {side: ask({**given, "side": side}) for side in SIDES}
            turns.append({**turn, "load": os.getloadavg()[0]})
            yield


def line(row: Row, turns: Sequence[dict[str, Any]]) -> str:
    """The row, as Markdown."""

    def ratios(key: str) -> str:
        return summary([turn["theirs"][key] / turn["ours"][key] for turn in turns], 2)

    def both(key: str, scale: float, digits: int) -> str:
        return ", ".join(summary([turn[side][key] * scale for turn in turns], digits).split(" ")[0] for side in SIDES)

    gaps = [gap for turn in turns if (gap := difference(turn)) is not None]
    cells = [
        row.title,
        row.reference,
        f"**{ratios('processor')}**",
        ratios("clock"),
        *(both(key, 1e3, 0 if turns[0]["theirs"][key] > 0.1 else 1) for key in ("processor", "clock")),
        both("bytes", 1e-9, 2),
        f"{max(gaps):.1g}" if gaps else "",
    ]
    return f"| {' | '.join(cells)} |"


def difference(turn: dict[str, Any]) -> float | None:
    """How far the numbers that both sides came to are apart at most; None where there are none.

    Raises:
        RuntimeError: they came to different amounts of them.
    """
    ours, theirs = (turn[side]["outcome"] for side in SIDES)
    if ours is None or theirs is None:
        return None
    if len(ours) != len(theirs):
        raise RuntimeError(f"ours came to {len(ours)} numbers, the reference to {len(theirs)}")
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


def machine(references: set[str]) -> str:
    """This machine, and the versions of what is installed."""
    cpuinfo = Path("/proc/cpuinfo")
    models = [text for text in cpuinfo.read_text().splitlines() if "model name" in text] if cpuinfo.exists() else []
    name = models[0].partition(":")[2].strip() if models else platform.processor() or platform.machine()
    packages = {"PIL": "pillow", "segmentation_models_pytorch": "segmentation-models-pytorch"}
    found = []
    for package in sorted({*PACKAGES, *(packages.get(each, each) for each in references - {*CHECKOUTS})}):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, {', '.join(found)}"


def stored(options: argparse.Namespace) -> dict[str, Any]:
    """What was measured before with the same options, or nothing yet."""
    settings = {name: getattr(options, name) for name in ("threads", "images", "tiny")}
    if not options.out.exists() or not options.out.stat().st_size:
        return {"machine": machine({row.reference for row in rows().values()}), "settings": settings, "rows": {}}
    found: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8"))
    if found["settings"] != settings:
        raise SystemExit(f"{options.out} was measured with {found['settings']}, not {settings}; name another file.")
    return found


def store(found: dict[str, Any], path: Path) -> None:
    """Write the results, whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--reference", action="append", default=[], metavar="NAME=DIR", help=", ".join(CHECKOUTS))
    parser.add_argument("--only", nargs="+", metavar="ROW", help="by default all rows; --list names them")
    parser.add_argument("--turns", type=int, default=3, help="of each side")
    parser.add_argument("--threads", type=int, default=1, help="and cores, for each side")
    parser.add_argument(
        "--seconds", type=float, default=2, help="of computing in each turn, at least; one piece always"
    )
    parser.add_argument("--images", type=int, default=200, help="photographs to predict, verify and convert")
    parser.add_argument("--again", action="store_true", help="measure rows that are in the file, too")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        answers, given = stdout_for_answers(), json.loads(options.child)
        if hasattr(os, "sched_setaffinity"):  # before anything counts the cores
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given["threads"]])
        print(json.dumps(child(given)), file=answers)
        return
    chosen = {name: row for name, row in rows().items() if name in (options.only or rows())}
    if options.list:
        print("\n".join(f"{name:22} {row.title}, beside {row.reference}" for name, row in chosen.items()))
        return
    if unknown := set(options.only or ()) - {*chosen}:
        parser.error(f"there is no row {unknown.pop()!r}; --list names them")
    folders = checkouts(options.reference)
    found, notes, failed = stored(options), [], False
    print(f"{found['machine']}; threads and cores for each side: {options.threads}\n")
    print(
        "| | beside | ratio of CPU time | ratio by the clock | CPU ms an image, ours and theirs | ms by the clock ",
        end="",
    )
    print("| peak GB | differ by |\n|---|---|---|---|---|---|---|---|", flush=True)
    for name, row in chosen.items():
        why = why_left_out(row, folders)
        turns = [] if options.again and why is None else found["rows"].get(name, [])
        if why is not None and not turns:
            notes.append(f"{name} is left out: {why}.")
            continue
        try:
            if why is None:
                for _ in measure_row(name, row, folders.get(row.reference), turns, options):
                    found["rows"][name] = turns
                    store(found, options.out)
            print(line(row, turns), flush=True)
        except RuntimeError as error:
            failed = True
            notes.append(f"{name} failed: {error}")
    loads = [turn["load"] for name in chosen for turn in found["rows"].get(name, [])]
    print(f"\nLoad of the machine meanwhile: {summary(loads, 1) or 'not known'}.", *notes, sep="\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
