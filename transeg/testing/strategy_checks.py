"""What every strategy must do."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any
from unittest import SkipTest

from transeg.core.component_options import check_options
from transeg.core.errors import UsageError
from transeg.core.experiment.completion import complete_experiment
from transeg.core.experiment.schema import Experiment
from transeg.core.interfaces import Strategy
from transeg.core.manifest import StrategyEntry
from transeg.testing.subject import ContractError, Subject

PHANTOM = {"name": "phantom", "count": 10, "side": 32}
WITHOUT_TORCH = """
import json, sys
from pathlib import Path
from transeg.core.registry import Registry
files, name, package = json.loads(sys.argv[1])
registry = Registry([Path(file) for file in files])
registry.load(registry.find("strategy", f"{package}:{name}"))
print(*sorted({"torch", "mmengine"} & set(sys.modules)))
"""


def _settings(subject: Subject) -> dict[str, Any]:
    """A tiny experiment with what the strategy needs, and labels where it takes any, on the phantom."""
    entry = subject.component.entry
    assert isinstance(entry, StrategyEntry)
    unmet = set(entry.needs) & {"pairs", "synthetic"}
    if unmet:
        raise SkipTest(f"it needs {' and '.join(sorted(unmet))}, which this check has no data for")
    name = f"{subject.component.package}:{subject.component.name}"
    data: dict[str, Any] = {"size": 32}
    if "source" in {*entry.needs, *entry.takes}:
        data["source"] = {**PHANTOM, "domain": "clean"}
    if "target" in entry.needs or "generator" in entry.needs:
        data["target"] = {**PHANTOM, "domain": "scope"}
    train = {"iterations": 2, "batch_size": 2, "val_interval": 2, "checkpoint_interval": 2}
    settings: dict[str, Any] = {"strategy": {"name": name, **subject.options}, "data": data, "train": train}
    if "generator" in entry.needs:
        settings["generator"] = {"name": "cut", "width": 4, "blocks": 5, "patches": 8}
    if "segmenter" in entry.needs:
        settings |= {"segmenter": {"name": "unet", "base": 4}, "loss": {"name": "dice"}}
    return settings


def _experiment(subject: Subject) -> Experiment:
    try:
        return complete_experiment(_settings(subject), subject.registry)
    except UsageError as error:
        defaults = f"[strategy.{subject.component.name}.defaults] in registry.toml"
        mend = f"Say what it was made for in {defaults}." if "is missing" in str(error) else "Mend what it declares."
        raise ContractError(f"{subject}: expected a tiny experiment to be planned, found: {error} {mend}") from error


def _built(subject: Subject) -> Strategy:
    cls = subject.load()
    strategy: Strategy = cls(**check_options(cls, dict(subject.options), "strategy"))
    return strategy


def strategy_is_known_without_torch(subject: Subject) -> None:
    """Its module can be imported without PyTorch: what a run is going to do is said before that."""
    component = subject.component
    said = json.dumps([[str(file) for file in subject.registry.files], component.name, component.package])
    line = [sys.executable, "-c", WITHOUT_TORCH, said]
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    subject.expect(
        result.returncode == 0,
        "a module that can be imported by itself",
        result.stderr.strip().rpartition("\n")[2],
        "Mend the import.",
    )
    subject.expect(
        not result.stdout.strip(),
        "a module that does not import PyTorch at its top",
        f"that it imports {result.stdout.strip()}",
        "Import it inside data(), validation() and task(), and what is for annotations under TYPE_CHECKING.",
    )


def strategy_declares_its_stages(subject: Subject) -> None:
    """Its stages are a pure function of the experiment, each needs earlier ones alone, and its result is theirs."""
    experiment = _experiment(subject)  # which plans the stages, and says what is wrong with them
    one, other = (_built(subject).stages(experiment) for _ in "12")
    subject.expect(one, "one stage at least", "none", "Return a list of Stage.")
    subject.expect(
        one == other,
        "the same stages each time",
        "others",
        "Let stages() depend on the experiment and the options alone.",
    )


def strategy_says_what_a_run_does(subject: Subject) -> None:
    """Its summary is a sentence without its full stop."""
    summary = _built(subject).summary(_experiment(subject))
    subject.expect(
        summary.strip() and not summary.endswith("."),
        "a summary, which the plan adds a full stop to",
        repr(summary),
        "Say in a sentence what a run does.",
    )


def strategy_trains(subject: Subject) -> None:
    """A run of two iterations in every stage ends with finite losses, and with a model that can be loaded."""
    from transeg.core.distributed.progress_bar import progress_console
    from transeg.core.experiment.request import complete_request
    from transeg.core.inference.trained_model import TrainedModel
    from transeg.core.pipeline.launch import launch, prepare
    from transeg.core.runs.run_folder import RunFolder

    entry = subject.component.entry
    _experiment(subject)
    settings = _settings(subject)
    if isinstance(entry, StrategyEntry) and entry.baseline:
        settings["baseline"] = "none"
    folder = subject.scratch() / "run"
    request = complete_request(settings, subject.registry, run_dir=folder, resume=False, dry_run=False)
    launch(prepare(request, subject.registry, dry_run=False), subject.registry, progress_console(False))
    lines = [json.loads(line) for path in folder.rglob("metrics.jsonl") for line in path.read_text().splitlines()]
    losses = [(n, v) for line in lines for n, v in line.items() if n.startswith("train/") and isinstance(v, float)]
    wild = sorted({name for name, value in losses if not math.isfinite(value)})
    subject.expect(
        losses and not wild, "finite losses in every stage", ", ".join(wild) or "none", "Look at its phases."
    )
    TrainedModel.load(RunFolder(folder), subject.registry, "cpu")


CHECKS = (
    strategy_is_known_without_torch,
    strategy_declares_its_stages,
    strategy_says_what_a_run_does,
    strategy_trains,
)
SLOW = (strategy_trains,)
