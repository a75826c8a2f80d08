"""From the options of a command line to a search that could begin."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock
from sqlalchemy.engine import URL

from transeg.core.distributed.ranks import launched_rank_and_world_size
from transeg.core.errors import UsageError, did_you_mean
from transeg.core.evaluation.metrics.table import TABLE, Rows, all_rows, is_lower_better
from transeg.core.experiment.command_line import settings_of
from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import Settings, merge, read_settings, set_options
from transeg.core.experiment.versions import upgrade
from transeg.core.files import write_text
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.parts import Networks, Parts, build_parts
from transeg.core.training.trackers import check_installed
from transeg.tools.search.matching import count_combinations, fit_space
from transeg.tools.search.overlay import COMPONENTS, compose_trial, overlay_settings
from transeg.tools.search.presets import PRESETS, Preset
from transeg.tools.search.space import Space, parse_space, parse_spaces
from transeg.tools.search.storage import redact_url, storage_url
from transeg.tools.search.study_options import StudyOptions, study_options


class SearchFolder:
    """Names of everything in the folder of a search."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.search = path / "search.toml"
        self.best = path / "best.toml"
        self.history = path / "history.png"
        self.importances = path / "importances.png"
        self.trials = path / "trials"

    def trial(self, number: int) -> RunFolder:
        """The run folder of a trial."""
        return RunFolder(self.trials / f"{number:04d}")

    def check_foreign(self) -> None:
        """Whether a search would write over what no search has written: all that comes after ``search.toml``.

        Raises:
            UsageError: it would.
        """
        own = (self.best, self.history, self.importances)
        found = [] if self.search.exists() else [path for path in own if os.path.lexists(path)]
        if found:
            raise UsageError(
                f"{found[0]} is there already and belongs to no search, for {self.path} has no search.toml; choose "
                "another --search-dir."
            )

    def create(self) -> None:
        """Make the folder.

        Raises:
            UsageError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"The folder {self.path} cannot be made: {error.strerror}; choose another with --search-dir."
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing what was found meanwhile.

        Raises:
            UsageError: the folder cannot be written to.
        """
        self.create()
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire()
        except OSError as error:
            raise UsageError(f"The folder {self.path} cannot be written: {error.strerror}.") from error
        try:
            yield
        finally:
            lock.release()


@dataclass(frozen=True)
class Plan:
    """A search that could begin now.

    Attributes:
        settings: of the experiment, as in its file; paths are absolute.
        space: what a trial chooses.
        study: how.
        folder: where trials go.
        storage: address of the database, with its password.
        rows: what is known of metrics.
    """

    settings: Settings
    space: Space
    study: StudyOptions
    folder: SearchFolder
    storage: URL
    rows: Rows = field(default_factory=lambda: TABLE)

    @property
    def maximize(self) -> bool:
        """Whether more of the study's metric is better."""
        return not is_lower_better(self.study.metric, self.rows)

    def document(self) -> Settings:
        """What ``search.toml`` holds."""
        study = self.study.model_dump(exclude=None if self.study.storage else {"storage"})
        space = {option: domain.table() for option, domain in self.space.items()}
        return {**set_options(self.settings), "search": {**space, "study": study}}

    def write(self) -> None:
        """Leave what the same search needs to go on."""
        write_text(self.folder.search, tomli_w.dumps(self.document()))

    def base(self, registry: Registry) -> Experiment:
        """The experiment without anything chosen but components that it does not name."""
        return compose_trial(self.settings, _missing_components(self), registry)


def full_experiment(chosen: Mapping[str, Any], settings: Settings, space: Space, registry: Registry) -> Experiment:
    """The whole experiment of a trial's values, tests and all.

    Args:
        chosen: by option, as the study holds them.
        settings: that they are laid over.
        space: that they are of.
        registry: where components come from.

    Raises:
        UsageError: they do not fit together.
    """
    return compose_trial(settings, {option: space[option].value(stored) for option, stored in chosen.items()}, registry)


