"""The folder of a training by nnU-Net: what goes in, what comes out, and its logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transeg.core.claims import read_note
from transeg.core.device import available_cores
from transeg.core.errors import TransegError, UsageError
from transeg.core.files import write_json
from transeg.tools.common.child import bound_to_this_process

NUMBER = 1
"""Of the only dataset in such a folder."""
PLANS = {
    "ExperimentPlanner": "nnUNetPlans",
    "nnUNetPlannerResEncM": "nnUNetResEncUNetMPlans",
    "nnUNetPlannerResEncL": "nnUNetResEncUNetLPlans",
    "nnUNetPlannerResEncXL": "nnUNetResEncUNetXLPlans",
}
"""nnU-Net's planners, and what their plans are called."""


class Workspace:
    """nnU-Net's three folders below one of ours; nothing is written elsewhere.

    Args:
        path: the folder, which need not exist.
        name: of its dataset.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        dataset = f"Dataset{NUMBER:03d}_{name}"
        self.raw = path / "nnUNet_raw" / dataset
        self.preprocessed = path / "nnUNet_preprocessed" / dataset
        self.results = path / "nnUNet_results" / dataset
        self.record = path / "transeg.json"
        self.prepared = self.preprocessed / "prepared.json"
        self.splits = self.preprocessed / "splits_final.json"

    def claim(self, holds: dict[str, Any]) -> None:
        """Note what the folder holds, unless it says so already.

        Raises:
            UsageError: it holds something else.
        """
        found = read_note(self.record, "training")
        if found and found != holds:
            raise UsageError(
                f"{self.path} holds a training on {found['dataset']} with other data or options; choose another "
                "folder with --out."
            )
        if not found:
            write_json(self.record, holds)

    def run(self, task: str, log: str, gpu: str, follow: Callable[[str], None], **arguments: Any) -> None:
        """Let a process of its own do a task of :mod:`transeg.tools.nnunet.stages`.

        Args:
            task: its name.
            log: name of the file that gets what nnU-Net prints.
            gpu: number of the only one that the process sees; '' for all.
            follow: is given each line of that.
            **arguments: of the task.

        Raises:
            TransegError: it failed.
        """
        file = self.path / "logs" / f"{log}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        line = [sys.executable, "-m", "transeg.tools.nnunet.stages", task, json.dumps(arguments)]
        last = "no word"
        with (
            file.open("a", encoding="utf-8") as out,
            subprocess.Popen(
                bound_to_this_process(line),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=self._environment(gpu),
            ) as process,
        ):
            assert process.stdout is not None
            for text in process.stdout:
                out.write(text)
                out.flush()
                follow(text)
                last = text.strip() or last
        if process.returncode:
            raise TransegError(f"nnU-Net failed: {last.rstrip('.')}. What it said before is in {file}.")

    def _environment(self, gpu: str) -> dict[str, str]:
        places = {
            place.parent.name: str(place.parent.resolve()) for place in (self.raw, self.preprocessed, self.results)
        }
        processes = str(min(8, available_cores()))
        only = {"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}
        return {"nnUNet_def_n_proc": processes, **os.environ, **places, **only, "PYTHONUNBUFFERED": "1"}
