"""The rungs of a ladder: what each of them learns from, and nothing else; imports no component."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from transeg.core.errors import UsageError, did_you_mean

LOWEST, HIGHEST = "source-only", "oracle"
"""The rungs between which the gap lies."""
RIVAL = "source-strong"
"""What needs no target image, and so what others are worth the trouble against."""
INVERTED = "+inverted"
"""Behind the name of a rung that learns from the source: with dark and bright exchanged there."""
STRONG = "+strong"
"""Behind that: with the augmentation preset of that name."""
ADAPTED = {"+bn": "bn", "+tent": "tent"}
"""Behind all of a rung's name: its tests adapt the network to each of their groups; the training is the same."""


@dataclass(frozen=True)
class Rung:
    """What a training learns from, where all else is equal.

    Attributes:
        name: on command lines and in tables.
        learns_from: in words.
        strategy: the component that trains it.
        generator: the one that translates the source; `named` for the experiment's, '' for none.
        labels: whose labels it learns from.
        target: whether it sees target images without their labels.
        inverted: whether dark and bright are exchanged in the source.
        strong: whether its augmentation is the preset `strong`.
        few: so many labelled target images are half of each batch; 0 for none.
        adaptation: of its tests, see :class:`transeg.core.inference.adaptation.BatchNormAdaptation`.
    """

    name: str
    learns_from: str
    strategy: str = "supervised"
    generator: str = ""
    labels: Literal["source", "target"] = "source"
    target: bool = False
    inverted: bool = False
    strong: bool = False
    few: int = 0
    adaptation: str = "none"

    @property
    def trained_as(self) -> str:
        """The name of the rung with the same training, whose tests adapt nothing."""
        return self.name.removesuffix(f"+{self.adaptation}")


def _table(*rungs: Rung) -> dict[str, Rung]:
    return {rung.name: rung for rung in rungs}


RUNGS = _table(
    Rung(LOWEST, "source"),
    Rung(RIVAL, "source, strong augmentation", strong=True),
    Rung("histogram", "source, histograms matched", "joint", "histogram", target=True),
    Rung("fda", "source, low frequencies exchanged", "joint", "fda", target=True),
    Rung("stain", "source, stain exchanged", "joint", "stain", target=True),
    Rung("joint", "translated source, trained together", "joint", "named", target=True),
    Rung("sequential", "translated source, trained one after the other", "sequential", "named", target=True),
    Rung("self-training", "source + pseudo-labelled target", "self-training", target=True),
    Rung("joint+self-training", "translated source + pseudo-labelled target", "self-training", "named", target=True),
    Rung(HIGHEST, "target labels", labels="target"),
)
"""In the order of a table."""
USUAL = tuple(name for name in RUNGS if name not in ("stain", "sequential"))
"""Those that are trained where none are named."""
FEW = re.compile(r"few[=-](\d+)")


def parse_rungs(names: Sequence[str]) -> list[Rung]:
    """Rungs by their names, in the order of a table: `source-only`, without which there is no gap, is always one.

    Raises:
        UsageError: there is no such rung, or it is named twice.
    """
    found = [parse_rung(name) for name in names]
    twice = next((rung.name for rung in found if found.count(rung) > 1), None)
    if twice is not None:
        raise UsageError(f"--rungs names {twice} twice.")
    if RUNGS[LOWEST] not in found:
        found.append(RUNGS[LOWEST])
    return sorted(found, key=_place)


def parse_rung(text: str) -> Rung:
    """``fda``, ``few=10``, ``joint+inverted+strong+bn``; also as the folder of a cell is called, ``few-10``.

    Raises:
        UsageError: there is no such rung.
    """
    text = text.strip()
    for ending, method in ADAPTED.items():
        if text.endswith(ending):
            rung = _trained_rung(text.removesuffix(ending))
            learns_from = f"{rung.learns_from}; {method} on each test group"
            return replace(rung, name=rung.name + ending, learns_from=learns_from, adaptation=method)
    return _trained_rung(text)


def _trained_rung(text: str) -> Rung:
    """A rung but for what its tests do."""
    name = text.removesuffix(STRONG).removesuffix(INVERTED)
    few = FEW.fullmatch(name)
    if few and int(few[1]):
        number = int(few[1])
        images = "1 labelled target image" if number == 1 else f"{number} labelled target images"
        rung = Rung(f"few={number}", f"source + {images}", few=number)
    elif name in RUNGS:
        rung = RUNGS[name]
    else:
        raise UsageError(
            f"There is no rung {text!r}.{did_you_mean(name, RUNGS)} There are {', '.join(RUNGS)} and few=N, with a "
            f"number of images, and each of them with {INVERTED}, {STRONG}, {' or '.join(ADAPTED)} behind it, in this "
            f"order."
        )
    inverted, strong = text.removesuffix(STRONG).endswith(INVERTED), text.endswith(STRONG)
    if strong and rung.name == LOWEST:
        rung, strong = RUNGS[RIVAL], False
    if inverted and rung.labels == "target":
        raise UsageError(f"The rung {name} learns from the target's labels alone, so there is no {text}.")
    if inverted:
        learns_from = f"{rung.learns_from}; dark and bright exchanged"
        rung = replace(rung, name=rung.name + INVERTED, learns_from=learns_from, inverted=True)
    if not strong or rung.strong:
        return rung
    return replace(rung, name=rung.name + STRONG, learns_from=f"{rung.learns_from}, strong augmentation", strong=True)


def _place(rung: Rung) -> tuple[float, int, bool, bool, int]:
    """Labels of the target come last: a few of them, then all."""
    order, adaptations = list(RUNGS), ["none", *ADAPTED.values()]
    plain = rung.trained_as.removesuffix(STRONG).removesuffix(INVERTED)
    place = len(order) - 1.5 if rung.few else order.index(plain)
    return place, rung.few, rung.inverted, rung.strong, adaptations.index(rung.adaptation)
