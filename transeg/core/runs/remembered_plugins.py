"""The manifests that a run was given with `--registry`, found again when it is read."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

logger = logging.getLogger("transeg.run")


def include_plugins(experiment: Path, registry: Registry) -> None:
    """Let a registry offer what a run was made with.

    A manifest that lies in the run's own folder, by whatever path it is named, is left out: a run that somebody sends
    must not bring code along. Runs name manifests by their absolute paths; others are not followed.

    Args:
        experiment: file of the run, or of a stage in its folder.
        registry: gets the manifests, or learns which of them are not there any more.
    """
    for folder in (experiment.parent, experiment.parent.parent):
        try:
            noted = json.loads(RunFolder(folder).environment.read_text(encoding="utf-8")).get("registry", [])
            files = [Path(file) for file in noted if Path(file).is_absolute()]
        except (OSError, ValueError, AttributeError, TypeError):
            continue
        run = _whole_run(folder.resolve())
        new = registry.include(file for file in files if not file.resolve().is_relative_to(run))
        if new:
            logger.info("Plugins that the run was made with: %s", ", ".join(map(str, new)))
        return


def _whole_run(folder: Path) -> Path:
    """The folder of a run, from that of one of its stages."""
    while folder != folder.parent and RunFolder(folder.parent).experiment.is_file():
        folder = folder.parent
    return folder
