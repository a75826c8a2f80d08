"""Weights as safetensors, which transeg and whoever has the network's code read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from transeg import __version__
from transeg.core.experiment.choices import Choice
from transeg.core.files import write_json
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.models.training_state import without_training_state


def write_tensors(network: nn.Module, path: Path) -> None:
    """The state dict of a network by its own names: no optimizer and no ``training_state``, nothing folded."""
    lasting = without_training_state(network.state_dict(), network)
    state = {key: value.detach().cpu().contiguous().clone() for key, value in lasting.items()}
    path.write_bytes(save(state, {"format": "pt", "transeg": __version__}))  # save_file makes it private


def write_config(trained: TrainedModel, part: str, path: Path) -> None:
    """What must be known beside the weights to build the network again."""
    choice = trained.experiment.segmenter if part == "segmenter" else trained.experiment.generator
    assert choice is not None
    domains = trained.domains
    config: dict[str, Any] = {
        "transeg": __version__,
        "kind": part,
        "name": choice.name,
        "options": portable_options(choice),
        "classes": list(domains.class_names),
        "source_channels": domains.source_channels,
        "target_channels": domains.target_channels,
    }
    if trained.experiment.segmenter is not None and part == "segmenter":
        config["num_classes"] = trained.experiment.segmenter.num_classes
    if trained.experiment.generator is not None and part == "generator":
        config["condition"] = trained.experiment.generator.condition
    write_json(path, config)


def portable_options(choice: Choice) -> dict[str, Any]:
    """A component's options without folders of the machine that it was trained on."""
    return {key: Path(value).name if _is_path(value) else value for key, value in choice.options.items()}


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, Path)) and Path(value).is_absolute()
