"""Templates into a page that needs no other file, and the page into a file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from transeg import __version__
from transeg.core.errors import UsageError
from transeg.core.evaluation import numbers
from transeg.core.files import probe, sweep_unfinished, write_text
from transeg.tools.common.anonymity import Anonymity

HERE = Path(__file__).parent
MARK = '<meta name="generator" content="transeg'
"""What every report has near its beginning, so that no other file is overwritten by one."""


def render(template: str, hidden: Anonymity | None, **context: Any) -> str:
    """A page from one of the templates beside this file; whatever is not markup is escaped.

    Args:
        template: name of the file.
        hidden: takes paths of this machine out of what is told; None where they may stay.
        context: what the template names.
    """
    script = (HERE / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (HERE / "style.css").read_text(encoding="utf-8")
    told: Callable[[object], str] = str if hidden is None else lambda text: hidden.text(str(text))
    own = {"version": __version__, "script": script, "digest": digest, "style": style, "told": told}
    made = _templates().get_template(template).render(**own, **context)
    return made if hidden is None else hidden.page(made)


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": format_value, "ends": format_bounds, "duration": format_duration}
    templates.filters |= {"percent": format_percent, "probability": format_p}
    return templates


def format_value(value: float | None, digits: int = 3) -> str:
    """A measured value, with the dash and the minus of a printed page."""
    text = numbers.format_number(value, "z", digits)
    return "\N{EN DASH}" if text == "-" else text.replace("-", "\N{MINUS SIGN}")


def format_bounds(interval: tuple[float, float] | None, digits: int = 2) -> str:
    """A 95 % interval; nothing for none."""
    return numbers.format_interval(interval, digits, "z").lstrip().replace("-", "\N{MINUS SIGN}")


def format_percent(share: float | None) -> str:
    """A share in percent; the dash for none."""
    return "\N{EN DASH}" if share is None else f"{share:z.0%}".replace("-", "\N{MINUS SIGN}")


def format_p(p: float | None) -> str:
    """Three digits; what is less is said to be so, and the dash is for none."""
    return "\N{EN DASH}" if p is None else numbers.format_probability(p).replace("<", "< ")


def format_duration(seconds: float) -> str:
    """``1 h 02 min``, ``3 min 05 s`` or ``4.2 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def check_writable(path: Path) -> None:
    """Whether a report can be written there, over an older one, but over nothing else: asked before the work is done.

    Raises:
        UsageError: it may not.
    """
    if path.is_dir():
        raise UsageError(f"-o {path} is a folder; name a file in it, such as {path / 'report.html'}.")
    if path.exists() and MARK not in _beginning(path):
        raise UsageError(f"-o {path} is there already and is not a report of transeg; name another file.")
    try:
        probe(path.parent)
    except OSError as error:
        raise UsageError(f"-o {path} cannot be written: {error.strerror}; name another file.") from error


def _beginning(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(2000)
    except OSError as error:
        raise UsageError(f"-o {path} cannot be read: {error.strerror}; name another file.") from error


def write_page(path: Path, page: str) -> None:
    """Write a page whole or not at all.

    Raises:
        TransegError: it cannot be written.
    """
    sweep_unfinished(path.parent, deep=False)
    write_text(path, page)
