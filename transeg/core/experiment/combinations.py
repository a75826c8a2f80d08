"""Which generators and segmenters go together, by which strategy, and what data they need; imports no component."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transeg.core.manifest import Component, GeneratorEntry, StrategyEntry
from transeg.core.registry import Registry


@dataclass(frozen=True)
class Combination:
    """A strategy with the components that it trains.

    Attributes:
        strategy: its name.
        generator: name, or None where the strategy has none.
        segmenter: likewise.
        source: what source images must come with, in words; '' where none are needed.
        target: what is needed of the target domain, in words; '' for nothing.
        missing: what must be installed first; '' for nothing.
    """

    strategy: str
    generator: str | None
    segmenter: str | None
    source: str
    target: str
    missing: str

    @property
    def command(self) -> str:
        """How to run it."""
        parts = [("generator", self.generator), ("segmenter", self.segmenter), ("strategy", self.strategy)]
        options = [f"--{option} {value}" for option, value in parts if value]
        options += [*(["--source DATA"] if self.source else []), *(["--target DATA"] if self.target else [])]
        return " ".join(["toolkit run", *options])


def combinations(registry: Registry) -> Iterator[Combination]:
    """Every combination of what the registry offers, strategy by strategy."""
    segmenters, generators = (list(registry.components(kind)) for kind in ("segmenter", "generator"))
    for strategy in registry.components("strategy"):
        entry = strategy.entry
        assert isinstance(entry, StrategyEntry)
        for generator in _generators(entry, generators):
            for segmenter in segmenters if "segmenter" in entry.needs else [None]:
                yield _combination(strategy, entry, generator, segmenter)


def _generators(entry: StrategyEntry, generators: Sequence[Component]) -> list[Component | None]:
    """Those that a strategy may train, and None where it can do without."""
    if "generator" not in (*entry.needs, *entry.takes):
        return [None]
    target = "target" in entry.needs
    without = [] if "generator" in entry.needs else [None]
    return [*without, *(each for each in generators if not (target and getattr(each.entry, "paired", False)))]


def _combination(
    strategy: Component, entry: StrategyEntry, generator: Component | None, segmenter: Component | None
) -> Combination:
    source, target = _needs(generator, segmenter is not None)
    if "target" in entry.needs:
        target = "images"
    if "source" not in entry.needs:
        source = ""
    elif "pairs" in entry.needs:
        source = f"{source} and counterparts"
    parts = [part for part in (strategy, generator, segmenter) if part is not None]
    names = [None if part is None else part.name for part in (generator, segmenter)]
    missing = "; ".join(part.reason for part in parts if part.status != "ok")
    return Combination(strategy.name, names[0], names[1], source, target, missing)


def _needs(generator: Component | None, segments: bool) -> tuple[str, str]:
    """What the source and the target must have."""
    masks = "images with masks" if segments else "images"
    if generator is None:
        return masks, ""
    assert isinstance(generator.entry, GeneratorEntry)
    if not generator.entry.paired:
        return masks, "images"
    pairs = f"{masks} and counterparts" if segments else "images with counterparts"
    ways = [pairs if condition == "image" else "images with masks" for condition in generator.entry.conditions]
    return " or ".join(dict.fromkeys(ways)), ""
