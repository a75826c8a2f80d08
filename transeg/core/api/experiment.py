"""An experiment as users compose it in Python, exactly as on the command line; imports no PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

from transeg.core.errors import UsageError
from transeg.core.experiment.command_line import settings_of
from transeg.core.experiment.completion import complete_experiment
from transeg.core.experiment.settings import Settings, merge, parse_assignment, read_settings, spell_out_names
from transeg.core.experiment.versions import upgrade
from transeg.core.files import write_text
from transeg.core.registry import Registry

Manifests = str | PathLike[str] | Sequence[str | PathLike[str]]
"""A manifest (`registry.toml`), or several, whose components are offered, too."""


class Experiment:
    """What to train, on which data and how: the options of `toolkit run` as keywords.

    Everything is checked at once; what is left open gets the published value.

    Args:
        generator: translates images; a name of `toolkit list generators`.
        segmenter: segments images; a name of `toolkit list segmenters`.
        loss: that the segmenter minimises, or a sum such as ``dice+0.5*bce``.
        source: labelled images to train on: ``NAME``, ``NAME:FOLDER`` or ``NAME:DOMAIN:FOLDER``.
        target: unlabelled images of the domain where the model must work.
        synthetic: labelled images that are synthetic, beside the source's.
        val: labelled images that select the best checkpoint; by default some of the source's.
        tests: labelled images to test on, one or several.
        target_split: which of the target's images, ``train``, ``val``, ``test`` or ``all``; by default the whole
            folder or its training part, or a share of its own where another role names the folder, too.
        test_split: which images tests are, likewise.
        transductive: allow test images that training sees without labels, as target; results then say so.
        strategy: how to train, a name of `toolkit list strategies`; by default as the parts imply.
        set: any other option by its dotted name, ``{"train.lr": 1e-4, "data.tile": 128}``; or nested tables, as in
            an experiment file; or texts as behind `--set`, ``["train.lr=1e-4"]``.
        teachers: to distil from: runs, or ``SEGMENTER:WEIGHTS``.
        distill: distillation losses, such as ``kl:temperature=4,weight=1``; by default ``kl``.
        folds: cross-validate with so many segmenters.
        baseline: ``source-only`` or ``none``.
        trackers: ``tensorboard``, ``wandb``, ``mlflow``.
        seed: of every random draw; by default 0.
        device: ``cpu``, ``cuda`` or ``cuda:1``; by default a GPU where there is one.
        devices: processes of the run; more than one are for `toolkit run` to start.
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp16``.
        compile: whether to train with networks that torch.compile has translated.
        config: an experiment file (TOML) that the other keywords override; its table ``[search]`` is left out.
        registry: manifests (`registry.toml`) whose components are offered, too.

    Attributes:
        settings: what was given, as tables of an experiment file; :meth:`to_toml` has what was left open, too.

    Raises:
        UsageError: an unknown component or option, a wrong value, a file or folder that does not exist, or parts that
            contradict each other; in the command line's words.
    """

    def __init__(
        self,
        *,
        generator: str | None = None,
        segmenter: str | None = None,
        loss: str | None = None,
        source: str | None = None,
        target: str | None = None,
        synthetic: str | None = None,
        val: str | None = None,
        tests: str | Sequence[str] = (),
        target_split: str | None = None,
        test_split: str | None = None,
        transductive: bool | None = None,
        strategy: str | None = None,
        set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002  # --set, as users know it
        teachers: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
        distill: str | Sequence[str] = (),
        folds: int | None = None,
        baseline: str | None = None,
        trackers: str | Sequence[str] = (),
        seed: int | None = None,
        device: str | None = None,
        devices: int | None = None,
        precision: str | None = None,
        compile: bool | None = None,  # noqa: A002  # likewise
        config: str | PathLike[str] | None = None,
        registry: Manifests = (),
    ) -> None:
        named = {name: value for name, value in locals().items() if name != "self"}
        self._given = {name: value for name, value in named.items() if value not in (None, (), [], {})}
        self.registry = find_components(registry)
        settings = upgrade(read_settings(Path(config)), self.registry) if config else {}
        settings.pop("search", None)
        settings = merge(settings, settings_of(_as_options(named), settings, self.registry))
        self.settings: Settings = _writable(merge(settings, _tables(set)))
        self._complete = complete_experiment(self.settings, self.registry)

    @classmethod
    def from_toml(cls, path: str | PathLike[str], **over: Any) -> Self:
        """Of an experiment file, as `toolkit run --config` reads it, or the ``experiment.toml`` of a run.

        Args:
            path: the file.
            over: keywords of :class:`Experiment`, which override it.

        Raises:
            UsageError: it cannot be read, or as for :class:`Experiment`.
        """
        return cls(config=path, **over)

    def to_toml(self, path: str | PathLike[str] | None = None) -> str:
        """The whole experiment, every option spelled out, as a file that runs it again.

        Args:
            path: where it is written, too; None for nowhere.
        """
        text = self._complete.to_toml()
        if path is not None:
            write_text(Path(path), text)
        return text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"


def find_components(manifests: Manifests) -> Registry:
    """What is installed, and what the manifests offer besides."""
    return Registry([Path(file) for file in as_texts(manifests)])


def as_texts(value: Any) -> list[str]:
    """One thing or several, as the command line would have them."""
    return [str(each) for each in (value if isinstance(value, Iterable) and not isinstance(value, str) else [value])]


def _as_options(named: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords by the names that the options of `toolkit run` have in the program."""
    options = {**named, "distillers": named["distill"]}
    for name in ("teachers", "distillers", "tests", "trackers"):
        options[name] = as_texts(options[name])
    for name in ("strategy", "generator", "segmenter", "loss", "source", "target", "synthetic", "val"):
        options[name] = None if named[name] is None else str(named[name])
    return options


def _tables(options: Mapping[str, Any] | Sequence[str]) -> Settings:
    """Options by their dotted names, or as texts, as nested tables."""
    if not isinstance(options, Mapping):
        parts = [parse_assignment(text) for text in as_texts(options)]
    else:
        parts = []
        for name, value in options.items():
            if not all(str(name).split(".")):
                raise UsageError(f"--set {f'{name}={value}'!r} is not of the form option.name=value.")
            for key in reversed(str(name).split(".")):
                value = {key: value}
            parts.append(value)
    tables: Settings = {}
    for part in parts:
        tables = merge(tables, spell_out_names(part))
    return tables


def _writable(value: Any) -> Any:
    """A value as TOML can say it: paths as text, numbers of NumPy as Python's own; what is None is not said."""
    if isinstance(value, Mapping):
        return {str(key): _writable(each) for key, each in value.items() if each is not None}
    if isinstance(value, (list, tuple)):
        return [_writable(each) for each in value]
    if isinstance(value, PathLike):
        return str(value)
    return value.item() if hasattr(value, "item") else value
