"""Which share of a folder each role gets: the whole of it, unless another role names the same folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from transeg.core.component_options import options as component_options
from transeg.core.experiment.choices import SPLIT_OF_ROLE, DatasetChoice
from transeg.core.experiment.paths import dataset_root
from transeg.core.experiment.schema import DataOptions
from transeg.core.experiment.settings import Settings
from transeg.core.registry import Registry

DECIDING = ("split", "splits", "ratio")
"""Options of a dataset that say which images it is: where a user names one, it counts as it stands."""
SHARED = 0.2
"""Of a folder's groups: what tests get beside training, what chooses the checkpoint beside either, and what a target
gets beside the source of the same folder."""
KEPT = 0.1
"""Of the source's groups: what chooses the checkpoint where no other images do."""

Ratio = tuple[float, float, float]


def undecided(data: Settings) -> set[str]:
    """The roles for which a user leaves open which images of their folder count: ``source``, ``test.LABEL``.

    Args:
        data: the table ``[data]`` before anything is filled in.
    """
    return {role for role, table in by_role(data).items() if not any(table.get(name) for name in DECIDING)}


def share_folders(data: DataOptions, open_roles: Collection[str], registry: Registry) -> DataOptions:
    """The data sets with the shares of their folders that each role gets.

    A folder that one role alone names is used whole; a source keeps a tenth of its groups for validation unless others
    validate. Of a folder that several name, each gets a share of the groups, and no two the same. Where files or a
    publication say what is for training and what for tests, that stands; and so does whatever a user has said.

    Args:
        data: the data sets, with their domains.
        open_roles: see :func:`undecided`.
        registry: where they come from.
    """
    chosen = by_role({name: getattr(data, name) for name in type(data).model_fields})
    for roles in same_folder(chosen, registry):
        if not roles <= set(open_roles):
            continue  # beside what a user has said, the usual shares are what goes with it
        shared = _shared({role: chosen[role] for role in roles}, keeps_val=data.val is None, registry=registry)
        chosen |= shared
    named = {role: choice for role, choice in chosen.items() if not role.startswith("test.")}
    return data.model_copy(update={**named, "test": {label: chosen[f"test.{label}"] for label in data.test}})


def is_shared_by_ratio(choice: DatasetChoice, registry: Registry) -> bool:
    """Whether nothing but a ratio divides a folder."""
    cls = registry.load(registry.find("dataset", choice.name))
    return not _is_divided(choice, registry, "ratio" in component_options(cls))


def share_alone(choice: DatasetChoice, role: str, registry: Registry) -> DatasetChoice:
    """A data set that nothing else shares its folder with, in the role of `source`, `target`, `synthetic`, `val` or
    `test`.

    Args:
        choice: whose user has not said which of its images count.
        role: what it is for.
        registry: where it comes from.
    """
    return _shared({role: choice}, keeps_val=True, registry=registry)[role]


def ratios(roles: Collection[str], *, keeps_val: bool) -> dict[str, tuple[str, Ratio]]:
    """For each role of one folder the split that it takes, and the ratio by which the folder is divided for it.

    Where a source and a target are in one folder, the target lies between what the source learns from and the rest,
    so that it has a ratio of its own; of any other two, the ratio is the same.

    Args:
        roles: `source`, `target`, `synthetic`, `val`, `test`, those that name the folder.
        keeps_val: whether a source keeps some of its groups for validation.
    """
    learns = bool({"source", "target", "synthetic"} & set(roles))
    test = 0.0 if "test" not in roles else 1.0 if len(roles) == 1 else SHARED if learns else 1 - SHARED
    val = 0.0 if "val" not in roles else (1 - test) * (SHARED if learns else 1)
    learned = 1 - test - val
    both = {"source", "target"} <= set(roles)
    target = learned * SHARED if both else 0.0
    kept = KEPT * (learned - target) if "source" in roles and keeps_val else 0.0
    common = (learned - kept, kept, test) if kept else (learned, val, test)
    found = {role: (SPLIT_OF_ROLE[role], common) for role in roles}
    if both:
        of_source = learned - target
        found["source"] = ("train", (of_source - kept, kept, 1 - of_source))
        found["target"] = ("val", (of_source, target, 1 - learned))
    return {role: (split, _rounded(ratio)) for role, (split, ratio) in found.items()}


def _rounded(ratio: Ratio) -> Ratio:
    """As a user would write it."""
    train, val, test = (round(share, 4) for share in ratio)
    return train, val, test


def by_role(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data sets of ``[data]`` that there are, by role: ``source``, ``test.LABEL``."""
    found = {role: data[role] for role in ("source", "target", "synthetic", "val") if data.get(role) is not None}
    return {**found, **{f"test.{label}": table for label, table in data.get("test", {}).items()}}


def same_folder(chosen: Mapping[str, DatasetChoice], registry: Registry) -> Iterator[set[str]]:
    """Roles that name the same images, whichever share of them they get: one domain of one folder.

    Args:
        chosen: the data sets, by role.
        registry: where they come from.
    """
    by_folder: dict[tuple[Path, str], dict[str, str | None]] = defaultdict(dict)
    for role, choice in chosen.items():
        root = dataset_root(choice, registry)
        if root is not None:
            by_folder[root.resolve(), str(choice.options.get("images", ""))][role] = choice.domain
    for domains in by_folder.values():
        any_domain = "*" in domains.values()  # stands for the only one that there is
        for domain in dict.fromkeys(domains.values()):
            roles = {role for role, own in domains.items() if any_domain or own == domain}
            yield roles
            if any_domain:
                break


def _shared(chosen: Mapping[str, DatasetChoice], *, keeps_val: bool, registry: Registry) -> dict[str, DatasetChoice]:
    """Data sets of one folder with the shares of their roles."""
    kinds = {role: role.partition(".")[0] for role in chosen}
    known = {role: component_options(registry.load(registry.find("dataset", chosen[role].name))) for role in chosen}
    if not any(_is_divided(choice, registry, "ratio" in known[role]) for role, choice in chosen.items()):
        of_kind = ratios(set(kinds.values()), keeps_val=keeps_val)
        return {
            role: _changed(choice, split=of_kind[kinds[role]][0], ratio=of_kind[kinds[role]][1])
            for role, choice in chosen.items()
        }
    learns = {role for role, kind in kinds.items() if kind in ("source", "target", "synthetic")}
    keeps = "source" in learns and keeps_val
    if keeps or "val" in chosen or len(learns) != 1:
        return dict(chosen)
    (learner,) = learns  # nothing of the published training set is to validate
    spared = "val_share" in known[learner] and "val_share" not in chosen[learner].options
    return {**chosen, **({learner: _changed(chosen[learner], val_share=0.0)} if spared else {})}


def _is_divided(choice: DatasetChoice, registry: Registry, takes_ratio: bool) -> bool:
    root = dataset_root(choice, registry)
    if root is None or not takes_ratio or choice.options.get("splits"):
        return True
    return bool(registry.load(registry.find("dataset", choice.name)).is_divided(root, choice.options))


def _changed(choice: DatasetChoice, **over: Any) -> DatasetChoice:
    return type(choice)(**{**choice.model_dump(), **over})
