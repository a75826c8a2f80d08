"""Leaderboards as files that other programs and papers take: CSV and Markdown."""

from __future__ import annotations

import csv
import io
from typing import Any

from transeg.core.evaluation.metrics.table import TABLE, Rows, digits_of
from transeg.core.evaluation.numbers import format_interval, format_number, format_probability

COLUMNS = ("rank", "entry", "runs", "mean", "ci", "sd", "against", "difference", "difference_ci", "p", "p_holm")
"""Of a leaderboard's rows."""


def to_csv(boards: dict[str, Any]) -> str:
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


def to_markdown(boards: dict[str, Any], rows: Rows = TABLE) -> str:
    """A table for each test set and metric."""
    parts = []
    for label, board in boards["tests"].items():
        for metric, ranked in board["metrics"].items():
            parts += [f"### {_plain(label)}: {metric}, {ranked['images']} images", ""]
            parts += ["| rank | run | runs | mean [95 % CI] | sd | difference [95 % CI] | p | p (Holm) |"]
            parts += ["| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
            parts += [_line(row, digits_of(metric, rows)) for row in ranked["rows"]] + [""]
    return "\n".join(parts)


def _line(row: dict[str, Any], digits: int) -> str:
    cells = [
        str(row["rank"]),
        _plain(row["entry"]),
        str(row["runs"]),
        format_number(row["mean"], digits=digits) + format_interval(row["ci"], digits),
        format_number(row["sd"], digits=digits),
        format_number(row["difference"], "+", digits) + format_interval(row["difference_ci"], digits),
        format_probability(row["p"]),
        format_probability(row["p_holm"]),
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
