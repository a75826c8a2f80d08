"""Where commands say what they do."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.logging import RichHandler

from transeg.core.distributed.ranks import rank_and_ranks


def talk() -> Console:
    """The console for everything but results; what the toolkit logs goes there, too."""
    console = Console(stderr=True, quiet=rank_and_ranks()[0] != 0)
    handler = RichHandler(console=console, show_time=False, show_path=False)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("transeg").handlers = [handler]
    return console
