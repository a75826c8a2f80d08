"""Opens samples of a dataset, several at once, and keeps what was found of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from transeg.core.analysis.image_facts import ImageFacts, grey_levels, image_facts, looks_like_photograph
from transeg.core.data.decoding import handed_on
from transeg.core.data.mask_values import stored_values
from transeg.core.device import available_cores
from transeg.core.errors import DataError
from transeg.core.interfaces import Dataset, Fault


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """What was found of one sample.

    Attributes:
        file: of its image, where that is known.
        facts: None where it could not be decoded.
        fault: what is wrong with it, or None.
        values: of its mask as stored, and how often there are, ``(2, N)``; None where that is no image.
    """

    file: str
    facts: ImageFacts | None
    fault: Fault | None
    values: np.ndarray | None = None

    @property
    def mask_is_photograph(self) -> bool:
        """Whether the values of the mask are many grey levels, spread over the range."""
        if self.values is None or not self.values.size:
            return False
        values, counts = self.values
        white = 255 if values.max() <= 255 else 65535
        return looks_like_photograph(grey_levels(values, white, counts))


def check_images(dataset: Dataset, indices: Iterable[int], advance: Callable[[], None]) -> list[CheckedImage]:
    """Open samples and look at each, going on past those that are damaged.

    Args:
        dataset: of the samples.
        indices: which of them.
        advance: called after each.
    """
    checked = []
    with ThreadPoolExecutor(available_cores()) as threads:
        for each in threads.map(partial(check_image, dataset), indices):
            checked.append(each)
            advance()
    return checked


def check_image(dataset: Dataset, index: int) -> CheckedImage:
    """Open one sample and look at it."""
    files = dataset.files_of(index)
    file = str(next(iter(files.get("image", ())), ""))
    with handed_on() as masks:
        values = stored_values(files.get("mask", ()), masks)
        try:
            sample = dataset[index]
        except DataError as error:
            return CheckedImage(file, None, Fault(error.file or file or f"image {index}", str(error)), values)
    facts = image_facts(sample, len(dataset.classes))
    found = len(facts.classes) if facts.classes is not None else 0
    fault = None
    if found > len(dataset.classes):
        fault = Fault(file or facts.name, f"{facts.name} has the class {found - 1} of {len(dataset.classes)}.")
    return CheckedImage(file, facts, fault, values)
