"""Writes a package that pip can install, with a component that works and tests that pass."""

from __future__ import annotations

import datetime
import keyword
import re
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jinja2

from transeg.core.claims import check_new
from transeg.core.errors import UsageError
from transeg.core.evaluation.metrics.table import TABLE
from transeg.core.files import replacing
from transeg.core.manifest import CONTRACT
from transeg.core.registry import BUILTIN, MANIFEST, Registry

Kind = Literal["segmenter", "generator", "strategy", "loss", "dataset", "metric", "command"]
LICENCES = ("Apache-2.0", "MIT")
NAME = re.compile(r"[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?")


class WrittenPackage(NamedTuple):
    """What was written.

    Attributes:
        folder: of the package.
        manifest: the file that says what it offers.
        component: the name of what it offers.
    """

    folder: Path
    manifest: Path
    component: str


class _About(NamedTuple):
    """What stands in the files of a kind.

    Attributes:
        summary: of the component.
        use: a command that uses it.
        rows: further lines of its table in the manifest.
    """

    summary: str
    use: str
    rows: tuple[str, ...] = ()


ABOUT: dict[str, _About] = {
    "segmenter": _About("A U-Net of two levels", "toolkit run --segmenter {}", ("params = 12097",)),
    "generator": _About(
        "Unpaired translation by a small adversarial network",
        "toolkit run --generator {} --segmenter unet",
        ('paper = "arXiv:1611.04076"', "params = 12500"),
    ),
    "loss": _About("Mean power of the difference of probabilities", "toolkit run --segmenter unet --loss {}+dice"),
    "dataset": _About(
        "Images and masks of cases, as PNG",
        "toolkit run --segmenter unet --source {}:/data/mine",
        ('classes = ["background", "foreground"]',),
    ),
    "metric": _About(
        "Error of the area that is found, as a share of the true one",
        "toolkit evaluate runs/mine --metric {}",
        ("higher_is_better = false", 'shown = ["tests", "compare", "report"]'),
    ),
    "strategy": _About(
        "A segmenter at one learning rate, then at a lower one",
        "toolkit run --strategy {} --segmenter unet",
        (
            'needs = ["source", "segmenter"]',
            "",
            "[strategy.{}.defaults]",
            'loss = {{ name = "dice+bce" }}',
            'data = {{ size = 256, sampling = "shuffle" }}',
            "train = {{ iterations = 2000, batch_size = 4, lr = 1e-3 }}",
            'augmentation = {{ preset = "square" }}',
        ),
    ),
    "command": _About("Say which strategy trained each run in a folder.", "toolkit {} runs"),
}


def write_package(name: str, kind: Kind, folder: Path, *, licence: str, author: str) -> WrittenPackage:
    """Write a package, whole or not at all.

    Args:
        name: of the package, as pip knows it; its component has it, too.
        kind: of the component.
        folder: new or empty.
        licence: one of :data:`LICENCES`.
        author: whose it is; '' for nobody by name.

    Raises:
        UsageError: the name cannot be one, means something already, or the folder is not empty.
    """
    package, module = _names(name)
    _check_free(package, kind)
    check_new(folder, "holds no package of this command", "choose another folder with -o")
    camel = "".join(part.capitalize() for part in module.split("_"))
    file = "net" if kind in ("segmenter", "generator") else "implementation" if module == kind else kind
    about = ABOUT[kind]
    values = {
        "package": package,
        "module": module,
        "component": package,
        "name": module if kind in ("metric", "command") else camel,
        "file": file,
        "kind": kind,
        "contract": CONTRACT,
        "licence": licence,
        "author": author,
        "year": datetime.date.today().year,
        "summary": about.summary,
        "use": about.use.format(package),
        "rows": [row.format(package) for row in about.rows],
    }
    texts = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "readme.md",
        "LICENSE": licence,
        ".github/workflows/test.yml": "workflow.yml",
        f"{module}/__init__.py": "init.py",
        f"{module}/{MANIFEST}": "registry.toml",
        f"{module}/{file}.py": f"{kind}.py",
        "tests/test_contract.py": "contract_test.py",
    }
    with replacing(folder) as unfinished:
        for place, template in texts.items():
            path = unfinished / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_filled(template, values), encoding="utf-8")
    return WrittenPackage(folder, folder / module / MANIFEST, package)


def _filled(template: str, values: dict[str, Any]) -> str:
    text = files("transeg.tools.plugin").joinpath("templates", f"{template}.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(text).render(values)


def _names(name: str) -> tuple[str, str]:
    """A package's name as pip writes it, and that of the module that is imported.

    Raises:
        UsageError: it can be neither.
    """
    package = re.sub(r"[-_.]+", "-", name).lower()
    module = package.replace("-", "_")
    if not NAME.fullmatch(name) or keyword.iskeyword(module):
        raise UsageError(
            f"{name!r} cannot be the name of a package: take letters, digits and hyphens, a letter first: my-unet."
        )
    if module in sys.stdlib_module_names or _is_installed(module):
        raise UsageError(f"There is a package {module!r} already, which {name} would hide; choose another name.")
    return package, module


def _is_installed(module: str) -> bool:
    spec = find_spec(module)
    return spec is not None and spec.origin is not None  # a mere folder of that name here is none


def _check_free(name: str, kind: Kind) -> None:
    """Whether nothing built in has the name.

    Raises:
        UsageError: something has.
    """
    built_in = next(plugin for plugin in Registry().plugins if plugin.package == BUILTIN)
    taken = {component.name for component in built_in.components if component.kind == kind}
    taken |= {"metric": TABLE.keys(), "command": built_in.commands.keys()}.get(kind, set())
    if name in taken:
        raise UsageError(f"The {kind} {name!r} is built in; choose another name, which nothing else means.")
