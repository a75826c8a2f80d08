"""A run's networks as a folder that others can use: written, checked and described, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from transeg.core.builders.networks import build_generator, build_segmenter
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import TransegError, UsageError
from transeg.core.files import probe, replacing, sweep_unfinished, write_json, write_text
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import Translator
from transeg.core.interfaces import Dataset, Sample, Segmenter
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.tools.common.anonymity import Anonymity
from transeg.tools.export import check, quantization
from transeg.tools.export.card import card
from transeg.tools.export.describe import describe_graph
from transeg.tools.export.export_request import ExportRequest
from transeg.tools.export.formats import FILES, GraphWriter, Run, open_graph
from transeg.tools.export.graph import Graph
from transeg.tools.export.loading import build_graph, load_networks
from transeg.tools.export.sample_images import (
    ExportDatasets,
    UnlabelledFolder,
    build_if_available,
    evenly_spaced,
    graph_input,
    share_limit,
)
from transeg.tools.export.tensors import write_config, write_tensors

Advance = Callable[[], None]
"""Called after each piece of a file's making: each image that 8-bit ranges are found on; other files are one piece."""
Make = Callable[[Path, Advance], Run]
"""Writes a file and opens it."""

COMPARED, CALIBRATED = 4, 64
"""Images that a file is compared on, and that 8-bit ranges are found on, at most."""
LARGEST = 512
"""Images that are taken at their own size are cut to this for the comparison, in their middle."""


def export_run(run_dir: Path, registry: Registry, console: Console, out: Path, wanted: ExportRequest) -> dict[str, Any]:
    """Export a run.

    Args:
        run_dir: the run folder.
        registry: where components come from.
        console: for progress.
        out: a folder that is not there yet, or empty.
        wanted: what goes into it.

    Returns:
        What ``export.json`` holds.

    Raises:
        UsageError: the folder is taken, a package is missing, or the run has no such part.
        TransegError: a network cannot leave PyTorch, or a file differs from the original; then nothing is kept.
    """
    wanted.check()
    with _staged(out) as staging:
        trained, translator = load_networks(run_dir, registry, wanted)
        export = Export(run_dir, trained, translator, build_graph(trained, translator, wanted), registry, wanted)
        report = export.write(staging, console)
        text = card(run_dir, export.graph, trained, translator, registry, report, staging)
        write_text(staging / "README.md", export.hidden.text(text) if wanted.anonymous else text)
    return report


