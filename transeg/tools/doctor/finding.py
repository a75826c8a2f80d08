"""What a check of the doctor says."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The outcome of a check.

    Attributes:
        name: what was looked at.
        state: ``ok``; ``note``: worth knowing, runs go on; ``fault``: something installed or set here does not work.
        found: what is so, in sentences.
        advice: what to do about it; '' where there is nothing to do.
    """

    name: str
    state: Literal["ok", "note", "fault"]
    found: str
    advice: str = ""


def without_user(finding: Finding) -> Finding:
    """The same for others to read: the home folder is ``~``, and a folder with the user's name is ``USER``."""
    return replace(finding, found=_without_user(finding.found), advice=_without_user(finding.advice))


def _without_user(text: str) -> str:
    for home in {str(Path.home().resolve()), str(Path.home())}:
        if len(Path(home).parts) > 1:
            text = re.sub(rf"{re.escape(home)}(?![\w.-]*\w)", "~", text)
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return text
    return re.sub(rf"([/\\]){re.escape(user)}(?![\w.-]*\w)", r"\1USER", text)


def in_gib(size: float) -> str:
    """Bytes as people read them."""
    return f"{size / 2**30:.1f} GiB"


def first_line(error: Exception) -> str:
    """The beginning of what an error says, as a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".") + "."
