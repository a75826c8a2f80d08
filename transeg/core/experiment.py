"""The experiment: a validated choice of components, data and schedule, to and from TOML."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
import torch
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from transeg.core.errors import UsageError, did_you_mean
from transeg.core.losses import parse_sum
from transeg.core.registry import Registry

Settings = dict[str, Any]
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().resolve())]
Strategy = Literal["supervised", "translation", "sequential", "joint"]

DEFAULT_DATASET = "phantom"

PUBLISHED: dict[Strategy, Settings] = {
    # HarDNet-MSEG: 99 epochs of the 1,450 images of the PraNet split at batch 16
    "supervised": {
        "loss": {"name": "structure"},
        "data": {"size": 352, "sampling": "shuffle"},
        "train": {"iterations": 9000, "batch_size": 16, "lr": 1e-4},
        "augmentation": {"preset": "polyp"},
    },
    # CUT: 400 epochs of 250 images at batch 1
    "translation": {
        "data": {"size": 256, "load_ratio": 286 / 256, "sampling": "shuffle"},
        "train": {"iterations": 100_000, "batch_size": 1},
        "augmentation": {"preset": "cut"},
    },
    # CUT-seg: 50 epochs of 1,000 draws at batch 4
    "joint": {
        "loss": {"name": "log-dice"},
        "data": {"size": 256, "load_ratio": 320 / 256, "sampling": "replacement"},
        "train": {"iterations": 12_500, "batch_size": 4},
        "augmentation": {"preset": "cut-seg"},
    },
}
PUBLISHED["sequential"] = PUBLISHED["joint"]
"""What the papers trained with; the defaults of each strategy."""


class Options(BaseModel):
    """A table of the experiment file with a fixed set of options."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Choice(BaseModel):
    """A component by name, and its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1)

    @property
    def options(self) -> Settings:
        """What stands beside the name."""
        return dict(self.model_extra or {})


class SegmenterChoice(Choice):
    """``[segmenter]``: the component and, beside its own options, what every segmenter takes."""

    num_classes: PositiveInt | None = None
    """Output channels; by default 1 for two classes, else the number of classes."""
    weights: AbsolutePath | None = None
    """A state dict to begin with, ours or a published one."""


class GeneratorChoice(Choice):
    """``[generator]``."""

    weights: AbsolutePath | None = None
    """A state dict to begin with, ours or a published one."""


class DatasetChoice(Choice):
    """``[data.source]`` and its like."""

    root: AbsolutePath | None = None
    domain: str | None = None
    split: Literal["train", "val", "test", "all"] | None = None
    """By default train for source and target, val for validation, test for tests."""

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.name, self.domain, self.root) if part)


class DataOptions(Options):
    """``[data]``: which images, and how they come in."""

    source: DatasetChoice
    target: DatasetChoice | None = None
    val: DatasetChoice | None = None
    """Labelled images that select the best checkpoint; without it, the source's validation images do, translated."""
    test: dict[str, DatasetChoice] = {}
    size: PositiveInt
    """Height and width of the training crops, and of whole images at inference."""
    load_ratio: float = Field(1.0, ge=1)
    """Images are resized to this times the size before they are cropped."""
    sampling: Literal["shuffle", "replacement"]
    """`shuffle` shows every image before any comes again, `replacement` draws each time anew."""
    source_limit: int = Field(0, ge=0)
    """Train on the first so many source images; 0 for all."""
    target_limit: int = Field(0, ge=0)
    """Train on the first so many target images; 0 for all."""
    samples_per_epoch: PositiveInt = 1000
    """Samples between two renewals of the pseudo-labels."""
    workers: int = Field(ge=0)
    """Processes that load and augment; 0 for none."""

    @property
    def load_size(self) -> int:
        """Height and width before the crop."""
        return round(self.size * self.load_ratio)


class TrainOptions(Options):
    """``[train]``: the schedule, of each stage."""

    iterations: PositiveInt
    batch_size: PositiveInt
    """Of one process."""
    lr: PositiveFloat = 1e-4
    """The segmenter's learning rate; a generator's rates are its own options."""
    weight_decay: float = Field(0.0, ge=0)
    """The segmenter's."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the segmenter's rate falls to zero: not at all, in the second half, or along a cosine."""
    checkpoint_interval: PositiveInt = 250
    val_interval: PositiveInt = 250
    log_interval: PositiveInt = 10


