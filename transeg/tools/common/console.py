"""Where commands say what they do."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.logging import RichHandler

from transeg.core.distributed.ranks import launched_rank_and_world_size


def stderr_console() -> Console:
    """The console for everything but results; what the toolkit logs goes there, too."""
    console = Console(stderr=True, quiet=launched_rank_and_world_size()[0] != 0)
    handler = RichHandler(console=console, show_time=False, show_path=False)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("transeg").handlers = [handler]
    return console
