"""What was understood of a dataset, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.core.evaluation.numbers import pluralise

SHOWN = 6
"""Of many values, as many at either end."""
LISTED = 40
"""Faults that are printed."""


def show_certificate(report: Mapping[str, Any], console: Console) -> None:
    """What was found in a dataset, what was not read, and what is wrong."""
    for name, domain in report["domains"].items():
        columns = {part: domain["splits"].get(part, {}) for part in report["splits"][name]}
        if "none" in domain["splits"]:
            columns["in no split"] = domain["splits"]["none"]
        console.print(_table(name, columns))
        if domain["mask_values"]:
            console.print(f"[dim]stored values[/]  {_shares(domain['mask_values'])}", highlight=False)
    _show_unread(report["not_read"], console)
    for fault in report["faults"][:LISTED]:
        console.print(f"[red]fault[/]  {escape(fault['reason'])}", highlight=False, soft_wrap=True)
    if len(report["faults"]) > LISTED:
        console.print(f"... and {len(report['faults']) - LISTED} more; --json lists all.", highlight=False)
    found = pluralise(len(report["faults"]), "fault") if report["faults"] else "no fault"
    console.print(f"{pluralise(report['images'], 'image')}, {found}.", highlight=False)


def show_gap(gap: Mapping[str, Any], console: Console) -> None:
    """Two domains side by side, and what their differences mean."""
    console.print(_table("", {"source": gap["source"], "target": gap["target"]}))
    for sentence in gap["differences"]:
        console.print(f"[yellow]differs[/]  {escape(sentence)}", highlight=False)
    if not gap["differences"]:
        console.print("Nothing was found by which an unpaired generator would be misled.", highlight=False)


def _table(name: str, columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """A column for each set of images, a row for each fact that one of them has."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(escape(name), style="dim")
    for title in columns:
        table.add_column(title, justify="right")
    rows = {
        "images": [str(facts.get("images", 0)) for facts in columns.values()],
        "labelled": [str(facts.get("masks", 0)) for facts in columns.values()],
    }
    facts_shown: list[tuple[str, str | tuple[str, str], Any]] = [
        ("groups", "groups", str),
        ("sizes", "sizes", _commonest),
        ("pixel type", "types", _commonest),
        ("intensities", "intensities", _ranges),
        ("mean, deviation", "mean", None),
        ("pixel size, um", "pixel_sizes", _commonest),
        *_class_rows(columns),
        ("unknown", "unknown", _percent),
        ("empty", "empty", str),
        ("full", "full", str),
        ("objects in each", "objects", _median if len(columns) > 2 else _quantiles),
        ("pixels of each", "object_area", _median if len(columns) > 2 else _quantiles),
    ]
    for label, key, shown in facts_shown:
        cells = [_cell(facts, key, shown) for facts in columns.values()]
        if any(cells) and not (label in ("unknown", "full") and set(cells) <= {"", "0", "0%"}):
            rows[label] = cells
    for label, cells in rows.items():
        table.add_row(escape(label), *cells)
    return table


def _class_rows(columns: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str | tuple[str, str], Any]]:
    names = dict.fromkeys(name for facts in columns.values() for name in facts.get("classes", {}))
    return [(name, ("classes", name), _percent) for name in names]


def _cell(facts: Mapping[str, Any], key: str | tuple[str, str], shown: Any) -> str:
    if key == "mean":
        return f"{facts['mean']:.2f}, {facts['deviation']:.2f}" if "mean" in facts else ""
    value = facts.get(key) if isinstance(key, str) else facts.get(key[0], {}).get(key[1])
    return "" if value is None or value == {} else str(shown(value))


def _commonest(counts: Mapping[str, int]) -> str:
    """The commonest value, and how many others there are."""
    first, *others = counts
    return first + (f" and {len(others)} more" if others else "")


def _ranges(ranges: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(f"{least:g} to {most:g}" for least, most in ranges.values())


def _quantiles(numbers: Sequence[float]) -> str:
    """The median, and between which most are."""
    low, middle, high = numbers
    return f"{middle:,.0f}" if low == high else f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def _median(numbers: Sequence[float]) -> str:
    return f"{numbers[1]:,.0f}"


def _percent(share: float) -> str:
    return "0%" if not share else "<0.1%" if share < 0.001 else f"{share:.1%}"


def _shares(values: Mapping[str, float]) -> str:
    """Values and how much of the masks they take; of many, those at the ends."""
    if len(values) <= 2 * SHOWN:
        return ", ".join(f"{value} ({_percent(share)})" for value, share in values.items())
    names = list(values)
    return f"{len(names)} values: {', '.join(names[:SHOWN])}, ..., {', '.join(names[-SHOWN:])}"


def _show_unread(unread: Sequence[Mapping[str, Any]], console: Console) -> None:
    """How many files are not read for what reason, with an example of each; ``--json`` has all folders."""
    by_reason: dict[str, list[Mapping[str, Any]]] = {}
    for row in unread:
        by_reason.setdefault(row["reason"], []).append(row)
    for reason, rows in by_reason.items():
        first = rows[0]
        place = "" if first["folder"] == "." else f"{first['folder']}/"
        console.print(
            f"[dim]not read[/]  {pluralise(sum(row['count'] for row in rows), 'file')} ({escape(reason)}), such as "
            f"{escape(place + first['example'])}",
            highlight=False,
            soft_wrap=True,
        )
