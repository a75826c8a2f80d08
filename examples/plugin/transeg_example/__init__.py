"""An example of a transeg plugin.

This module is imported when a run begins, for its hooks; `toolkit list` reads registry.toml alone.
"""

from typing import Any

from transeg.core.hookspecs import hookimpl


@hookimpl
def transeg_runner_hooks(experiment: Any) -> list[Any]:
    """Add an mmengine hook to runs that train this plugin's segmenter."""
    if experiment.segmenter is None or experiment.segmenter.name != "two-layers":
        return []
    from transeg_example.norms import WeightNorms

    return [WeightNorms()]
