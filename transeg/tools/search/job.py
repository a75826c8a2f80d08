"""What a job of a scheduler does for a search; it imports little, since the command that it runs imports all again."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from transeg.core.errors import TransegError

if TYPE_CHECKING:
    import submitit


@dataclass
class SearchWorker:
    """What a job does: the command that goes on with the search.

    Attributes:
        folder: of the search.
        files: manifests that were named.
        device: that it trains on.
        timeout: seconds after which it begins no trial; None for ever.
    """

    folder: Path
    files: list[Path]
    device: str
    timeout: float | None
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __call__(self) -> None:
        self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL)
        if code := self._process.wait():
            raise TransegError(f"toolkit search ended with {code}")

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit when the time of the job is almost up: its trial is interrupted, which queues that again,
        and so is a worker like this.
        """
        import submitit

        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        return submitit.helpers.DelayedSubmission(SearchWorker(self.folder, self.files, self.device, self.timeout))

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "transeg", "search", "--search-dir", str(self.folder), "--device", self.device]
        command += [] if self.timeout is None else ["--timeout", str(self.timeout)]
        command += [text for file in self.files for text in ("--registry", str(file))]
        bound = [sys.executable, "-m", "transeg.tools.common.child", str(os.getpid())]
        return [*bound, *command] if sys.platform == "linux" else command