def plan_search(
    named: Mapping[str, Any],
    registry: Registry,
    *,
    config: Path | None,
    folder: Path | None,
    spaces: tuple[str, ...] = (),
    preset: str | None = None,
    storage: str = "",
    study: Mapping[str, Any] | None = None,
) -> Plan:
    """Validate a command's options.

    Args:
        named: options of `toolkit run` by name; None or empty where not given.
        registry: where components come from.
        config: an experiment file, under the options.
        folder: where the search goes; what it was begun with lies under the options, too.
        spaces: of the command line.
        preset: name of a published space, under the others.
        storage: address of the database.
        study: options of ``[search.study]`` that the command line sets; None where not given.

    Raises:
        UsageError: anything that keeps the search from beginning.
    """
    if launched_rank_and_world_size()[1] > 1:
        raise UsageError(
            "A search trains each trial in one process; start several workers with the same command rather than "
            "several ranks."
        )
    path = folder or Path("searches", time.strftime("%Y%m%d-%H%M%S"))
    begun = SearchFolder(path).search
    settings = upgrade(read_settings(config or begun), registry) if config or begun.exists() else {}
    settings = merge(settings, settings_of(named, settings, registry))
    given = settings.pop("search", {})
    if not isinstance(given, dict) or not isinstance(given.get("study", {}), dict):
        raise UsageError("[search] and [search.study] must be tables.")
    published = _preset(preset or given.get("preset"))
    options = merge(given.pop("study", {}), set_options(study or {}))
    given.pop("preset", None)
    space = {**(published.space if published else {}), **parse_space(given), **parse_spaces(spaces)}
    if not space:
        raise UsageError(
            "There is nothing to search; say what in the file's [search] table, with --space train.lr=1e-5..1e-2:log, "
            f"or with --preset {' or '.join(PRESETS)}."
        )
    settings = merge(published.settings if published else {}, settings)
    chosen = study_options({"name": path.resolve().name, **options})
    url = storage_url(storage or chosen.storage, path)
    if storage:
        chosen = chosen.model_copy(update={"storage": redact_url(url)})
    return _checked(Plan(settings, space, chosen, SearchFolder(path), url, all_rows(registry)), registry)


def trial_experiment(experiment: Experiment) -> Experiment:
    """An experiment as a trial runs it: nothing is tested, since a search that sees test images fits to them.

    Raises:
        UsageError: it trains more than one segmenter to choose by.
    """
    if experiment.folds is not None:
        raise UsageError("A search judges trials by one validation set; leave folds out, and use them on best.toml.")
    data = experiment.data.model_copy(update={"test": {}})
    return experiment.model_copy(update={"baseline": "none", "data": data})


def trial_parts(experiment: Experiment, registry: Registry) -> tuple[Parts, Networks]:
    """The data sets and networks of a trial, which must have images to be judged by.

    Raises:
        UsageError: something does not fit, or there are no such images.
    """
    parts, networks = build_parts(experiment, registry)
    if parts.val is None:
        raise UsageError(
            "There are no validation images to judge trials by; name some with --val, or a source that has a "
            "validation split."
        )
    # the judge of a run with a segmenter is for its end
    return parts, networks if networks.segmenter is None else replace(networks, judge=None)


def _preset(name: Any) -> Preset | None:
    if name is None:
        return None
    if name not in PRESETS:
        raise UsageError(f"There is no published space {name!r}.{did_you_mean(str(name), PRESETS)}")
    return PRESETS[name]


def _checked(made: Plan, registry: Registry) -> Plan:
    missing = _missing_components(made)
    space = fit_space(made.space, overlay_settings(made.settings, missing, registry), registry)
    base = made.base(registry)
    check_installed(base.tracking)
    study = made.study
    if study.sampler == "grid":
        count = count_combinations(space, registry)
        if not math.isfinite(count):
            endless = next(option for option, domain in space.items() if not math.isfinite(domain.count))
            raise UsageError(
                f"The sampler grid tries every combination, but {endless} has no end of values; give its space a step "
                f"or choices, or choose another sampler."
            )
        study = study.model_copy(update={"trials": min(study.trials, int(count))})
    settings = _with_absolute_paths(made.settings, base.model_dump(mode="json"))
    return replace(made, space=space, settings=settings, study=study)


def _missing_components(made: Plan) -> dict[str, Any]:
    """The first choice of each component that the settings do not name."""
    kinds = [kind for kind in COMPONENTS if kind in made.space and "name" not in made.settings.get(kind, {})]
    return {kind: made.space[kind].samples[0] for kind in kinds}


def _with_absolute_paths(table: Settings, complete: Any) -> Settings:
    """Settings whose files are found from anywhere: those that the complete experiment has as absolute paths."""
    result: Settings = {}
    for key, value in table.items():
        there = complete.get(key) if isinstance(complete, dict) else None
        if isinstance(value, dict):
            result[key] = _with_absolute_paths(value, there)
        elif isinstance(value, str) and isinstance(there, str) and there == str(Path(value).expanduser().resolve()):
            result[key] = there
        else:
            result[key] = value
    return result
