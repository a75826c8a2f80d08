"""Adds the help of every command to the site, as the terminal shows it: a hook of MkDocs."""

from __future__ import annotations

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from transeg.cli import Later, main

PAGE = "reference/commands.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs once it has collected all pages."""
    context = click.Context(main, info_name="toolkit", terminal_width=80)
    files.append(File.generated(config, PAGE, content="\n\n".join(["# Commands", *command_help(context)])))
    return files


def command_help(context: click.Context) -> list[str]:
    """Title and help of a command and of all below it, as blocks of Markdown."""
    blocks = [f"## {context.command_path}", f"```text\n{context.get_help()}\n```"]
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            shown = command.loaded() if isinstance(command, Later) else command
            blocks += command_help(click.Context(shown, info_name=name, parent=context))
    return blocks
