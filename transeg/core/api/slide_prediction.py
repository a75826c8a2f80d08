"""Segments whole slides with what a run has learned, and writes pyramids of masks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import nn

from transeg import __version__
from transeg.core.api.run_networks import load_trained
from transeg.core.claims import claimed
from transeg.core.data.images import write_image
from transeg.core.data.label_pyramid import TILE, pyramid_says, write_label_pyramid
from transeg.core.data.slide_file import (
    ENDINGS,
    SlideFile,
    SlideView,
    holds_pyramid,
    is_scanned,
    nearest_places,
    open_slide,
    slide_stem,
)
from transeg.core.data.tissue_map import map_tissue
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import Failures, UsageError, did_you_mean
from transeg.core.experiment.choices import DatasetChoice
from transeg.core.experiment.settings import Settings, merge, parse_assignment
from transeg.core.files import replacing
from transeg.core.inference.finished_squares import FinishedSquares, finishing_squares
from transeg.core.inference.masks import shown_mask
from transeg.core.inference.pixel_size import PixelSize, scale_reference
from transeg.core.inference.slide_masks import SlideSegmenter, Square
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import TrainedModel, stored_experiment
from transeg.core.inference.visualization import draw_outlines
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

WHAT = "A whole slide"
"""Needs tiffslide."""
OPTIONS = ("mpp", "tissue")
LONGEST = 2048
"""Pixels of the longer side of the picture with the outlines."""
ADVICE = "say it with --pixel-size UM, or how to resample the slide with --rescale FACTOR"


@dataclass(frozen=True, slots=True)
class _Seen:
    """A slide as the networks see it.

    Attributes:
        view: of the slide.
        pixel_size: of a pixel of it in micrometres, height first; None where that is not known.
        whole: whether glass is segmented, too.
    """

    view: SlideView
    pixel_size: PixelSize | None
    whole: bool

    @property
    def path(self) -> Path:
        """Of the slide."""
        return self.view.slide.path


def slides_in(place: Path, run_dir: Path, registry: Registry) -> list[Path]:
    """A slide, or those straight in a folder; none for anything else.

    Files that are called as scanners call theirs are slides, and those with them in a folder that may be; TIFF files
    alone are where they are pyramids and the run was trained on pieces of slides: for others, they are images.

    Raises:
        UsageError: two of them would be written to one result.
    """
    if place.is_dir():
        files = sorted(
            path for path in place.iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith(".")
        )
    else:
        files = [place] if place.is_file() and place.suffix.lower() in ENDINGS else []
    if not files or not (any(map(is_scanned, files)) or _is_trained_on(files, run_dir, registry)):
        return []
    twice = [stem for stem, count in Counter(map(slide_stem, files)).items() if count > 1]
    if twice:
        raise UsageError(f"Several slides in {place} are called {twice[0]}; their results would overwrite each other.")
    return files


def predict_slides(
    run_dir: Path,
    slides: Sequence[Path],
    registry: Registry,
    console: Console,
    *,
    out: Path,
    window: int | None,
    flips: bool,
    device: str | None,
    pixel_size: PixelSize | None = None,
    rescale: float | None = None,
    assignments: Sequence[str] = (),
    overlays: bool = True,
    failures: Failures,
) -> tuple[int, Path]:
    """Segment whole slides where they have tissue, a square of 4,096 pixels at a time.

    Writes ``masks/<name>.ome.tif``, a pyramid at the size at which the networks see the slide, and
    ``overlays/<name>.jpg``, a small picture of the slide with the mask's outlines, where wanted. Slides that the same
    networks have segmented in the same way stay as they are; of one that was begun, finished squares are kept.

    Args:
        run_dir: of the run.
        slides: the files.
        registry: where components come from.
        console: for progress.
        out: the folder.
        window: of the inference.
        flips: of the inference.
        device: to compute on.
        pixel_size: of the finest level of all slides; by default what each says.
        rescale: factor on the finest level.
        assignments: ``mpp``, at which slides are read, and ``tissue``, which may be 0 to segment glass, too; by default
            as the run was trained.
        overlays: whether to write pictures.
        failures: get the slides that cannot be read.

    Returns:
        How many slides were segmented, and the folder.

    Raises:
        UsageError: an option does not fit.
    """
    said = _read_as(assignments)
    trained = load_trained(RunFolder(run_dir), registry, device)
    known = scale_reference(trained.experiment, None)
    inference = trained.inference(window, flips)
    _check_fits(trained, inference, known)
    segmenter = SlideSegmenter(trained, inference, int(known.options.get("region", 0)))
    whole = said.get("tissue", known.options.get("tissue", 1)) == 0
    seen = []
    for path in slides:
        with failures.collect():
            seen.append(_seen(open_slide(path, WHAT), known, said.get("mpp"), pixel_size, rescale, whole))
    weights = _digest_weights(trained.segmenter)
    total = sum(sum(map(len, segmenter.strips(one.view.size))) for one in seen)
    with claimed(out, "predict", slides), progress_bar(console, "segmenting", total, "squares") as advance:
        for one in seen:
            with failures.collect():
                identity = _identity(one, inference, known, trained, weights)
                _segment(one, segmenter, len(trained.domains.class_names), identity, out, overlays, console, advance)
    return len(slides) - len(failures.reasons), out


def _segment(
    one: _Seen,
    segmenter: SlideSegmenter,
    classes: int,
    identity: bytes,
    out: Path,
    overlays: bool,
    console: Console,
    advance: Callable[[], None],
) -> None:
    """Write what belongs to a slide, unless it is there.

    Raises:
        DataError: the slide is damaged.
    """
    stem, about = slide_stem(one.path), f"transeg {__version__} {identity.hex()}"
    place = out / "masks" / f"{stem}.ome.tif"
    picture = out / "overlays" / f"{stem}.jpg"
    strips = segmenter.strips(one.view.size)
    if about in pyramid_says(place) and (picture.exists() or not overlays):
        for _ in chain(*strips):
            advance()
        return
    tissue = None if one.whole else map_tissue(one.view.slide)
    work = place.with_name(f".{stem}.squares")
    with replacing(place) as unfinished, finishing_squares(work, identity) as finished:
        if done := len(finished):
            total = sum(map(len, strips))
            console.print(f"{one.path.name} goes on behind square {done} of {total}", highlight=False)
        for number, square in enumerate(chain(*strips)):
            if number >= done:
                finished.add(shown_mask(segmenter.mask(one.view, tissue, square), classes))
            advance()
        rows = partial(_rows, finished, strips)
        write_label_pyramid(unfinished, rows, one.view.size, one.pixel_size, about)
        if overlays:
            with replacing(picture) as drawn:
                write_image(drawn, _outlined(one.view, rows()))


def _rows(finished: FinishedSquares, strips: Sequence[Sequence[Square]]) -> Iterator[np.ndarray]:
    """The rows of a finished mask, as many at a time as a tile is high."""
    parts = iter(finished)
    for squares in strips:
        last = squares[-1].kept
        strip = np.empty((last.height, last.left + last.width), np.uint8)
        for square in squares:
            strip[:, square.kept.left : square.kept.left + square.kept.width] = next(parts)
        for top in range(0, len(strip), TILE):
            yield strip[top : top + TILE]


def _outlined(view: SlideView, mask: Iterable[np.ndarray]) -> np.ndarray:
    """A small picture of a slide with the outlines of its mask, ``(h, w, 3)``."""
    small = view.slide.overview(LONGEST)
    rows, columns = (nearest_places(0, small.size[axis], small.size[axis], view.size[axis]) for axis in (0, 1))
    top, parts = 0, []
    for strip in mask:
        inside = rows[(rows >= top) & (rows < top + len(strip))] - top
        parts.append(strip[inside][:, columns])
        top += len(strip)
    return draw_outlines(small.read_all(), np.concatenate(parts))


def _is_trained_on(files: Sequence[Path], run_dir: Path, registry: Registry) -> bool:
    """Whether a run was trained on pieces of slides, and all of the files are slides of several levels."""
    folder = RunFolder(run_dir)
    if not folder.experiment.exists():
        return False  # whoever loads it says so
    data = stored_experiment(folder, registry).data
    choice = data.target or data.source
    return choice is not None and _is_of_slides(choice) and all(holds_pyramid(path, WHAT) for path in files)


def _is_of_slides(choice: DatasetChoice) -> bool:
    """Whether a dataset cuts slides into pieces, by the options that say how."""
    return {"region", "tissue"} <= choice.options.keys()


def _check_fits(trained: TrainedModel, inference: Inference, known: DatasetChoice) -> None:
    """Whether a run can segment slides.

    Raises:
        UsageError: it cannot.
    """
    channels = trained.domains.target_channels
    if channels not in (1, 3):
        raise UsageError(f"This run knows images of {channels} channels, but slides have three.")
    if not inference.window and not _is_of_slides(known):
        raise UsageError(
            "This run was trained on whole images, which a slide is too large for; segment it in windows with --window "
            "N, as large as an image of the training."
        )
    if inference.window and trained.experiment.data.stain is not None:
        raise UsageError(
            "This run normalises the stain of whole images, which windows of a slide are not; say --window 0 where it "
            "was trained on pieces of slides, or train it without data.stain."
        )


def _seen(
    slide: SlideFile,
    known: DatasetChoice,
    mpp: float | None,
    pixel_size: PixelSize | None,
    rescale: float | None,
    whole: bool,
) -> _Seen:
    """A slide at the size of pixels that a run knows, or that the user says.

    Raises:
        DataError: it does not say how large its pixels are, or is scanned too coarsely.
    """
    given = slide if pixel_size is None else slide.with_pixel_size(pixel_size)
    if rescale is None:
        trained_at = known.pixel_size or known.options.get("mpp")
        wanted = mpp or (trained_at and trained_at / (known.rescale or 1.0))
        scale = given.scale_to(wanted, ADVICE)
        if wanted is None and known.rescale is not None:
            scale = known.rescale, known.rescale
    else:
        scale = rescale, rescale
    view = given.view(scale)
    if given.pixel_size is None:
        return _Seen(view, None, whole)
    down, across = (given.pixel_size[axis] * given.size[axis] / view.size[axis] for axis in (0, 1))
    return _Seen(view, (down, across), whole)


def _digest_weights(segmenter: nn.Module | None) -> str:
    """What tells a network from others."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in segmenter.state_dict().items() if segmenter is not None else ():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _identity(one: _Seen, inference: Inference, known: DatasetChoice, trained: TrainedModel, weights: str) -> bytes:
    """What tells a computation from others: masks of equal ones are equal."""
    slide = one.view.slide
    stain = trained.experiment.data.stain
    parts = [
        __version__,
        weights,
        [slide_stem(slide.path), *slide.state, one.view.size, one.pixel_size, one.whole],
        [inference.size, inference.window, inference.flips, known.options.get("region")],
        [trained.domains.class_names, None if stain is None else stain.model_dump(mode="json")],
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()


def _read_as(assignments: Sequence[str]) -> dict[str, Any]:
    """The options behind `--set`.

    Raises:
        UsageError: one of them is none of slides, or cannot be that.
    """
    said: Settings = {}
    for text in assignments:
        said = merge(said, parse_assignment(text))
    for name, value in said.items():
        if name not in OPTIONS:
            raise UsageError(
                f"--set {name}: slides have the options {' and '.join(OPTIONS)}.{did_you_mean(name, OPTIONS)}"
            )
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name == "mpp" and not (number and 0 < value < float("inf")):
            raise UsageError(f"--set mpp={value} must be a number of micrometres a pixel.")
        if name == "tissue" and not (number and 0 <= value <= 1):
            raise UsageError(f"--set tissue={value} must be 0, to segment glass, too, or a share up to 1.")
    return said
