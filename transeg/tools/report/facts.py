"""What a run was made of: components and data with their papers and terms, machine and versions."""

from __future__ import annotations

import importlib.metadata
import shlex
from dataclasses import dataclass
from typing import Any

from transeg.core.component_options import options
from transeg.core.errors import TransegError
from transeg.core.experiment.choices import Choice, DatasetChoice
from transeg.core.experiment.defaults import departures
from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import parse_sum
from transeg.core.manifest import Component, DatasetEntry
from transeg.core.registry import Registry
from transeg.tools.report.record import Record


@dataclass(frozen=True)
class Part:
    """A component or a dataset of a run.

    Attributes:
        role: what it served as.
        name: of the component, with what the user chose of it.
        summary: what it is; says so where it is not installed here.
        paper: as the manifest names it.
        link: to the paper or to the dataset's page; '' where there is none.
        licence: of the data, or of the package that the component is part of.
        count: of its images or its parameters, in words.
    """

    role: str
    name: str
    summary: str
    paper: str
    link: str
    licence: str
    count: str


def component_facts(record: Record, registry: Registry) -> list[Part]:
    """The generator, the segmenter, the losses and the distillers of a run."""
    experiment, parts = record.experiment, []
    for role, choice in (("generator", experiment.generator), ("segmenter", experiment.segmenter)):
        if choice is not None:
            count = record.sizes.get("parameters", {}).get(role)
            words = "" if count is None else f"{count:,} parameters"
            parts.append(_part(role, role, choice, registry, words))
    if experiment.loss is not None:
        sums = parse_sum(experiment.loss.name).items()
        parts += [_named("loss", "loss", name, registry, f"weight {weight:g}") for name, weight in sums]
    if experiment.distillation is not None:
        for term in experiment.distillation.terms.values():
            parts.append(_part("distiller", "loss", term, registry, ""))
        for label, teacher in experiment.distillation.teachers.items():
            shown = str(teacher.run or teacher.name)
            parts.append(Part("teacher", label, f"a trained network: {shown}", "", "", "", ""))
    return parts


def dataset_facts(record: Record, registry: Registry) -> list[Part]:
    """The datasets of a run, with the number of their images."""
    data, images = record.experiment.data, record.sizes.get("images", {})
    roles: dict[str, DatasetChoice | None] = {"source": data.source, "target": data.target, "synthetic": data.synthetic}
    limits = {"source": data.source_limit, "target": data.target_limit}
    if data.val is None and data.source is not None and "val" in images:
        roles["val"] = data.source.model_copy(update={"split": "val"})
    else:
        roles["val"] = data.val
    parts = []
    for role, choice in {**roles, **data.test}.items():
        if choice is not None:
            called = "validation" if role == "val" else role if role in roles else f"test: {role}"
            parts.append(_part(called, "dataset", choice, registry, _counted(images.get(role), limits.get(role, 0))))
    return parts


def _counted(images: int | None, limit: int) -> str:
    if images is None:
        return ""
    return f"{limit:,} of {images:,} images" if limit and limit < images else f"{images:,} images"


def _part(role: str, kind: str, choice: Choice, registry: Registry, count: str) -> Part:
    part = _named(role, kind, choice.name, registry, count)
    shown = str(choice) if isinstance(choice, DatasetChoice) else choice.name
    weights = getattr(choice, "weights", None)
    extra = f"; began with the weights {weights}, which have terms of their own" if weights else ""
    return Part(role, shown, part.summary + extra, part.paper, part.link, part.licence, count)


def _named(role: str, kind: str, name: str, registry: Registry, count: str) -> Part:
    try:
        component = registry.find(kind, name)
    except TransegError as error:
        return Part(role, name, f"not usable here: {error}", "", "", "", count)
    entry = component.entry
    if isinstance(entry, DatasetEntry):
        licence, link = entry.licence, entry.url or _paper_link(entry.paper)
    else:
        licence, link = _package_licence(component), _paper_link(entry.paper)
    return Part(role, name, entry.summary, entry.paper, link, licence or "not stated", count)


def _paper_link(paper: str) -> str:
    kind, _, identifier = paper.partition(":")
    return {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}[kind] + identifier if identifier else ""


def _package_licence(component: Component) -> str:
    """The code's, as its package states it."""
    try:
        about = importlib.metadata.metadata(component.package)
    except importlib.metadata.PackageNotFoundError:
        return "not stated: a local file"
    stated = next((about[field] for field in ("License-Expression", "License") if field in about), "")
    return f"{stated.splitlines()[0]} ({component.package} {component.version})" if stated else ""


def changed_options(experiment: Experiment, registry: Registry) -> list[str]:
    """Options that differ from the published ones, as far as the components can be loaded to ask."""
    defaults = {}
    for kind in ("generator", "segmenter"):
        choice = getattr(experiment, kind)
        if choice is not None:
            try:
                cls = registry.load(registry.find(kind, choice.name))
            except TransegError:
                continue
            defaults[kind] = {option.name: option.default for option in options(cls).values()}
    return departures(experiment, defaults, registry)


def machine_facts(record: Record) -> dict[str, str]:
    """Versions and hardware, in words by what they are; empty where nothing was noted."""
    noted: dict[str, Any] = record.environment
    if not noted:
        return {}
    source = f" (commit {noted['commit']})" if noted.get("commit") else ""
    facts = {
        "began": str(noted.get("began", "")).replace("T", " ").replace("+00:00", " UTC"),
        "device": record.experiment.device,
        "GPUs": ", ".join(noted.get("gpus", ())),
        "CPUs": f"{noted.get('cpus')}, of which PyTorch uses {noted.get('threads')}",
        "system": str(noted.get("platform", "")),
        "transeg": f"{noted.get('transeg')}{source}",
        "Python": str(noted.get("python", "")),
        **{name: str(version) for name, version in noted.get("packages", {}).items()},
    }
    others = {name: f"{version} (plugin)" for name, version in noted.get("plugins", {}).items() if name != "transeg"}
    return {name: value for name, value in {**facts, **others}.items() if value}


def recorded_command(record: Record) -> str:
    """The command that the run was begun or last resumed with; '' where it was not noted."""
    arguments = record.environment.get("arguments")
    return shlex.join(["toolkit", *arguments]) if arguments else ""
