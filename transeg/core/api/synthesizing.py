"""Makes labelled images with the generator of a run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from transeg.core.api.run_networks import load_trained
from transeg.core.builders.datasets import (
    build_nonempty,
)
from transeg.core.distributed.collectives import join_ranks
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import UsageError
from transeg.core.experiment.schema import SynthesisOptions
from transeg.core.pipeline.run import build_label_maps
from transeg.core.pipeline.synthesis import synthesize
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder


def synthesize_images(
    run_dir: Path,
    registry: Registry,
    console: Console,
    *,
    out: Path,
    count: int,
    options: SynthesisOptions,
    seed: int,
    device: str | None,
) -> Path:
    """Make labelled images with a run's generator; see :func:`transeg.core.pipeline.synthesis.synthesize`. Processes of
    torchrun share the work.

    Args:
        run_dir: the run folder.
        registry: where components come from.
        console: for progress.
        out: where they go.
        count: how many.
        options: what they are made of; without a folder, the label maps that the run was trained on.
        seed: of label maps and noise.
        device: where the generator goes; None for a GPU where there is one.
    """
    join_ranks()
    trained = load_trained(RunFolder(run_dir), registry, device)
    if not trained.given.by_mask:
        raise UsageError(f"The generator of {run_dir} is given images, not label maps; see `toolkit translate`.")
    experiment = trained.experiment.model_copy(update={"seed": seed})
    maps = build_label_maps(experiment, build_nonempty(experiment.data.source, "source", registry), options, registry)
    with progress_bar(console, "synthesizing", count) as advance:
        synthesize(trained, maps, count, out, trained.inference_for_training(), seed, advance)
    return out
