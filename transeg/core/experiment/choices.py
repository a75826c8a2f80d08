"""A component as an experiment names it: by its name, with its own options and those that all of its kind have."""

from __future__ import annotations

import math
import re
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from transeg.core.component_options import Option, options
from transeg.core.conventions import Condition
from transeg.core.experiment.settings import Settings

AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().resolve())]

ARTIFACT = "wandb:"
"""What the name of a Weights & Biases artifact begins with."""


def _path_or_artifact(value: Path | str) -> Path | str:
    text = str(value)
    if not text.startswith(ARTIFACT):
        return Path(text).expanduser().resolve()
    if not re.fullmatch(r"(\w[\w.-]*/){2}\w[\w.-]*:v\d+", text.removeprefix(ARTIFACT), re.ASCII):
        raise ValueError(
            f"{text} names no artifact; say wandb:ENTITY/PROJECT/NAME:VERSION, with a version such as v3, since "
            f"another one may be the latest tomorrow"
        )
    return text


Weights = Annotated[Path | str, AfterValidator(_path_or_artifact)]
"""An absolute path, or the name of an artifact."""


class Choice(BaseModel):
    """A component by name, and its options."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    name: str = Field(min_length=1)

    @property
    def options(self) -> Settings:
        """What stands beside the name."""
        return dict(self.model_extra or {})


class StrategyChoice(Choice):
    """``[strategy]``: the component and its own options; in files of format 1, its name alone."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class SegmenterChoice(Choice):
    """``[segmenter]``: the component and, beside its own options, what every segmenter takes."""

    num_classes: PositiveInt | None = None
    """output channels; by default 1 for two classes, else the number of classes."""
    weights: Weights | None = None
    """a file of weights to begin with, trained here or published; or wandb:ENTITY/PROJECT/NAME:VERSION."""


class GeneratorChoice(Choice):
    """``[generator]``."""

    condition: Condition | None = None
    """what it is given of the source: the image, the label map (mask), or the label map with the outlines of single
    objects (mask+boundary); by default the first that it takes."""
    weights: Weights | None = None
    """a file of weights to begin with, trained here or published; or wandb:ENTITY/PROJECT/NAME:VERSION."""


class TeacherChoice(SegmenterChoice):
    """``[distillation.teachers.LABEL]``: a run folder, or a segmenter with its weights."""

    name: str = ""
    run: AbsolutePath | None = None
    """the run folder whose segmenter teaches."""

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.run is None) == (not self.name):
            raise ValueError("a teacher is a run or the name of a segmenter: one of the two")
        if self.name and self.weights is None:
            raise ValueError(f"the teacher {self.name} has no weights, so it knows nothing; say {self.name}:FILE")
        if self.run is not None and (self.options or self.weights or self.num_classes):
            raise ValueError(f"the teacher {self.run} is a run, which has its options already")
        return self


class DistillerChoice(Choice):
    """``[distillation.terms.LABEL]``: a distillation loss."""

    weight: PositiveFloat = 1.0
    """of the term beside the student's own loss."""


def _wanted_mean(value: str) -> str:
    kind, _, number = value.partition(":")
    try:
        wanted = float(number)
    except ValueError:
        wanted = math.nan
    if (kind == "share" and 0 < wanted < 1) or (kind == "size" and 0 < wanted < math.inf):
        return value
    raise ValueError(
        f"the match {value!r} does not say what the source should be like; say match=share:0.2 for a fifth of "
        "the pixels, or match=size:20 for objects of 20 pixels"
    )


class DatasetChoice(Choice):
    """``[data.source]`` and its like."""

    root: AbsolutePath | None = None
    """its folder; by default the one of its name in TRANSEG_DATA."""
    domain: str | None = None
    """one of those that it has, for datasets that have several."""
    split: Literal["train", "val", "test", "all"] | None = None
    """which part of it; by default train for source and target, val for validation, test for tests, or its share of a
    folder that nothing divides."""
    pixel_size: PositiveFloat | None = None
    """micrometres: images that say how large their pixels are are resampled to this."""
    rescale: PositiveFloat | None = None
    """a factor on the height and width of images, in place of pixel_size."""
    range: tuple[float, float] | None = None
    """the stored intensities that become 0 and 1, in all images: [0, 4095] for 12 bits in 16; by default what a file
    says, else the range of its type, and 0 to 1 for floats."""
    invert: bool = False
    """exchange dark and bright in all images, so that a source of opposite contrast looks like the target."""
    match: Annotated[str, AfterValidator(_wanted_mean)] | None = None
    """of the source: draw its training images, or windows, so that they show on average a wanted share of foreground,
    share:0.2, or objects of a wanted diameter in pixels, size:20."""

    @model_validator(mode="after")
    def _has_increasing_range(self) -> Self:
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"the range {list(self.range)} must be increasing")
        return self

    @model_validator(mode="after")
    def _has_one_scale(self) -> Self:
        if self.pixel_size is not None and self.rescale is not None:
            raise ValueError(f"the images of {self.name} get their size from pixel_size or from rescale, not from both")
        return self

    @property
    def wanted_mean(self) -> tuple[Literal["share", "size"], float] | None:
        """What ``match`` says."""
        if self.match is None:
            return None
        kind, _, number = self.match.partition(":")
        return "share" if kind == "share" else "size", float(number)

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.name, self.domain, self.root) if part)

    @property
    def short(self) -> str:
        """Name and domain, without the folder."""
        return ":".join(part for part in (self.name, self.domain) if part)


CHOICES: dict[str, type[Choice]] = {
    "generator": GeneratorChoice,
    "segmenter": SegmenterChoice,
    "loss": Choice,
    "dataset": DatasetChoice,
    "strategy": StrategyChoice,
}


def options_of_kind(component: type, kind: str) -> list[Option]:
    """What a user may set for a component: its own options, and those that every one of its kind has."""
    own = options(component)
    hints = typing.get_type_hints(CHOICES[kind])
    common = [
        Option(name, hints[name], field.default, " ".join((field.description or "").split()))
        for name, field in CHOICES[kind].model_fields.items()
        if name != "name" and name not in own
    ]
    return [*own.values(), *common]


SPLIT_OF_ROLE = {"source": "train", "target": "train", "synthetic": "train", "val": "val", "test": "test"}
