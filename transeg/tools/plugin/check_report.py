"""Runs the checks of plugins, and says what they found."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from unittest import SkipTest

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.testing import Check, ContractError

COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Attributes:
        check: which.
        state: skipped where it could not look.
        sentence: what to mend, or why it could not look; '' where it passed.
    """

    check: Check
    state: Literal["passed", "failed", "skipped"]
    sentence: str = ""


def run_checks(checks: Sequence[Check], advance: Callable[[], None]) -> list[Outcome]:
    """Run checks one by one; what components print meanwhile goes to standard error.

    Args:
        checks: any.
        advance: called after each.
    """
    outcomes = []
    for check in checks:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcomes.append(_outcome(check))
        advance()
    return outcomes


def _outcome(check: Check) -> Outcome:
    try:
        check()
    except SkipTest as reason:
        return Outcome(check, "skipped", str(reason))
    except ContractError as fault:
        return Outcome(check, "failed", str(fault))
    return Outcome(check, "passed")


def as_document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What `--json` says: counts, and each check with its outcome."""
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in COLOURS}
    rows = [
        {
            "package": outcome.check.subject.component.package,
            "component": str(outcome.check.subject.component),
            "check": outcome.check.name,
            "about": outcome.check.about,
            "state": outcome.state,
            "sentence": outcome.sentence,
        }
        for outcome in outcomes
    ]
    return {**counts, "checks": rows}


def show_outcomes(outcomes: Sequence[Outcome], console: Console) -> None:
    """A line for each component, then what to mend, and what could not be looked at."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("component", style="cyan", overflow="fold")
    table.add_column("plugin", overflow="fold")
    for state in COLOURS:
        table.add_column(state, justify="right")
    of: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        component = outcome.check.subject.component
        of.setdefault((str(component), component.package), []).append(outcome.state)
    for (name, package), states in of.items():
        cells = [states.count(state) for state in COLOURS]
        shown = [f"[{COLOURS[s]}]{n}[/]" if n else "-" for s, n in zip(COLOURS, cells, strict=True)]
        table.add_row(escape(name), escape(package), *shown)
    console.print(table)
    for outcome in outcomes:
        if outcome.state != "passed":
            colour, name = COLOURS[outcome.state], outcome.check.name
            about = "" if outcome.state == "failed" else f"{outcome.check.subject.component}: "
            console.print(
                f"\n[{colour}]{outcome.state}[/] {name}\n  {escape(about + outcome.sentence)}", highlight=False
            )