class JointOptions(Options):
    """``[joint]``: how segmenter and generator train each other."""

    weight: float = Field(1e-3, ge=0)
    """Share of the segmentation gradient that reaches the generator."""
    schedule: Literal["constant", "linear", "step"] = "constant"
    """The weight over the training: as it is, growing from zero, or zero before `start`."""
    start: float = Field(0.5, ge=0, le=1)
    """Share of the training after which `step` switches the weight on."""
    pseudo_labels: Literal["off", "mean", "linear", "step"] = "off"
    """Train the segmenter on target images, too, with its own labels of the epoch before: with half of the loss, with
    a share that grows to half, or with half of it in the second half of the training."""


class AugmentationOptions(Options):
    """``[augmentation]``: a preset's name, or albumentations transforms as tables with a ``name``."""

    preset: str | None = None
    transforms: tuple[dict[str, Any], ...] | None = None


class Experiment(Options):
    """The composition of one run.

    Build it with :func:`compose`, which fills in the published sizes.
    """

    strategy: Strategy
    generator: GeneratorChoice | None = None
    segmenter: SegmenterChoice | None = None
    loss: Choice | None = None
    data: DataOptions
    train: TrainOptions
    joint: JointOptions | None = None
    augmentation: AugmentationOptions
    baseline: Literal["none", "source-only"] = "none"
    """`source-only` also trains the segmenter on untranslated source images at the same budget."""
    seed: int = Field(0, ge=0)
    device: str = "cpu"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        named = {"generator": self.generator, "segmenter": self.segmenter, "loss": self.loss, "joint": self.joint}
        needs = {
            "supervised": {"segmenter", "loss"},
            "translation": {"generator"},
            "sequential": {"generator", "segmenter", "loss"},
            "joint": {"generator", "segmenter", "loss", "joint"},
        }[self.strategy]
        for part, value in named.items():
            if part in needs and value is None:
                raise ValueError(f"the strategy {self.strategy} needs a {part}")
            if part not in needs and value is not None:
                raise ValueError(f"the strategy {self.strategy} has no use for [{part}]")
        if self.strategy in ("supervised", "translation") and self.baseline != "none":
            raise ValueError(f"a source-only baseline compares with translation; {self.strategy} needs none")
        if self.strategy == "supervised" and self.data.target is not None:
            raise ValueError("the strategy supervised has no use for a target; name a generator or leave it out")
        if self.strategy == "translation" and (self.data.test or self.data.val):
            raise ValueError("the strategy translation trains no segmenter, so there is nothing to test")
        return self

    def to_toml(self) -> str:
        """The whole experiment as a file that runs it again."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def read_settings(path: Path) -> Settings:
    """An experiment file, not validated yet.

    Raises:
        UsageError: it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The experiment file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The experiment file {path} is not valid TOML: {error}.") from error


def read_experiment(path: Path) -> Experiment:
    """A complete experiment file, as a run folder holds it.

    Raises:
        UsageError: it cannot be read, or it is not complete.
    """
    return _validated(read_settings(path))


def parse_assignment(text: str) -> Settings:
    """``train.lr=1e-4`` -> ``{"train": {"lr": 1e-4}}``; what is no TOML value is a string.

    Raises:
        UsageError: it is not such an assignment.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"--set {text!r} is not of the form option.name=value.")
    try:
        nested: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        nested = value
    for key in reversed(keys):
        nested = {key: nested}
    return dict(nested)


def parse_dataset(text: str, registry: Registry) -> Settings:
    """``name``, ``name:ROOT``, ``name:DOMAIN`` or ``name:DOMAIN:ROOT`` as a table.

    Raises:
        UsageError: there is no such dataset.
    """
    name, _, rest = text.partition(":")
    offered = {(component.package, component.name) for component in registry.components("dataset")}
    second = rest.partition(":")[0]
    if (name, second) in offered and name not in {known for _, known in offered}:
        name, rest = f"{name}:{second}", rest.partition(":")[2]
    table: Settings = {"name": name}
    domain, _, after = rest.partition(":")
    if domain and domain in registry.find("dataset", name).domains:
        table["domain"], rest = domain, after
    if rest:
        table["root"] = rest
    return table


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Settings:
    """Nested tables joined; where both have a value, the second's counts."""
    merged = deepcopy(dict(base))
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else deepcopy(value)
    return merged


