"""A name means one thing: no two modules, and no two public classes or functions, share one without a reason."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import transeg

ROOT = Path(__file__).parents[1]

# Modules of one name, where that name means the same.
MODULES = {
    "datasets": "their contract, and how they are built",
    "distillation": "the losses on teachers, and the hook that prepares them",
    "ema": "moving averages, and the hook that updates them",
    "layers": "what several networks of one kind share",
    "losses": "their contract, and how they are summed",
    "networks": "networks, by name and as components define them",
    "nnunet": "nnU-Net's layout of datasets, and its network",
    "stain": "what is done to H&E images as they are read, and as a translation",
    "timings": "where the seconds of a run go, and the hook that notes it",
}

# Classes and functions of one name, where that name means the same.
DEFINITIONS = {
    "PatchDiscriminator": "a PatchGAN, as each generator's paper has it",
    "to_float32": "plugins do not import the models' tools",
}


def modules() -> list[Path]:
    return sorted(path for path in (ROOT / "transeg").rglob("*.py"))


def is_public_name(path: Path, name: str) -> bool:
    """What `import transeg` offers has the names that users guess, and what it stands for may have them, too."""
    return ROOT / "transeg" / "core" / "api" in path.parents and name in transeg.__all__


def is_command(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Commands have the name that users write, and what they do may have it, too."""
    calls = [decorator.func for decorator in node.decorator_list if isinstance(decorator, ast.Call)]
    return any(isinstance(call, ast.Attribute) and call.attr in ("command", "group") for call in calls)


def definitions(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not is_command(node):
            yield node.name


def recurring(places: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: where for name, where in places.items() if len(where) > 1}


def test_modules_of_one_name_mean_the_same() -> None:
    places = defaultdict(list)
    for path in modules():
        if path.stem not in ("__init__", "__main__", "command"):
            places[path.stem].append(str(path.relative_to(ROOT)))
    found = recurring(places)
    assert {name: where for name, where in found.items() if name not in MODULES} == {}


def test_classes_and_functions_of_one_name_mean_the_same() -> None:
    places = defaultdict(list)
    for path in modules():
        for name in definitions(path):
            if not name.startswith("_") and not is_public_name(path, name):
                places[name].append(str(path.relative_to(ROOT)))
    found = recurring(places)
    assert {name: where for name, where in found.items() if name not in DEFINITIONS} == {}
