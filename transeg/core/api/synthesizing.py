"""Makes labelled images with the generator of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from transeg.core.api.run_networks import load_trained
from transeg.core.builders.datasets import build_nonempty
from transeg.core.claims import check_made_alike
from transeg.core.distributed.collectives import broadcast_from_first, join_ranks
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import UsageError
from transeg.core.files import write_json
from transeg.core.pipeline.label_maps import Variation, build_label_maps
from transeg.core.pipeline.synthesis import synthesize
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

NOTE = "synthesis.json"
"""Says what the images in a folder were made with: a synthesis goes on only where it began."""


def synthesize_images(
    run_dir: Path,
    registry: Registry,
    console: Console,
    *,
    out: Path,
    count: int,
    masks: Path | None,
    variation: Variation,
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
        masks: a folder of label maps that they are made of; None for those that the run was trained on.
        variation: see :class:`transeg.core.pipeline.label_maps.LabelMaps`.
        seed: of label maps and noise.
        device: where the generator goes; None for a GPU where there is one.

    Raises:
        UsageError: something does not fit, or the folder holds something else.
    """
    join_ranks()
    trained = load_trained(RunFolder(run_dir), registry, device)
    if not trained.given.by_mask:
        raise UsageError(f"The generator of {run_dir} is given images, not label maps; see `toolkit translate`.")
    data = trained.experiment.data
    if data.source is None:
        raise UsageError(f"The run {run_dir} had no source, so there are no label maps.")
    source = build_nonempty(data.source, "source", registry)
    limit = data.source_limit
    maps = build_label_maps(source, registry, masks=masks, variation=variation, limit=limit, seed=seed)
    made_by = {
        "run": str(run_dir.resolve()),
        "iteration": trained.iteration,
        "masks": None if masks is None else str(masks.resolve()),
        "variation": variation,
        "seed": seed,
    }
    broadcast_from_first(lambda: _claim(out, made_by))
    with progress_bar(console, "synthesizing", count) as advance:
        synthesize(trained, maps, count, out, trained.inference_for_training(), seed, advance)
    return out


def _claim(out: Path, made_by: dict[str, Any]) -> None:
    """Note in a folder what its images are made with, unless it is there already.

    Raises:
        UsageError: it holds something else.
    """
    check_made_alike(out / NOTE, "synthesis", made_by)
    write_json(out / NOTE, made_by)