def compose(settings: Settings, registry: Registry) -> Experiment:
    """Validate settings and fill in everything that they leave open.

    In order of weight: the settings, the preset of the dataset where source and target are the same, what was
    published for the strategy.

    Raises:
        UsageError: an unknown component or option, a wrong value, or parts that contradict each other.
    """
    settings = _with_datasets(settings)
    _check_names(settings, registry)
    expand_tests(settings["data"], registry)
    strategy = settings.setdefault("strategy", _strategy(settings))
    if strategy not in PUBLISHED:
        raise UsageError(f"There is no strategy {strategy!r}.{did_you_mean(str(strategy), PUBLISHED)}")
    layers = merge(PUBLISHED[strategy], _preset(settings, registry))
    if "loss" in settings:
        layers.pop("loss", None)
    if {"preset", "transforms"} & set(settings.get("augmentation", {})):
        layers.pop("augmentation", None)
    merged = merge(layers, settings)
    if strategy == "joint":
        merged.setdefault("joint", {})
    merged["device"] = pick_device(str(merged.get("device", "auto")))
    workers = 0 if merged["device"] == "cpu" else min(8, os.cpu_count() or 1)
    merged["data"].setdefault("workers", workers)
    return _validated(merged)


def difference(one: Experiment, other: Experiment, ignored: Iterable[str]) -> str:
    """The first option in which two experiments differ, in words; '' where they agree."""
    left, right = (_flat(e.model_dump(mode="json", exclude_none=True)) for e in (one, other))
    skipped = tuple(ignored)
    for option in sorted(left.keys() | right.keys()):
        if left.get(option) != right.get(option) and not any(
            option == o or option.startswith(f"{o}.") for o in skipped
        ):
            return f"{option} is {left.get(option, 'not set')} there and {right.get(option, 'not set')} here"
    return ""


def resumed(stored: Experiment, settings: Settings) -> Experiment:
    """A stored experiment with the settings of a command that resumes it.

    Raises:
        UsageError: a setting is unknown or wrong.
    """
    base = stored.model_dump(mode="json", exclude_none=True)
    if "augmentation" in settings:
        base.pop("augmentation")
    if "device" in settings:
        settings = {**settings, "device": pick_device(settings["device"])}
    return _validated(merge(base, settings))


def departures(experiment: Experiment, defaults: Mapping[str, Settings]) -> list[str]:
    """Options that differ from what was published for the strategy and its components, in words.

    Args:
        experiment: a complete one.
        defaults: of the options of its ``generator`` and ``segmenter``.
    """
    published = _flat({**{key: PUBLISHED[experiment.strategy].get(key, {}) for key in ("data", "train")}, **defaults})
    chosen = _flat(experiment.model_dump())
    return [
        f"{option} {chosen[option]} (published: {value})"
        for option, value in published.items()
        if chosen.get(option, value) != value
    ]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Settings:
    """Nested tables as dotted options."""
    flat: Settings = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _with_datasets(settings: Settings) -> Settings:
    """The phantom where no data are named."""
    settings = deepcopy(settings)
    data = settings.setdefault("data", {})
    tests = data.setdefault("test", {}) if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(tests, dict):
        raise UsageError("[data] and [data.test] must be tables.")
    for label, table in tests.items():
        if isinstance(table, dict):
            table.setdefault("name", label)
    if "name" in data.get("source", {}):
        return settings
    others = {role: data[role].get("name", DEFAULT_DATASET) for role in ("target", "val") if role in data}
    others |= {f"test {label}": table["name"] for label, table in tests.items()}
    for role, name in others.items():
        if name != DEFAULT_DATASET:
            raise UsageError(f"A {role} is named but no source; say --source NAME:FOLDER.")
    data.setdefault("source", {})["name"] = DEFAULT_DATASET
    if "generator" in settings:
        data.setdefault("target", {})["name"] = DEFAULT_DATASET
    if "segmenter" in settings:
        tests.setdefault(DEFAULT_DATASET, {"name": DEFAULT_DATASET})
    return settings


