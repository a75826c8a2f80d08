"""Adds the sentences of errors to the site, for who searches it for what they were told: a hook of MkDocs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import transeg

PAGE = "reference/errors.md"
INTRODUCTION = """# Errors

The sentences of errors, by what they are about, as far as they stand in the code as a whole; those of wrong options
come from Click. CAPITALS stand for what was given: a file, a name, a number; an ellipsis for a part that depends on it.
What is behind some of them is said under [Troubleshooting](../troubleshooting.md)."""
TOPICS = {
    "Data": ("core/data", "plugins/datasets", "tools/data"),
    "Experiments and components": ("core", "plugins", "tools/plugin"),
    "Training": ("core/training", "core/distributed", "tools/run"),
    "Predicting and translating": ("core/api", "core/inference", "tools/predict", "tools/translate", "tools/export"),
    "Measuring": ("core/evaluation", "core/analysis", "tools/evaluate", "tools/measure", "tools/report"),
    "Many runs": ("tools/ladder", "tools/sweep", "tools/search", "tools/common"),
    "Other commands": ("",),
}
ERRORS = {"TransegError", "UsageError", "DataError", "InterruptedRunError", "LostProcessError"}
FEWEST_WORDS = 3
"""Shorter ones are passed on from elsewhere."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs once it has collected all pages."""
    files.append(File.generated(config, PAGE, content="\n\n".join([INTRODUCTION, *blocks()])))
    return files


def blocks() -> list[str]:
    """A title and a list of sentences for each topic."""
    found: dict[str, set[str]] = {topic: set() for topic in TOPICS}
    package = Path(transeg.__file__).parent
    for path in package.rglob("*.py"):
        found[topic_of(path.relative_to(package).with_suffix("").as_posix())] |= set(sentences(path))
    return [
        block
        for topic, texts in found.items()
        for block in (f"## {topic}", "\n".join(f"- `{text}`" for text in sorted(texts, key=str.casefold)))
    ]


def topic_of(module: str) -> str:
    """The topic whose folder lies nearest to a module."""

    def nearness(topic: str) -> int:
        return max((len(folder) for folder in TOPICS[topic] if f"{module}/".startswith(folder)), default=-1)

    return max(TOPICS, key=nearness)


def sentences(path: Path) -> Iterator[str]:
    """What errors of a module say, with placeholders."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[message, *_]) if name in ERRORS:
                text = " ".join(shown(message).split()).replace("`", "'")
                if sum(word.strip("….,;:").islower() for word in text.split()) >= FEWEST_WORDS:
                    yield text


def shown(node: ast.expr) -> str:
    """A part of a message as users read it, as far as it is known."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=parts):
            return "".join(map(shown, parts))
        case ast.FormattedValue(value=value):
            return shown(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return shown(left) + shown(right)
        case ast.IfExp(body=body):
            return shown(body)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.upper().strip("_")
    return "…"
