import click
import pytest
from click.testing import CliRunner

from transeg.tools.benchmark.command import benchmark
from transeg.tools.common.options import CommandWithSettings, assignments
from transeg.tools.data.command import convert, verify
from transeg.tools.export.command import export
from transeg.tools.measure import measure
from transeg.tools.nnunet.command import nnunet


@click.command(cls=CommandWithSettings)
@click.argument("images", nargs=-1)
@assignments("Set anything.")
@click.option("--split")
def show(images, assignments, split):
    click.echo(repr((images, assignments, split)))


@pytest.mark.parametrize(
    ("line", "images", "settings"),
    [
        ("x --set a=1", ("x",), ("a=1",)),
        ("x --set a=1 b.c=2 d-e=3", ("x",), ("a=1", "b.c=2", "d-e=3")),
        ("--set a=1 b=2 x y", ("x", "y"), ("a=1", "b=2")),
        ("--set a=1 --set b=2 c=3 --split val x", ("x",), ("a=1", "b=2", "c=3")),
        ("--set=a=1 b=2 x", ("x",), ("a=1", "b=2")),
        ("x --split val a=1", ("x", "a=1"), ()),
        ("x --set a=1 -- b=2", ("x", "b=2"), ("a=1",)),
    ],
)
def test_several_settings_follow_one_option(line, images, settings):
    result = CliRunner().invoke(show, line.split())
    assert result.output.strip() == repr((images, settings, "val" if "val" in line else None))


def test_a_list_with_blanks_is_one_setting():
    result = CliRunner().invoke(show, ["--set", "classes=['a b', 'c']", "values=[0, 1]"])
    assert result.output.strip() == repr(((), ("classes=['a b', 'c']", "values=[0, 1]"), None))


@pytest.mark.parametrize("command", [benchmark, convert, export, measure, verify, *nnunet.commands.values()])
def test_commands_with_settings_take_them_in_one_way(command):
    if any("--set" in parameter.opts for parameter in command.params):
        assert isinstance(command, CommandWithSettings)
