"""The pages in docs/ say what the code says."""

import pkgutil
import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from transeg import __version__

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *(page for folder in ("benchmarks", "docs", "examples", "tests") for page in (ROOT / folder).rglob("*.md")),
]


def test_generated_pages_are_as_new_as_what_they_are_made_of(tmp_path):
    runpy.run_path(str(DOCS / "generate.py"))["main"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.md")}
    assert len(made) > 20
    kinds = ("generators", "segmenters", "losses", "datasets", "strategies")
    there = {path.relative_to(DOCS) for kind in kinds for path in (DOCS / kind).rglob("*.md")}
    assert there == set(made)
    stale = [str(path) for path, text in made.items() if (DOCS / path).read_text() != text]
    assert not stale, f"run `make docs`: {stale}"


@pytest.mark.parametrize(("name", "written"), [("results.md", "page"), ("choosing.md", "choosing")])
def test_pages_of_results_are_as_new_as_what_they_are_made_of(name, written):
    assert (DOCS / name).read_text() == runpy.run_path(str(DOCS / "results.py"))[written]()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_code_that_pages_name_exist(page):
    text = page.read_text()
    files = re.findall(r"(?<![\w/.-])(?:benchmarks|docs|examples|tests|transeg)/[\w./-]*[\w/]", text)
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    missing = [name for name in files if not (ROOT / name).exists()]
    missing += [link for link in links if not (page.parent / link).exists()]
    for name in re.findall(r"(?<![\w/.-])transeg(?:\.\w+)+", text):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            missing.append(name)
    assert not missing


def test_the_notice_says_whose_images_each_picture_shows():
    pictures = {f"docs/{path.relative_to(DOCS)}" for kind in ("jpg", "png") for path in DOCS.rglob(f"*.{kind}")}
    named = set(re.findall(r"docs/[\w/.-]+\.(?:jpg|png)", (ROOT / "NOTICE").read_text()))
    assert pictures == named


def test_the_lock_names_a_version_that_is_allowed_of_each_requirement():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in locked}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    assert len(wanted) > 20
    assert [str(each) for each in wanted if versions.get(canonicalize_name(each.name), "") not in each.specifier] == []


def test_what_is_cited_is_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {*citation} >= {"cff-version", "message", "title", "authors", "license"}
    assert citation["version"] == __version__
