"""A component's options: the keyword-only arguments of its constructor, with types, defaults and docstrings."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docstring_parser
from pydantic import ConfigDict, TypeAdapter, ValidationError

from transeg.core.errors import UsageError, did_you_mean

EMPTY = inspect.Parameter.empty
FINITE = ConfigDict(allow_inf_nan=False)


@dataclass(frozen=True)
class Option:
    """One option of a component."""

    name: str
    type: Any
    default: Any
    help: str

    @property
    def type_name(self) -> str:
        """The type as a user reads it: ``int``, ``"cut" or "fastcut"``."""
        return _name(self.type)


def options(component: type) -> dict[str, Option]:
    """The options of a component's class, by name."""
    hints = typing.get_type_hints(inspect.getattr_static(component, "__init__"), include_extras=True)
    meaning = {
        entry.arg_name: " ".join((entry.description or "").split())
        for cls in reversed(component.__mro__)
        for entry in docstring_parser.parse(cls.__doc__ or "").params
    }
    return {
        name: Option(name, hints.get(name, Any), parameter.default, meaning.get(name, ""))
        for name, parameter in inspect.signature(component).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def component_description(component: type) -> list[str]:
    """The paragraphs of a component's docstring before its arguments: what it is first, then why and when."""
    text = inspect.cleandoc(component.__doc__ or "").partition("Args:")[0]
    return [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n") if paragraph.strip()]


def check_options(component: type, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All options of a component: the given ones checked and converted, the others at their defaults.

    Args:
        component: the component's class.
        given: values by name, as TOML or a command line holds them.
        where: the prefix under which a user knows them, such as ``segmenter``.

    Raises:
        UsageError: an unknown option (with the nearest name), or a value of the wrong type.
    """
    known = options(component)
    values = {name: option.default for name, option in known.items()}
    for name, value in given.items():
        if name not in known:
            raise UsageError(f"There is no option {where}.{name}.{did_you_mean(name, known)}")
        values[name] = _converted(known[name], value, f"{where}.{name}")
    missing = [name for name, value in values.items() if value is EMPTY]
    if missing:
        raise UsageError(f"{where} needs a value for {', '.join(missing)}; say --set {where}.{missing[0]}=...")
    return values


def _converted(option: Option, value: Any, where: str) -> Any:
    try:
        converted = _validated(option.type, value)
    except ValidationError as error:
        fault = error.errors()[0]["msg"]
        raise UsageError(f"{where} cannot be {value!r}: {fault[0].lower()}{fault[1:]}.") from error
    return converted.expanduser().resolve() if isinstance(converted, Path) else converted


def _validated(hint: Any, value: Any) -> Any:
    """A value of a type; ``a,b``, as on a command line, is a list where no string is wanted.

    Raises:
        ValidationError: it is of another type.
    """
    adapter = TypeAdapter(hint, config=FINITE)
    try:
        return adapter.validate_python(value)
    except ValidationError:
        if not isinstance(value, str) or not _takes_list(hint):
            raise
    return adapter.validate_python([part.strip() for part in value.split(",")])


def _takes_list(hint: Any) -> bool:
    return typing.get_origin(hint) in (tuple, list) or any(_takes_list(part) for part in typing.get_args(hint))


def _name(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _name(arguments[0])
    if origin is typing.Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return " | ".join("None" if part is type(None) else _name(part) for part in arguments)
    return inspect.formatannotation(hint).replace("pathlib.", "").replace("_local.", "")
