"""Metrics that are functions of one image: what their rows name, loaded and called."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from transeg.core.errors import TransegError, UsageError, did_you_mean
from transeg.core.evaluation.metrics.table import all_components
from transeg.core.interfaces.metrics import ImageMetricFunction
from transeg.core.manifest import Component, MetricEntry
from transeg.core.registry import Registry

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageMetric:
    """A function and who offers it.

    Attributes:
        name: of the metric.
        package: of the plugin.
        function: the contract's.
    """

    name: str
    package: str
    function: ImageMetricFunction

    def __call__(self, image: str, probabilities: np.ndarray, labels: np.ndarray, pixel_size: float | None) -> float:
        """Measure one image.

        Args:
            image: its name, for the error.
            probabilities: see :data:`~transeg.core.interfaces.metrics.ImageMetricFunction`, as of the others.
            labels: likewise.
            pixel_size: likewise.

        Returns:
            NaN where the metric is undefined.

        Raises:
            TransegError: the function failed, or returned something else than it may.
        """
        try:
            value: Any = self.function(probabilities, labels, pixel_size)
        except Exception as error:
            raise self._fault(f"failed on {image}: {type(error).__name__}: {error}") from error
        if value is None:
            return math.nan
        if not isinstance(value, Real) or isinstance(value, bool):
            raise self._fault(f"returned a {type(value).__name__} for {image}, where a number or None belongs")
        if math.isinf(value):
            raise self._fault(f"returned {float(value)} for {image}, where a finite number or None belongs")
        return float(value)

    def _fault(self, what: str) -> TransegError:
        return TransegError(f"The metric {self.name} of {self.package} {what}; mend it, or leave that plugin out.")


def image_metrics(registry: Registry, *, validation: bool = False, named: Collection[str] = ()) -> list[ImageMetric]:
    """Load every metric that is a function of one image; one that cannot be loaded is named in a warning and left out.

    Args:
        registry: where plugins' metrics come from.
        validation: whether only those are wanted that the validations of a training measure, too.
        named: which of those are wanted that are measured on request alone.
    """
    found = []
    for component in all_components(registry):
        entry = component.entry
        if not entry.entry or not isinstance(entry, MetricEntry) or (validation and not entry.validation):
            continue
        if entry.on_request and component.name not in named:
            continue
        try:
            found.append(ImageMetric(component.name, component.package, _function(component, registry)))
        except TransegError as error:
            logger.warning("The metric %s of %s is left out: %s", component.name, component.package, error)
    return found


def check_metrics(names: Iterable[str], registry: Registry) -> None:
    """Whether there are metrics of these names, and what they need is installed.

    Raises:
        UsageError: one is not there.
        TransegError: one cannot be loaded.
    """
    components = {component.name: component for component in all_components(registry)}
    for name in names:
        if name not in components:
            raise UsageError(f"There is no metric {name!r}.{did_you_mean(name, components)} See: toolkit list metrics")
        if components[name].entry.entry:
            _function(components[name], registry)


def _function(component: Component, registry: Registry) -> ImageMetricFunction:
    if component.status != "ok":
        raise TransegError(f"{component.reason}.")
    function: ImageMetricFunction = registry.load(component)
    if not callable(function):
        raise TransegError(f"{component.entry.entry} is no function.")
    return function
