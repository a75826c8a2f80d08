import re
import shlex
from pathlib import Path

import pytest

from transeg.cli import main
from transeg.tools.data.command import data
from transeg.tools.nnunet.command import nnunet

GROUPS = {"data": data, "nnunet": nnunet}
README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for block in blocks("sh")
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("toolkit")
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_option_shown_exists(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text("[plugin]\ncontract = 1\n")
    with main.make_context("toolkit", list(arguments), resilient_parsing=False) as context:
        name, command, rest = main.resolve_command(context, arguments)
        if name in GROUPS:
            name, command, rest = GROUPS[name].resolve_command(context, rest)
        command.make_context(name, rest, parent=context)


def test_the_plugin_shown_is_listed_and_built(toolkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (plugin,) = (block for block in blocks("python") if "class Tiny" in block)
    Path("tiny.py").write_text(plugin)
    Path("tiny.toml").write_text(next(block for block in blocks("toml") if "[plugin]" in block))
    assert len(plugin.splitlines()) <= 20
    assert "Two convolutions" in toolkit("list", "segmenters", "--registry", "tiny.toml").stdout
    run = next(arguments for arguments in COMMANDS if "tiny" in arguments)
    assert "tiny, 2,465 parameters" in toolkit(*run, "--dry-run").stdout


def test_pictures_and_pages_are_there():
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (Path(__file__).parent.parent / link).exists(), link
