"""Leaderboards as files that other programs and papers take: CSV and Markdown."""

from __future__ import annotations

import csv
import io
from typing import Any

COLUMNS = ("rank", "entry", "runs", "mean", "ci", "sd", "against", "difference", "difference_ci", "p", "p_holm")
"""Of a leaderboard's rows."""


def as_csv(boards: dict[str, Any]) -> str:
    """One line for each test set, metric and entry; both ends of an interval have a column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = [end for column in COLUMNS for end in _ends(column)]
    writer.writerow(["test", "metric", "images", *head])
    for label, board in boards["tests"].items():
        for metric, ranked in board["metrics"].items():
            for row in ranked["rows"]:
                cells = [cell for column in COLUMNS for cell in _cells(column, row[column])]
                writer.writerow([label, metric, ranked["images"], *cells])
    return out.getvalue()


def as_markdown(boards: dict[str, Any]) -> str:
    """A table for each test set and metric."""
    parts = []
    for label, board in boards["tests"].items():
        for metric, ranked in board["metrics"].items():
            parts += [f"### {_plain(label)}: {metric}, {ranked['images']} images", ""]
            parts += ["| rank | run | runs | mean [95 % CI] | sd | difference [95 % CI] | p | p (Holm) |"]
            parts += ["| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
            parts += [_line(row) for row in ranked["rows"]] + [""]
    return "\n".join(parts)


def interval(mean: float | None, ends: list[float] | None, sign: str = "-") -> str:
    """``0.812 [0.790, 0.833]``; a dash where there is no number."""
    return "-" if mean is None else number(mean, sign) + (f" [{', '.join(map(number, ends))}]" if ends else "")


def number(value: float | None, sign: str = "-") -> str:
    """Three digits after the point; one for numbers of pixels."""
    return "-" if value is None else f"{value:{sign}.{3 if abs(value) < 10 else 1}f}"


def probability(p: float | None) -> str:
    """Three digits; what is less is said to be so."""
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def _line(row: dict[str, Any]) -> str:
    cells = [
        str(row["rank"]),
        _plain(row["entry"]),
        str(row["runs"]),
        interval(row["mean"], row["ci"]),
        number(row["sd"]),
        interval(row["difference"], row["difference_ci"], "+"),
        probability(row["p"]),
        probability(row["p_holm"]),
    ]
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def _ends(column: str) -> tuple[str, ...]:
    return (f"{column}_low", f"{column}_high") if column.endswith("ci") else (column,)


def _cells(column: str, value: Any) -> tuple[Any, ...]:
    if column.endswith("ci"):
        return tuple(value or ("", ""))
    return ("" if value is None else value,)