def _dataset_tables(data: Settings) -> list[Settings]:
    tests = data.get("test", {})
    tables = [data.get(role) for role in ("source", "target", "val")]
    tables += list(tests.values()) if isinstance(tests, dict) else []
    return [table for table in tables if isinstance(table, dict)]


def _check_names(settings: Settings, registry: Registry) -> None:
    """Look every component up before anything depends on it."""
    for kind in ("generator", "segmenter"):
        if kind in settings:
            registry.find(kind, _name(settings[kind], kind))
    if "loss" in settings:
        for term in parse_sum(_name(settings["loss"], "loss")):
            registry.find("loss", term)
    for table in _dataset_tables(settings["data"]):
        registry.find("dataset", _name(table, "dataset"))


def expand_tests(data: Settings, registry: Registry) -> None:
    """One test for each domain of a dataset that is a collection of test sets."""
    for label, table in list(data.get("test", {}).items()):
        cls = registry.load(registry.find("dataset", table["name"]))
        if cls.test_domains and "domain" not in table:
            del data["test"][label]
            data["test"].update({domain: {**table, "domain": domain} for domain in cls.test_domains})


def _name(table: Any, kind: str) -> str:
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise UsageError(f"The {kind} has options but no name; say --{kind} NAME or {kind}.name.")
    return str(table["name"])


def _strategy(settings: Settings) -> str:
    generator, segmenter = "generator" in settings, "segmenter" in settings
    if not generator and not segmenter:
        raise UsageError("Name what to train: --generator, --segmenter or both; `toolkit list` shows them.")
    return "joint" if generator and segmenter else "translation" if generator else "supervised"


def _preset(settings: Settings, registry: Registry) -> Settings:
    """The options that suit a dataset which the whole training is made of."""
    data = settings["data"]
    names = {table["name"] for role in ("source", "target") if isinstance(table := data.get(role), dict)}
    if len(names) > 1:
        return {}
    component = registry.find("dataset", names.pop())
    preset: Settings = deepcopy(dict(registry.load(component).preset))
    for kind in ("generator", "segmenter"):
        for_one = {key: preset.pop(key) for key in list(preset) if key.startswith(f"{kind}/")}
        if kind in settings:
            preset[kind] = for_one.get(f"{kind}/{settings[kind]['name']}", {})
    if "generator" not in settings or "segmenter" not in settings:
        for key in ("baseline", "joint"):
            preset.pop(key, None)
    if "segmenter" not in settings:
        preset.pop("loss", None)
    if settings["strategy"] != "joint":
        preset.pop("joint", None)
    return preset


def pick_device(name: str) -> str:
    """A device that is there; ``auto`` means a GPU where there is one.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"There is no device {name!r}; say cpu, cuda or cuda:0.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: this machine has no GPU that PyTorch can use; say --device cpu.")
    return name


def _validated(settings: Settings) -> Experiment:
    try:
        return Experiment.model_validate(settings)
    except ValidationError as error:
        raise UsageError(_sentence(error.errors()[0])) from error


def _sentence(fault: Any) -> str:
    where = ".".join(str(key) for key in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"There is no option {where}.{did_you_mean(where, _known_options(fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return f"{where} is missing; say --set {where}=..."
    if fault["type"] == "value_error":
        return f"{str(fault['ctx']['error'])[0].upper()}{str(fault['ctx']['error'])[1:]}."
    message = fault["msg"]
    return f"{where} cannot be {fault['input']!r}: {message[0].lower()}{message[1:]}."


def _known_options(table: Iterable[int | str]) -> list[str]:
    model: Any = Experiment
    path = list(table)
    for key in path:
        annotation = model.model_fields[key].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return [".".join([*map(str, path), name]) for name in model.model_fields]
