"""What the shell offers where a command line names something; nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from glob import escape, glob
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from transeg.core.registry import Registry

if TYPE_CHECKING:
    from pydantic import BaseModel


def complete_components(kind: str, role: str | None = None) -> Callable[..., list[CompletionItem]]:
    """Offers the usable components of a kind, losses of one role alone; in a sum, for its last term."""

    def offered(ctx: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
        begun = typed[: max(typed.rfind("+"), typed.rfind("*")) + 1]
        return [
            CompletionItem(f"{begun}{component.name}", help=component.entry.summary)
            for component in (ctx.params["registry"] or Registry()).components(kind)
            if component.status == "ok" and getattr(component.entry, "role", None) == role
            if component.name.startswith(typed.removeprefix(begun))
        ]

    return offered


def complete_settings(_ctx: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """Offers the options that every experiment has; to know a component's own, it would have to be imported."""
    from transeg.core.experiment.schema import Experiment

    return [f"{option}=" for option in _options(Experiment) if option.startswith(typed)]


def _options(table: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in table.model_fields.items():
        tables = [kind for kind in (field.annotation, *get_args(field.annotation)) if hasattr(kind, "model_fields")]
        if not tables:
            yield f"{prefix}{name}"
        elif get_origin(field.annotation) is not dict:  # whose tables have names that users choose
            yield from _options(tables[0], f"{prefix}{name}.")


def complete_run_folders(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Offers run folders, and with a slash the folders on the way to others; where the way does not fork, its end."""
    folders = sorted(glob(f"{escape(typed)}*/"))  # noqa: PTH207  # Path would not keep what is typed as it is
    found = {folder: Path(folder, "experiment.toml").exists() for folder in folders}
    if list(found.values()) == [False]:
        return complete_run_folders(ctx, parameter, folders[0])
    return [folder.rstrip("/") if is_run else folder for folder, is_run in found.items()]
