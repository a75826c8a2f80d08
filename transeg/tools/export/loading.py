"""Which networks of which runs are exported, and whether they fit each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transeg.core.builders.networks import build_generator
from transeg.core.errors import UsageError
from transeg.core.experiment.choices import GeneratorChoice
from transeg.core.experiment.settings import Settings, merge, parse_assignment
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import Translator
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.tools.export.draws import record_draws
from transeg.tools.export.export_request import ExportRequest
from transeg.tools.export.graph import Graph, SegmentationGraph, TranslationGraph


def load_networks(run_dir: Path, registry: Registry, wanted: ExportRequest) -> tuple[TrainedModel, Translator | None]:
    """The run, and what sees images first or alone.

    Raises:
        UsageError: there is no such part, or the parts do not fit each other.
    """
    trained = TrainedModel.load(RunFolder(run_dir), registry, "cpu")
    alone = wanted.generator or trained.segmenter is None
    if wanted.translate_with is not None:
        if alone:
            raise UsageError("--translate-with puts a generator before a segmenter, and there is none here.")
        channels = trained.domains.target_channels
        translator = Translator.adapting(
            wanted.translate_with, registry, "cpu", direction=wanted.direction, channels=channels
        )
        _check_sizes(run_dir, trained, wanted.translate_with, translator)
        return trained, _with_options(translator, wanted.assignments, registry)
    if alone:
        translator = Translator.load(run_dir, registry, "cpu", direction=wanted.direction, window=None)
        translator = _with_options(translator, wanted.assignments, registry)
        return translator.trained, translator
    if wanted.direction is not None:
        raise UsageError("--direction is of a translation; say --translate-with RUN or --generator, too.")
    if wanted.assignments:
        raise UsageError("--set is for options of a generator; say --translate-with RUN or --generator, too.")
    return trained, None


def _check_sizes(run_dir: Path, trained: TrainedModel, other: Path, translator: Translator) -> None:
    """Whether two runs see images alike, so that one can follow the other in one graph.

    Raises:
        UsageError: they do not.
    """
    sizes = [(each.size, each.window) for each in (translator.trained.inference(), trained.inference())]
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"The generator of {other} sees {_seen(*sizes[0])}, the segmenter of {run_dir} {_seen(*sizes[1])}; one "
            "graph sees one size, so export them one by one."
        )
    if trained.experiment.data.stain is not None:
        raise UsageError(
            f"The segmenter of {run_dir} sees images with normalised stain, which no graph does between two networks; "
            "export them one by one."
        )


def _seen(size: int | None, window: int) -> str:
    if window:
        return f"windows of {window} pixels"
    return "images at their own size" if size is None else f"images resized to {size} pixels"


def _with_options(translator: Translator, assignments: Sequence[str], registry: Registry) -> Translator:
    """A generator built again with other options around the same weights.

    Raises:
        UsageError: an assignment is for something else, or the weights do not fit any more.
    """
    settings: Settings = {}
    for assignment in assignments:
        settings = merge(settings, parse_assignment(assignment))
    if not settings:
        return translator
    trained, wanted = translator.trained, settings.get("generator")
    assert trained.generator is not None
    assert trained.experiment.generator is not None
    if settings.keys() != {"generator"} or not isinstance(wanted, dict) or wanted.keys() & GeneratorChoice.model_fields:
        raise UsageError("--set is for options of the generator here, such as generator.noise=false.")
    choice = GeneratorChoice(**{**trained.experiment.generator.model_dump(), **wanted})
    channels = trained.given.channels, trained.domains.target_channels
    generator = build_generator(choice.model_copy(update={"weights": None}), *channels, 0, registry)
    try:
        generator.load_state_dict(trained.generator.state_dict())
    except RuntimeError as error:
        raise UsageError(f"{', '.join(assignments)} changes the generator's weights, which are trained.") from error
    experiment = trained.experiment.model_copy(update={"generator": choice})
    return replace(translator, trained=replace(trained, experiment=experiment, generator=generator.eval()))


def build_graph(trained: TrainedModel, translator: Translator | None, wanted: ExportRequest) -> Graph:
    """What leaves PyTorch of networks that fit each other.

    Raises:
        UsageError: the generator draws in a way of its own.
    """
    translating = segmenting = None
    channels = trained.domains.target_channels
    if translator is not None:
        generator, given = translator.trained.generator, translator.trained.given
        assert generator is not None
        channels = given.channels if given.by_mask else translator.takes
        direction = translator.direction or generator.directions[0]
        draws = record_draws(generator, channels, direction)
        translating = TranslationGraph(generator, direction, given, draws, translator.signs)
    if trained.segmenter is not None and not wanted.generator:
        assert trained.experiment.segmenter is not None
        sigmoid = len(trained.domains.class_names) == 2 and trained.experiment.segmenter.num_classes != 2
        segmenting = SegmentationGraph(trained.segmenter, trained.domains.target_channels, sigmoid=sigmoid)
    return Graph(translating, segmenting, channels)
