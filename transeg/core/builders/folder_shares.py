"""How the images of folders are shared out among the roles of a run, as a plan tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transeg.core.builders.datasets import build_dataset
from transeg.core.data.splits import SPLITS
from transeg.core.experiment.choices import DatasetChoice
from transeg.core.experiment.schema import DataOptions
from transeg.core.experiment.shares import by_role, is_shared_by_ratio, same_folder
from transeg.core.registry import Registry


def folder_shares(data: DataOptions, registry: Registry, counts: Mapping[str, int]) -> dict[str, tuple[int, str]]:
    """Of each folder that nothing but a ratio divides: how many images it has, and in words who else has some of them.

    Args:
        data: the data sets.
        registry: where they come from.
        counts: how many images those that are built have, by role, with ``val`` for the source's own; a folder whose
            shares they do not make up is listed.

    Returns:
        By role, ``source`` or ``test.LABEL``.
    """
    chosen = by_role(dict(data))
    found: dict[str, tuple[int, str]] = {}
    for roles in same_folder(chosen, registry):
        known = [role for role in chosen if role in roles]
        if not all(is_shared_by_ratio(chosen[role], registry) for role in known):
            continue
        keeps = "source" in known and data.val is None
        by_kind = {role.partition(".")[0]: role for role in known} | ({"val": "val"} if keeps else {})
        used = sum(counts.get(role, 0) for role in by_kind.values())
        whole, told = used, set(by_kind.values()) <= counts.keys()
        if not (told and _covers([chosen[role] for role in known], keeps=keeps)):
            first = chosen[known[0]].model_copy(update={"split": "all"})
            whole = len(build_dataset(first, known[0].partition(".")[0], registry))
        unused = ["not used"] if told and used < whole else []
        for role in known:
            others = [other.partition(".")[0] for other in known if other != role]
            words = dict.fromkeys([*(["validation"] if keeps else []), *others, *unused])
            found[role] = whole, " and ".join("validation" if word == "val" else word for word in words)
    return found


def _covers(choices: Sequence[DatasetChoice], *, keeps: bool) -> bool:
    """Whether the shares of one folder, with the source's validation images where there are some, are all of it."""
    divided = {choice.options.get("ratio") for choice in choices}
    splits = {choice.split for choice in choices} | ({"val"} if keeps else set())
    ratio = divided.pop()
    return ratio is not None and not divided and all(s in splits or not r for s, r in zip(SPLITS, ratio, strict=True))
