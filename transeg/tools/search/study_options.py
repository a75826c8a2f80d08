"""How a search goes about: ``[search.study]``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, ValidationError, model_validator

from transeg.core.errors import UsageError, did_you_mean
from transeg.core.experiment.schema import Options
from transeg.core.experiment.settings import Settings

Sampler = Literal["tpe", "random", "qmc", "grid", "gp"]
Pruner = Literal["median", "hyperband", "successive-halving", "none"]


class StudyOptions(Options):
    """``[search.study]``."""

    name: str = ""
    """Of the study in its database; by default the folder's."""
    storage: str = ""
    """URL of the database, without a password: by default a SQLite file in the folder."""
    trials: PositiveInt = 50
    """In all, of all workers together."""
    sampler: Sampler = "tpe"
    """Tree-structured Parzen estimators, random draws, a quasi-random sequence, every combination, or a Gaussian
    process."""
    pruner: Pruner = "median"
    """Stops a trial that is worse than the median of others at that iteration, or by brackets of growing budgets."""
    metric: str = Field("dice", min_length=1)
    """Of the validation, by which trials are judged."""
    seed: int = Field(0, ge=0)
    """Of the sampler."""

    @model_validator(mode="after")
    def _says_no_password(self) -> Self:
        if "@" in self.storage and ":" in self.storage.partition("://")[2].rpartition("@")[0]:
            raise ValueError("search.study.storage is in a file, where no password belongs; say it with --storage")
        return self


def study_options(table: Settings) -> StudyOptions:
    """The options that a ``[search.study]`` table sets.

    Raises:
        UsageError: an unknown option, or a wrong value.
    """
    try:
        return StudyOptions(**table)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(key) for key in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = did_you_mean(name, StudyOptions.model_fields)
            raise UsageError(f"There is no option search.study.{name}.{known}") from error
        if fault["type"] == "value_error":
            raise UsageError(f"{fault['ctx']['error']}.") from error
        raise UsageError(
            f"search.study.{name} cannot be {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}."
        ) from error