@dataclass(frozen=True)
class Export:
    """One export under way.

    Attributes:
        run_dir: the run folder.
        trained: the run.
        translator: what sees images first, or alone.
        graph: what leaves PyTorch.
        registry: where components come from.
        wanted: by the user.
    """

    run_dir: Path
    trained: TrainedModel
    translator: Translator | None
    graph: Graph
    registry: Registry
    wanted: ExportRequest

    def write(self, folder: Path, console: Console) -> dict[str, Any]:
        """Write every file but the card; gives what ``export.json`` holds."""
        expected = check.reference_run(self.trained, self.translator, self.graph)
        wholes = [self._input(sample) for sample in evenly_spaced(self._to_check(), COMPARED)]
        batches = check.comparison_batches(self.graph, wholes, self._smallest())
        steps = self._steps(folder)
        rows: list[dict[str, Any]] = []
        runs: dict[str, Run] = {"original": expected}
        for name, form, make in steps:
            pieces = (min(CALIBRATED, len(self._calibration)), "images") if form == "int8" else (1, "files")
            with progress_bar(console, f"writing {name}", *pieces) as advance:
                run = _made(make, folder / name, advance)
                found = check.largest_differences(expected, run, batches, name)
            if form not in ("int8", "fp16"):
                check.check_tolerance(found, name)
            else:
                runs[name] = run
            rows.append(self._row(folder / name, form, run, found, batches[0]))
        measured = self._measured(runs, console) if len(runs) > 1 else None
        by_name = {} if measured is None else measured["dice"]
        for row in rows:
            row["dice"] = by_name.get(row["file"])
        why_not = None if measured is None else measured["why_not"]
        report = {
            "part": self.graph.part,
            "tolerance": check.TOLERANCE,
            "threads": torch.get_num_threads(),
            "original": {"ms": check.median_milliseconds(expected, batches[0]), "dice": by_name.get("original")},
            "files": rows,
            "measured_on": None if measured is None else measured["images"],
            "not_measured": self.hidden.text(why_not) if why_not and self.wanted.anonymous else why_not,
        }
        write_json(folder / "preprocessing.json", describe_graph(self.trained, self.translator, self.graph))
        write_json(folder / "export.json", report)
        return report

    def _steps(self, folder: Path) -> list[tuple[str, str, Make]]:
        """Files, their formats, and what writes and opens each."""
        writer = GraphWriter(self.graph.eval())
        steps: list[tuple[str, str, Make]] = []
        for form in (form for form in FILES if form in self.wanted.formats):
            steps.append((FILES[form], form, partial(self._graph_file, writer, form)))
            if form == "onnx" and self.wanted.fp16:
                steps.append(("model-fp16.onnx", "fp16", partial(self._fp16, folder / FILES["onnx"])))
            if form == "onnx" and self.wanted.int8:
                steps.append(("model-int8.onnx", "int8", partial(self._int8, folder / FILES["onnx"])))
        if "safetensors" in self.wanted.formats:
            steps.append((f"{self.graph.part}.safetensors", "safetensors", self._tensors))
        return steps

    def _graph_file(self, writer: GraphWriter, form: str, path: Path, advance: Advance) -> Run:
        writer.write(form, path)
        advance()
        return open_graph(form, path, self.graph.inputs)

    def _fp16(self, source: Path, path: Path, advance: Advance) -> Run:
        quantization.write_fp16(source, path)
        advance()
        return open_graph("onnx", path, self.graph.inputs)

    def _int8(self, source: Path, path: Path, advance: Advance) -> Run:
        def samples() -> Iterator[tuple[Tensor, ...]]:
            for sample in evenly_spaced(self._calibration, CALIBRATED):
                yield self._with_draws(self._input(sample))
                advance()  # once the next is asked for

        quantization.write_int8(source, path, self.graph.inputs, samples())
        return open_graph("onnx", path, self.graph.inputs)

    @cached_property
    def _calibration(self) -> Dataset:
        """Images that 8-bit ranges are found on."""
        return self._of_run().to_calibrate() if self.wanted.images is None else self._to_check()

    def _tensors(self, path: Path, advance: Advance) -> Run:
        """The network's weights in a file, and the network built again from them."""
        write_config(self.trained, self.graph.part, path.with_suffix(".json"))
        if self.graph.segmenting is not None:
            write_tensors(self._unfolded(), path)
            advance()
            return check.reference_run(replace(self.trained, segmenter=self._segmenter(path)), None, self.graph)
        translator, choice = self.translator, self.trained.experiment.generator
        assert translator is not None
        assert translator.trained.generator is not None
        assert choice is not None
        write_tensors(translator.trained.generator, path)
        advance()
        channels = translator.trained.given.channels, self.trained.domains.target_channels
        again = build_generator(choice.model_copy(update={"weights": path}), *channels, 0, self.registry).eval()
        return check.reference_run(
            self.trained, replace(translator, trained=replace(self.trained, generator=again)), self.graph
        )

    def _unfolded(self) -> Segmenter:
        """The segmenter as it was trained."""
        if self.trained.experiment.folds is not None:
            raise UsageError(
                f"The result of {self.run_dir} is the mean of its folds, and a safetensors file holds one network; "
                f"export a fold: toolkit export {self.run_dir / 'fold-1'} ..."
            )
        segmenter = TrainedModel.load(RunFolder(self.run_dir), self.registry, "cpu", layers=True).segmenter
        assert segmenter is not None
        return segmenter

    def _segmenter(self, path: Path) -> Segmenter:
        choice, domains = self.trained.experiment.segmenter, self.trained.domains
        assert choice is not None
        choice = choice.model_copy(update={"weights": path})
        sizes = domains.target_channels, len(domains.class_names)
        return build_segmenter(choice, *sizes, 0, self.registry, whole=True, pretrained=False).eval()

    def _row(
        self, path: Path, form: str, run: Run, found: Sequence[dict[str, Any]], inputs: tuple[Tensor, ...]
    ) -> dict[str, Any]:
        return {
            "file": path.name,
            "format": form,
            "bytes": path.stat().st_size,
            "difference": max(row["difference"] for row in found),
            "compared": list(found),
            "ms": check.median_milliseconds(run, inputs),
            "dice": None,
        }

    def _measured(self, runs: dict[str, Run], console: Console) -> dict[str, Any]:
        """Dice of smaller numbers beside the original's, or why there is none."""
        if self.graph.segmenting is None:
            return {"images": 0, "dice": {}, "why_not": "A generator alone has no Dice."}
        datasets, why_not = build_if_available(self._of_run().labelled)
        if not datasets:
            return {"images": 0, "dice": {}, "why_not": why_not or "The run has no labelled images to measure it on."}
        count = sum(number for _, number in share_limit(datasets, check.MEASURED))
        with progress_bar(console, "measuring", count) as advance:
            found = check.mean_dice(runs, self.graph, datasets, self.trained.inference(), advance)
        return {"images": count, "dice": found, "why_not": None}

    @property
    def hidden(self) -> Anonymity:
        """What hides every path that the run folders name."""
        experiments = [self.trained.experiment, *([] if self.translator is None else [self._first.experiment])]
        return Anonymity(self.run_dir, self.wanted.images, *(each.model_dump() for each in experiments))

    @property
    def _first(self) -> TrainedModel:
        """The run whose network is the first to see images."""
        return self.trained if self.translator is None else self.translator.trained

    def _of_run(self) -> ExportDatasets:
        if self.translator is None:
            return ExportDatasets(self.trained.experiment, backwards=False, adapted=False, registry=self.registry)
        experiment = self.translator.trained.experiment
        return ExportDatasets(experiment, backwards=self.translator.backwards, adapted=True, registry=self.registry)

    def _to_check(self) -> Dataset:
        if self.wanted.images is not None:
            return UnlabelledFolder(self.wanted.images, self.graph, self._first)
        try:
            return self._of_run().to_check()
        except UsageError as error:
            raise UsageError(
                f"{error} Or say on which images to check what is exported, with --images FOLDER."
            ) from error

    def _input(self, sample: Sample) -> Tensor:
        """An image as the graph takes it, of the size at which the run's networks see it."""
        inference = self._first.inference()
        return graph_input(self.graph, sample, inference, inference.window or LARGEST)

    def _with_draws(self, image: Tensor) -> tuple[Tensor, ...]:
        return image, *self.graph.draws.of(torch.arange(len(image)), *image.shape[-2:])

    def _smallest(self) -> int:
        generator = None if self.translator is None else self.translator.trained.generator
        return 1 if generator is None else generator.smallest


def _made(make: Make, path: Path, advance: Advance) -> Run:
    """What a step makes; whatever a converter says becomes a sentence."""
    try:
        return make(path, advance)
    except TransegError:
        raise
    except Exception as error:  # every converter fails in its own way
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        reason = str(root).strip().partition("\n")[0][:300]
        raise TransegError(
            f"{path.name} cannot be made of this network, so nothing is kept: {type(root).__name__}: {reason}"
        ) from error


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A folder beside the wanted one, which it becomes when everything in it is there.

    Raises:
        UsageError: the wanted one is taken, or cannot be made.
    """
    if not out.name:
        raise UsageError(f"-o {out} names no folder that could be made; say one with a name, such as -o model.")
    sweep_unfinished(out.parent, deep=False)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already, and not an empty folder; choose another with -o.")
    try:
        probe(out.parent)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}; choose another with -o.") from error
    with replacing(out) as staging:
        staging.mkdir()
        yield staging
