"""What README and docs/ tell readers to type is there to be typed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from transeg.cli import main
from transeg.tools.data.command import data
from transeg.tools.nnunet.command import nnunet

GROUPS = {"data": data, "nnunet": nnunet}
ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
FIRST_PLUGIN = ROOT / "docs" / "plugins" / "first.md"


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page):
    """Arguments of each `toolkit` command in a page's blocks of shell."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("toolkit ")]


COMMANDS = {" ".join(arguments): arguments for page in PAGES for arguments in commands(page)}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
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
    (plugin,) = (block for block in blocks(FIRST_PLUGIN, "python") if "class Tiny" in block)
    Path("tiny.py").write_text(plugin)
    Path("tiny.toml").write_text(next(block for block in blocks(FIRST_PLUGIN, "toml") if "[segmenter.tiny]" in block))
    assert len(plugin.splitlines()) <= 20
    assert "Two convolutions" in toolkit("list", "segmenters", "--registry", "tiny.toml").stdout
    run = next(arguments for arguments in commands(FIRST_PLUGIN) if "tiny" in arguments)
    assert "tiny, 2,465 parameters" in toolkit(*run, "--dry-run").stdout


def test_the_readme_is_read_in_minutes():
    assert len(README.read_text().splitlines()) <= 120


def test_sentences_that_troubleshooting_quotes_are_said():
    """Each first cell of its tables holds pieces of a sentence that some module says."""
    said = "\n".join(path.read_text() for path in (ROOT / "transeg").rglob("*.py"))
    joined = re.sub(r'"\n\s*f?"', "", said)
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    quoted = [piece for row in rows for piece in re.findall(r"`([^`]+)`", row)]
    assert len(quoted) > 15
    assert [piece for piece in quoted if piece not in joined] == []


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("material", reason="needs mkdocs-material")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    shown = {"commands": "--generator", "python": "transeg.load", "experiment": "source_limit"}
    shown["interfaces"] = "size_multiple"
    shown["errors"] = "this run trained a generator alone"
    for page, word in shown.items():
        assert word in (tmp_path / "site" / "reference" / page / "index.html").read_text()
