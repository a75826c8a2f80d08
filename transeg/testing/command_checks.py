"""What every command of a plugin must do."""

from __future__ import annotations

import click
from click.testing import CliRunner

from transeg.core.registry import BUILTIN
from transeg.testing.subject import Subject


def command_is_described(subject: Subject) -> None:
    """Its table has a summary, which `toolkit --help` shows without importing it."""
    subject.expect(
        subject.component.entry.summary,
        "a summary",
        "none",
        f'Add summary = "..." to [command.{subject.component.name}] in registry.toml.',
    )


def command_has_a_name_of_its_own(subject: Subject) -> None:
    """No command of the toolkit has its name: that one would be called in its place."""
    built_in = {n for plugin in subject.registry.plugins if plugin.package == BUILTIN for n in plugin.commands}
    if subject.component.package != BUILTIN:
        subject.expect(
            subject.component.name not in built_in,
            "a name of its own",
            f"that `toolkit {subject.component.name}` is built in",
            "Choose another name in registry.toml.",
        )


def command_shows_its_help(subject: Subject) -> None:
    """It is a Click command, and its --help says what it does."""
    command = subject.load()
    subject.expect(
        isinstance(command, click.Command),
        "a Click command",
        f"a {type(command).__name__}",
        "Decorate the function with @click.command().",
    )
    assert isinstance(command, click.Command)
    result = CliRunner().invoke(command, ["--help"], prog_name=f"toolkit {subject.component.name}")
    subject.expect(result.exit_code == 0, "--help to work", result.output or result.exception, "Mend its options.")
    subject.expect(command.help, "a docstring that --help shows", "none", "Say in it what the command does.")


CHECKS = (command_is_described, command_has_a_name_of_its_own, command_shows_its_help)
