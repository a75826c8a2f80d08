"""What the result of a strategy that translates is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transeg.core.interfaces import Stage, stage_of
from transeg.core.interfaces.strategies import BASELINE

if TYPE_CHECKING:
    from transeg.core.experiment.schema import Experiment


def source_only_baseline(experiment: Experiment) -> list[Stage]:
    """The stage that the experiment asks for where it says ``baseline="source-only"``: the same segmenter from the same
    weights, trained on the source images as they are at the same budget.
    """
    if experiment.baseline == "none":
        return []
    changes = {"generator": None, "data": {"target": None}}
    title = f"{experiment.baseline} baseline"
    return [stage_of("supervised", BASELINE, ("segmenter",), folds=True, changes=changes, title=title)]
