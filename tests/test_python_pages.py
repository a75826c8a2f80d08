"""The examples in docs/how-to/python.md, the notebooks and the README run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def run_code(code, folder):
    """What it prints, in a process of its own; pictures are drawn and not shown."""
    environment = {**os.environ, "MPLBACKEND": "agg"}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_the_page_runs(tmp_path):
    code = "\n".join(blocks(ROOT / "docs" / "how-to" / "python.md"))
    tiny, count = re.subn(r'("train.iterations": )\d+', r"\g<1>2", code)
    assert count == 2
    small = tiny.replace(
        '"data.size": 64', '"data.size": 32, "data.source.count": 10, "data.target.count": 10'
    ).replace('"generator.width": 16', '"generator.width": 4')
    assert small != tiny
    printed, said = run_code(small, tmp_path)
    assert printed == "The array has pixels of type int64; convert it to 8 or 16 bits.\n"
    assert said == ""


def test_the_readme_runs(joint_run, tmp_path):
    (shown,) = (block for block in blocks(ROOT / "README.md") if "transeg.load" in block)
    assert len(shown.strip().splitlines()) <= 6
    setting = "import numpy\nimage = numpy.zeros((50, 40, 3), numpy.uint8)\n"
    run_code(setting + shown.replace("runs/mine", str(joint_run)) + "\nassert mask.shape == (50, 40)", tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(tmp_path, path):
    """Their cells one after another, with the numbers of the cell that is tagged `parameters` made small."""
    notebook = json.loads(path.read_text())
    cells = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            parameters = "parameters" in cell["metadata"].get("tags", ())
            cells.append(re.sub(r"(?m)= \d+$", "= 2", text) if parameters else text)
            assert all(output["output_type"] != "error" for output in cell["outputs"])
    called = r"subprocess.run([sys.executable, '-m', 'transeg', *'\1'.split()], check=True)"
    code = re.sub(r"(?m)^!toolkit (.*)$", called, "\n".join(cells))
    assert "iterations = 2\n" in code
    run_code("import subprocess, sys\n" + code, tmp_path)


def test_there_is_a_notebook():
    assert NOTEBOOKS
