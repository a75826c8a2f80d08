"""Whether the options of an experiment take what a search would give them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from transeg.core.component_options import options
from transeg.core.errors import UsageError
from transeg.core.experiment.choices import options_of_kind
from transeg.core.experiment.settings import parse_sum
from transeg.core.registry import Registry
from transeg.tools.search.overlay import COMPONENTS, compose_trial, lookup
from transeg.tools.search.space import Choices, Range, Space


def option_applies(option: str, chosen: Mapping[str, Any], registry: Registry) -> bool:
    """Whether an option means anything beside the components that a trial has chosen."""
    kind, _, rest = option.partition(".")
    if kind not in chosen or kind not in COMPONENTS or not rest:
        return True
    name = rest.partition(".")[0]
    if kind != "loss":
        component = registry.load(registry.find(kind, chosen[kind]))
        return name in {known.name for known in options_of_kind(component, kind)}
    terms = list(parse_sum(chosen[kind]))
    if name in terms:
        return True
    return len(terms) == 1 and name in options(registry.load(registry.find("loss", terms[0])))


def first_values(space: Space, chosen: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """The first value of each option, beside some that are chosen already."""
    values = dict(chosen)
    for option in components_first(space):
        if option not in values and option_applies(option, values, registry):
            values[option] = space[option].samples[0]
    return values


def components_first(space: Space) -> list[str]:
    """The options of a space, components first, since they decide which others apply."""
    return sorted(space, key=lambda option: (option not in COMPONENTS, option))


def count_combinations(space: Space, registry: Registry) -> float:
    """How many different trials there can be."""
    named = [kind for kind in COMPONENTS if kind in space]
    total = 0.0
    for names in product(*(space[kind].samples for kind in named)):
        components = dict(zip(named, names, strict=True))
        counts = (d.count for o, d in space.items() if o not in named and option_applies(o, components, registry))
        total += math.prod(counts)
    return total


def fit_space(space: Space, settings: Mapping[str, Any], registry: Registry) -> Space:
    """A space whose ranges have the type of their options.

    Each option is tried with its limits or with each of its choices, beside every component that a trial may choose.

    Raises:
        UsageError: there is no such option, or it does not take such values.
    """
    named: Space = {kind: space[kind] for kind in COMPONENTS if kind in space}
    for kind, values in named.items():
        if not isinstance(values, Choices) or not all(isinstance(value, str) for value in values.values):
            raise UsageError(f'The space of {kind} must be a list of names, such as ["{values.samples[0]}"].')
    for option in space:
        kind, _, rest = option.partition(".")
        if kind in COMPONENTS and rest == "name":
            raise UsageError(f'Components are searched by their kind: say "{kind}" in place of "{option}".')
    return {option: _fitted(option, space, named, settings, registry) for option in space}


def _fitted(
    option: str, space: Space, named: Space, settings: Mapping[str, Any], registry: Registry
) -> Range | Choices:
    domain, tried = space[option], False
    for components in _contexts(option, named):
        if not option_applies(option, components, registry):
            continue
        tried = True
        for value in domain.samples:
            beside = first_values(
                {k: v for k, v in space.items() if k != option}, {**components, option: value}, registry
            )
            taken = _taken(option, beside, settings, registry)
            domain = _typed(option, domain, taken)
    if not tried:
        raise UsageError(f"There is no option {option} of any component that the search may choose.")
    return domain


def _contexts(option: str, named: Space) -> Iterator[dict[str, Any]]:
    """Components by kind: each choice of the kind that an option belongs to, beside the first ones of other kinds."""
    usual = {kind: domain.samples[0] for kind, domain in named.items()}
    kind = option.partition(".")[0]
    for value in named[kind].samples if kind in named and option != kind else [None]:
        yield usual if value is None else {**usual, kind: value}


def _taken(option: str, chosen: Mapping[str, Any], settings: Mapping[str, Any], registry: Registry) -> Any:
    """What an experiment makes of a value."""
    try:
        experiment = compose_trial(settings, chosen, registry)
    except UsageError as error:
        raise UsageError(f"The space of {option} does not fit: {error}") from error
    tables = experiment.model_dump(mode="json")
    kind, _, rest = option.partition(".")
    of_term = f"loss.{experiment.loss.name}.{rest}" if experiment.loss is not None else ""
    value = lookup(tables, option)
    # of a single loss, its name may be left out
    return lookup(tables, of_term) if value is None and kind == "loss" and rest else value


def _typed(option: str, domain: Range | Choices, taken: Any) -> Range | Choices:
    if isinstance(domain, Choices):
        return domain
    if isinstance(taken, bool):
        raise UsageError(f"The option {option} is true or false, so its space must be [true, false].")
    whole = isinstance(domain.low, int)
    if isinstance(taken, float) and whole:
        return replace(domain, low=float(domain.low), high=float(domain.high))
    if isinstance(taken, int) and not whole:
        raise UsageError(
            f"The option {option} takes whole numbers, so its space must have such: low = {int(domain.low)}, "
            f"high = {int(domain.high)}."
        )
    return domain
