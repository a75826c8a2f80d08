"""Writes a page for each component, from the registry, the docstrings and results.toml.

Run it by `make docs`; tests/test_docs.py fails where the pages are older than what they are made of.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

from transeg.core.component_options import EMPTY, Option, component_description
from transeg.core.experiment.choices import options_of_kind
from transeg.core.manifest import Component, DatasetEntry, StrategyEntry
from transeg.core.registry import Registry
from transeg.tools.info import example

HERE = Path(__file__).parent
KINDS = {
    "generator": "Generators",
    "segmenter": "Segmenters",
    "loss": "Losses",
    "dataset": "Datasets",
    "strategy": "Strategies",
}
FOLDERS = {kind: title.lower() for kind, title in KINDS.items()}
NOTE = "<!-- written by docs/generate.py; change the docstring, registry.toml or results.toml instead -->"


def main(folder: Path) -> None:
    """Write all pages into a folder."""
    registry = Registry()
    results = tomllib.loads((HERE / "results.toml").read_text(encoding="utf-8"))
    for kind, title in KINDS.items():
        components = sorted((c for c in registry.components(kind) if c.package == "transeg"), key=lambda c: c.name)
        write(folder / FOLDERS[kind] / "README.md", index(title, components))
        for component in components:
            cls = registry.load(component)
            write(folder / FOLDERS[kind] / f"{component.name}.md", page(component, cls, results))


def write(path: Path, blocks: list[str]) -> None:
    """Write a page of blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join([NOTE, *blocks]) + "\n", encoding="utf-8")


def index(title: str, components: list[Component]) -> list[str]:
    """All components of a kind."""
    rows = [
        [f"[{c.name}]({c.name}.md)", c.entry.summary, f"{c.entry.params:,}" if c.entry.params else "", cite(c)]
        for c in components
    ]
    if any(c.entry.params for c in components):
        return [f"# {title}", table(["name", "what", "parameters", "paper"], rows)]
    return [f"# {title}", table(["name", "what", "paper"], [[row[0], row[1], row[3]] for row in rows])]


def page(component: Component, cls: type, results: dict[str, Any]) -> list[str]:
    """One component: what, why and when, options, numbers."""
    summary, *paragraphs = component_description(cls)
    facts = [f"`{component}`", cite(component)]
    if component.entry.params:
        facts.append(f"{component.entry.params:,} parameters at defaults")
    if isinstance(component.entry, DatasetEntry):
        facts += [text for text in (component.entry.licence, component.entry.url) if text]
    if isinstance(component.entry, StrategyEntry):
        facts.append(f"needs {', '.join(component.entry.needs)}")
    if component.entry.requires:
        facts.append(f"needs `pip install 'transeg[{component.entry.requires}]'`")
    blocks = [f"# {component.name}", summary, " · ".join(filter(None, facts)), *paragraphs]
    blocks += cost(str(component), results)
    blocks += ["```sh\n" + example(component, cls) + "\n```"]
    options = options_of_kind(cls, component.kind)
    if options:
        blocks += ["## Options", table(["option", "meaning", "default"], [row(option) for option in options])]
    return blocks + numbers(str(component), results)


def cost(component: str, results: dict[str, Any]) -> list[str]:
    """Time and memory, where they were measured."""
    found = results["cost"].get(component)
    return [f"Measured cost at its defaults: {found} (how: `benchmarks/README.md`)."] if found else []


def numbers(component: str, results: dict[str, Any]) -> list[str]:
    """Published and measured numbers side by side; none where there are none."""
    rows = [
        [r.get("setting", ""), r["data"], r["metric"], figure(r, "dice"), figure(r, "iou"), f"{what}: {r['source']}"]
        for what in ("published", "measured")
        for r in results.get(what, [])
        if r["component"] == component
    ]
    if not rows:
        return []
    return [
        "## Numbers",
        "Compare within one kind of Dice only ([which is which](../decisions/metrics.md)). Published numbers are "
        "quoted, not reproduced here. Measured ones have small budgets on a CPU: they say how fast something learns, "
        "not how far it gets.",
        table(["setting", "data", "Dice and IoU are", "Dice", "IoU", "what it is"], rows),
    ]


def figure(result: dict[str, Any], key: str) -> str:
    """A number with its interval, where it has one."""
    if key not in result:
        return ""
    interval = result.get(f"{key}_ci")
    return f"{result[key]:.4f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def row(option: Option) -> list[str]:
    """An option's line."""
    default = "required" if option.default is EMPTY else "" if option.default is None else f"`{option.default!r}`"
    return [f"`{option.name}`", option.help, default]


def cite(component: Component) -> str:
    """A link to the paper."""
    paper = component.entry.paper
    if paper.startswith("arXiv:"):
        return f"[{paper}](https://arxiv.org/abs/{paper.removeprefix('arXiv:')})"
    if paper.startswith("doi:"):
        return f"[{paper}](https://doi.org/{paper.removeprefix('doi:')})"
    return paper


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
