"""The pages in docs/ say what the code says."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_generated_pages_are_as_new_as_what_they_are_made_of(tmp_path):
    runpy.run_path(str(DOCS / "generate.py"))["main"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.md")}
    assert len(made) > 20
    kinds = ("generators", "segmenters", "losses", "datasets")
    there = {path.relative_to(DOCS) for kind in kinds for path in (DOCS / kind).rglob("*.md")}
    assert there == set(made)
    stale = [str(path) for path, text in made.items() if (DOCS / path).read_text() != text]
    assert not stale, f"run `make docs`: {stale}"
