"""The command line: which commands there are, and what becomes of their errors."""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import IO, Any

import click

from transeg import __version__
from transeg.core.distributed.ranks import reports_failure
from transeg.core.errors import TransegError, UsageError, did_you_mean
from transeg.core.manifest import CommandEntry
from transeg.core.registry import BUILTIN, LOCAL
from transeg.tools.common.options import installed_registry

OUT_OF_MEMORY = (
    "The GPU's memory is not enough. Give it less at a time, with a smaller --window where there is that option; end "
    "what else computes there; or say --device cpu."
)
"""Of all but trainings, which say for themselves what makes them smaller."""
EPILOG = "Every command has --help. Start with: toolkit run --generator cut --segmenter hardnet"


class Failure(click.ClickException):
    """What went wrong, in a sentence."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it for the class but reads the instance's

    def show(self, file: IO[Any] | None = None) -> None:
        if reports_failure(self.__cause__):
            super().show(file)


class Later(click.Command):
    """A command of which the manifest has told name and summary, and that is imported when it is called."""

    def __init__(self, name: str, entry: CommandEntry, package: str) -> None:
        super().__init__(name, help=entry.summary)
        self.entry = entry.entry
        self.package = package

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Of the command itself."""
        return self.loaded().make_context(info_name, args, parent, **extra)

    def loaded(self) -> click.Command:
        """The command itself.

        Raises:
            TransegError: its module cannot be imported.
        """
        module, _, attribute = self.entry.rpartition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
            if not isinstance(command, click.Command):
                raise TypeError(f"{self.entry} is a {type(command).__name__}, where a Click command belongs")
        except Exception as error:
            whose = "" if self.package == BUILTIN else f" of the plugin {self.package}"
            raise TransegError(
                f"The command {self.name}{whose} cannot be loaded: {type(error).__name__}: {error}."
            ) from error
        return command


class Toolkit(click.Group):
    """The commands that installed plugins offer, the toolkit's own first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_entries(ctx))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        package, entry = _entries(ctx).get(name, ("", None))
        return Later(name, entry, package) if entry else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise UsageError(f"There is no command {args[0]!r}.{did_you_mean(args[0], names)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            _part_from_ranks()
            return result
        except (TransegError, click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError) as error:
            if isinstance(error, TransegError) and not ctx.params["debug"]:
                raise Failure(str(error), error.exit_code) from error
            raise
        except Exception as error:
            if ctx.params["debug"]:
                raise
            if isinstance(error, getattr(sys.modules.get("torch"), "OutOfMemoryError", ())):
                raise Failure(OUT_OF_MEMORY, 1) from error
            whose = _culprit(error, ctx)
            message = f"{type(error).__name__}: {error}. This is a fault of {whose}; --debug shows where it happened."
            raise Failure(message, 1) from error


def _culprit(error: BaseException, ctx: click.Context) -> str:
    """The package whose own code failed, transeg itself where that of no plugin was running."""
    packages = {plugin.module.partition(".")[0]: plugin.package for plugin in installed_registry(ctx).plugins}
    found, trace = BUILTIN, error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if module.startswith(LOCAL):
            found = f"the plugin {module.removeprefix(LOCAL)}.py"
        elif packages.get(module, BUILTIN) != BUILTIN:
            found = f"the plugin {packages[module]}"
        trace = trace.tb_next
    return found


def _part_from_ranks() -> None:
    """Part from the processes that a command has met: one that exits in their midst may be aborted by its threads."""
    collectives = sys.modules.get("transeg.core.distributed.collectives")
    if collectives is not None:
        collectives.leave_ranks()


def _entries(ctx: click.Context) -> dict[str, tuple[str, CommandEntry]]:
    """Package and entry of the commands of all plugins; a name that several offer means the first's, and that is the
    toolkit's own.
    """
    plugins = [plugin for plugin in installed_registry(ctx).plugins if plugin.status == "ok"]
    return {name: (plugin.package, entry) for plugin in reversed(plugins) for name, entry in plugin.commands.items()}


@click.group(cls=Toolkit, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="transeg")
@click.option("--debug", is_flag=True, help="Show the traceback of an error, for a report of a fault.")
def main(debug: bool) -> None:
    """Translate and segment medical images where labels are scarce.

    Pick a generator (image-to-image translation), a segmenter, losses and datasets; transeg composes them into one
    training run, measures it and hands back a model to use.
    """
    if not debug:  # timm and others still use what PyTorch deprecates, which is nothing that a user can mend
        warnings.filterwarnings("ignore", category=FutureWarning)
