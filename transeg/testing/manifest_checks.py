"""What a manifest says of a component is true, and every option of it can be set, and is explained."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path
from typing import Any
from unittest import SkipTest

import docstring_parser
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation

from transeg.core import interfaces
from transeg.core.component_options import EMPTY, check_options, component_description, options
from transeg.core.errors import UsageError
from transeg.core.evaluation.metrics.table import means_something_else
from transeg.core.manifest import Component, DatasetEntry, GeneratorEntry, StrategyEntry
from transeg.core.registry import BUILTIN
from transeg.testing.subject import ContractError, Subject

POSITIONAL = {
    "generator": ("source_channels", "target_channels"),
    "segmenter": ("in_channels", "num_classes"),
    "dataset": ("root", "split"),
}
"""What constructors are given without names, by kind; their options are keyword-only."""
PROMISED = {
    "generator": ("paired", "conditions"),
    "dataset": ("domains", "classes"),
}
"""What a manifest of contract 2 says for a class, by kind."""


def _contract(subject: Subject) -> type:
    """The class that a component's must derive from."""
    if getattr(subject.component.entry, "role", "") == "distillation":
        return interfaces.DistillationLoss
    contract: type = getattr(interfaces, subject.component.kind.capitalize())
    return contract


def can_be_used(subject: Subject) -> None:
    """Nothing that can be seen without importing it keeps it from being used."""
    component = subject.component
    if component.status == "missing":
        raise SkipTest(f"it needs {component.reason}")
    if component.status == "disabled":
        raise SkipTest(component.reason)
    subject.expect(
        component.status != "broken",
        "nothing that keeps it from being used",
        f"that {component.reason}",
        "Mend that, or the entry in registry.toml.",
    )


def has_a_name_of_its_own(subject: Subject) -> None:
    """No other component has its name."""
    component = subject.component
    if component.package == BUILTIN:
        return
    others = [
        f"{other.package}:{other.name}"
        for other in subject.registry.components(component.kind)
        if other.name == component.name and not _is_same(other, component)
    ]
    if component.kind == "metric" and means_something_else(component.name):
        others.append("a column in the files of an evaluation")
    subject.expect(
        not others,
        "a name that nothing else has",
        f"that {component.name!r} is also {' and '.join(others)}",
        "Choose another name in registry.toml.",
    )


def _is_same(one: Component, other: Component) -> bool:
    """Whether two are one, of a package that is installed and whose manifest is named besides."""
    entry = one.entry.entry
    return entry == other.entry.entry and (one.root == other.root or not entry.partition(":")[0].endswith(".py"))


def class_is_of_its_kind(subject: Subject) -> None:
    """Its class derives from the interface of its kind, in whose words its table stands."""
    cls, wanted = subject.load(), _contract(subject)
    subject.expect(
        isinstance(cls, type) and issubclass(cls, wanted),
        f"a class that derives from transeg.core.interfaces.{wanted.__name__}",
        f"{getattr(cls, '__name__', cls)!s}, which does not",
        f"Write `class {getattr(cls, '__name__', 'Name')}({wanted.__name__})`, or move its table to another kind.",
    )
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    subject.expect(
        not missing,
        f"every method of {wanted.__name__}",
        f"none called {', '.join(missing)}",
        "Write it: the interface says what it returns.",
    )


def is_described(subject: Subject) -> None:
    """Its table has a summary, and its class says what it is."""
    subject.expect(
        subject.component.entry.summary,
        "a summary, a line for `toolkit list`",
        "none",
        f'Add summary = "..." to [{subject.component.kind}.{subject.component.name}] in registry.toml.',
    )
    loaded = subject.load()
    subject.expect(
        component_description(loaded),
        "a docstring, which `toolkit info` shows",
        f"none at {loaded.__name__}",
        "Say in it what the component is and when to choose it.",
    )


