"""What a program must do before and after an exported graph, for people who do not read our code."""

from __future__ import annotations

from typing import Any

from transeg import __version__
from transeg.core.inference.pixel_size import scale_reference
from transeg.core.inference.sliding_window import OVERLAP
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import Translator
from transeg.tools.export.graph import Graph

COLOURS = {1: ["grey"], 3: ["red", "green", "blue"]}


def describe_graph(trained: TrainedModel, translator: Translator | None, graph: Graph) -> dict[str, Any]:
    """What ``preprocessing.json`` holds: how an image becomes the input, and the output a mask or an image.

    Args:
        trained: the run whose segmenter, or whose generator alone, is in the graph.
        translator: what sees the image first.
        graph: what leaves PyTorch.
    """
    first = trained if translator is None else translator.trained
    inference = first.inference()
    scale = scale_reference(first.experiment, translator)
    stain = first.experiment.data.stain
    size = None if inference.window or inference.size is None else inference.size
    return {
        "transeg": __version__,
        "part": graph.part,
        "inputs": _inputs(graph, first),
        "before": {
            "pixel_size_um": scale.pixel_size,
            "rescale": scale.rescale,
            "stain": None if stain is None else {"method": stain.method, "reference": stain.reference.name},
            "resize": None if size is None else {"height": size, "width": size, "keep_aspect": False, **_how(graph)},
            "tiles": {"size": inference.window, "overlap": OVERLAP} if inference.window else None,
        },
        "inside": _inside(trained, translator, graph),
        "output": _output(trained, translator, graph),
        "behind": _behind(graph, inference.window),
    }


def _how(graph: Graph) -> dict[str, str]:
    if graph.by_mask:
        return {"shrinking": "nearest", "growing": "nearest"}
    return {"shrinking": "area mean", "growing": "bilinear"}


def _inputs(graph: Graph, first: TrainedModel) -> list[dict[str, Any]]:
    if graph.by_mask:
        shape: list[Any] = ["batch", "height", "width"]
        inputs: list[dict[str, Any]] = [
            {"name": "labels", "type": "int64", "shape": shape, "values": dict(enumerate(first.domains.class_names))}
        ]
    else:
        shape = ["batch", graph.channels, "height", "width"]
        inputs = [
            {
                "name": "image",
                "type": "float32",
                "shape": shape,
                "channels": COLOURS.get(graph.channels, [str(number) for number in range(graph.channels)]),
                "range": [0, 1],
                "means": "8-bit values divided by 255, 16-bit values by 65535; any height and width",
            }
        ]
    for name, length in graph.draws.inputs.items():
        inputs.append(
            {
                "name": name,
                "type": "float32",
                "shape": ["batch", length, "height", "width"] if name == "noise" else ["batch", length],
                "means": "draws of a standard normal distribution; equal draws give equal images, and tiles of one "
                "image should share them where they overlap"
                if name == "noise"
                else "draws of a standard normal distribution, the same for all tiles of an image",
            }
        )
    return inputs


def _inside(trained: TrainedModel, translator: Translator | None, graph: Graph) -> list[str]:
    """What the graph does, in order."""
    steps = ["one channel for each class"] if graph.by_mask else ["intensities scaled to what the network knows"]
    if translator is not None and translator.trained.experiment.generator is not None:
        direction = translator.direction or "source-to-target"
        steps.append(f"translation by {translator.trained.experiment.generator.name}, {direction}")
    if graph.segmenting is not None and trained.experiment.segmenter is not None:
        steps.append(f"segmentation by {trained.experiment.segmenter.name}")
        steps.append("sigmoid" if graph.segmenting.sigmoid else "softmax")
    return [*steps, "height and width padded to what the networks need, by their last rows and columns, and cut back"]


def _output(trained: TrainedModel, translator: Translator | None, graph: Graph) -> dict[str, Any]:
    if graph.segmenting is None:
        assert translator is not None
        channels = COLOURS.get(translator.makes, [str(number) for number in range(translator.makes)])
        means = "the translated image"
        threshold = None
    else:
        names = list(trained.domains.class_names)
        channels = names[1:] if graph.segmenting.sigmoid else names
        threshold = 0.5 if graph.segmenting.sigmoid else None
        means = (
            f"probability of {names[1]}, which is where it is above the threshold"
            if graph.segmenting.sigmoid
            else "probability of each class; a pixel's class is the most probable one"
        )
    shape = ["batch", len(channels), "height", "width"]
    return {
        "name": graph.output,
        "type": "float32",
        "shape": shape,
        "channels": channels,
        "range": [0, 1],
        "means": means,
        "threshold": threshold,
    }


def _behind(graph: Graph, window: int) -> list[str]:
    steps = []
    if window:
        steps.append("blend tiles by weights that fall towards their borders, a Gaussian of an eighth of a tile")
    steps.append("resize to the image's own height and width, bilinear, half-pixel centres")
    if graph.segmenting is not None:
        steps.append("threshold" if graph.segmenting.sigmoid else "take the most probable class")
    return steps