def options_are_keyword_only(subject: Subject) -> None:
    """A constructor takes what its kind is built from, and its options by name alone."""
    wanted = POSITIONAL.get(subject.component.kind, ())
    parameters = inspect.signature(subject.load()).parameters.values()
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    subject.expect(
        len(plain) == len(wanted),
        f"a constructor of {', '.join(wanted) or 'no arguments'} and then, behind a *, options",
        f"one of {', '.join(plain) or 'none'}",
        "Write `*` before the first option: `def __init__(self, ..., *, width: int = 16)`.",
    )
    own = not getattr(subject.load().__init__, "__module__", "").startswith("torch.")  # which takes anything
    loose = [p.name for p in parameters if own and p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    subject.expect(
        not loose,
        "options that are named one by one, so that a misspelt one is refused",
        f"*{', *'.join(loose)}",
        "Name them: what a user may set is read off the constructor.",
    )


def options_are_typed(subject: Subject) -> None:
    """Every option has a type that a value of a user can be checked against, and a default of that type."""
    cls = subject.load()
    hints = typing.get_type_hints(inspect.getattr_static(cls, "__init__"), include_extras=True)
    for name, option in options(cls).items():
        where = f"the option {name}"
        subject.expect(
            name in hints and hints[name] is not Any,
            f"a type of {where}",
            "none",
            f"Write `{name}: int = ...` or whatever it is: `--set` checks values by it.",
        )
        try:
            TypeAdapter(option.type)
        except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation) as error:
            raise ContractError(
                f"{subject}: expected a type of {where} that a value from TOML can have, found {option.type_name}. "
                "Take one of Python's own, a Literal, a Path, or these in a tuple or a union with None."
            ) from error
        if option.default is EMPTY or isinstance(option.default, Path):
            continue
        try:
            check_options(cls, {**_required(cls), name: option.default}, subject.component.kind)
        except UsageError as error:
            raise ContractError(
                f"{subject}: expected a default of {where} that is a {option.type_name}, found {option.default!r}. "
                "Change the default or the type; a type that allows None is written `int | None`."
            ) from error


def options_are_explained(subject: Subject) -> None:
    """Every option has a line under `Args:` in the docstring of the class, and no line is of an option that is gone."""
    cls = subject.load()
    found = options(cls)
    silent = [name for name, option in found.items() if not option.help]
    subject.expect(
        not silent,
        "a line for each option under `Args:` in the docstring of its class",
        f"none for {', '.join(silent)}",
        "Write what it does, in which unit and range: `toolkit info` shows it.",
    )
    known = set(inspect.signature(cls).parameters)
    told = {entry.arg_name for entry in docstring_parser.parse(cls.__doc__ or "").params}
    subject.expect(
        not told - known,
        "lines under `Args:` of arguments that there are",
        f"some of {', '.join(sorted(told - known))}",
        "Take them out, or give the constructor these arguments.",
    )


def manifest_agrees_with_the_class(subject: Subject) -> None:
    """What a manifest says in place of the class, the class says, too."""
    component, cls = subject.component, subject.load()
    if component.contract > 1:
        for name in PROMISED.get(component.kind, ()):
            said, is_so = getattr(component.entry, name), getattr(cls, name)
            subject.expect(
                said == is_so,
                f"{name} = {_toml(is_so)} in registry.toml, as the class has it",
                _toml(said),
                "Change the one that is wrong: runs are planned by the manifest, before the class is imported.",
            )
    entry = component.entry
    if isinstance(entry, DatasetEntry):
        strange = [domain for domain in entry.test_domains if domain not in entry.domains and "*" not in entry.domains]
        subject.expect(
            not strange,
            "test_domains that are among the domains",
            ", ".join(strange),
            "Add them to domains, or take them out.",
        )
    if isinstance(entry, StrategyEntry):
        both = set(entry.needs) & set(entry.takes)
        subject.expect(
            not both,
            "in takes what it has a use for besides what it needs",
            f"{', '.join(sorted(both))} in both",
            "Leave it in needs alone.",
        )


def parameters_are_as_stated(subject: Subject) -> None:
    """It has the trainable parameters, at its defaults, that its manifest states, where that states any."""
    import torch

    entry = subject.component.entry
    if entry.params is None:
        raise SkipTest("the manifest states no params")
    channels = (3, 3) if isinstance(entry, GeneratorEntry) else (3, 1)
    required = _required(subject.load())
    with torch.device("meta"):
        network = subject.load()(
            *channels, **{name: subject.options.get(name, value) for name, value in required.items()}
        )
    found = sum(p.numel() for p in network.parameters() if p.requires_grad)
    subject.expect(
        found == entry.params,
        f"{entry.params:,} trainable parameters, as registry.toml states",
        f"{found:,} with {' and '.join(map(str, channels))} channels at its defaults",
        f"Write params = {found}.",
    )


def _required(cls: type) -> dict[str, Any]:
    """Options that have no default, with a name in their place: those that are required are names of layers."""
    return {name: "deep" for name, option in options(cls).items() if option.default is EMPTY}


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(list(value))


FOR_ALL = (can_be_used, has_a_name_of_its_own, is_described)
FOR_CLASSES = (
    class_is_of_its_kind,
    options_are_keyword_only,
    options_are_typed,
    options_are_explained,
    manifest_agrees_with_the_class,
)
