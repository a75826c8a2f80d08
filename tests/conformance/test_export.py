"""Every segmenter and generator leaves PyTorch, for images of any size and number."""

import pytest
import torch

from transeg.core.component_options import options
from transeg.core.inference.conditioning import Conditioning
from transeg.core.models.forward import segment
from transeg.core.models.fusion import fold_batch_norms
from transeg.core.registry import Registry
from transeg.tools.export.check import TOLERANCE
from transeg.tools.export.draws import record_draws
from transeg.tools.export.formats import FILES, GraphWriter, open_graph
from transeg.tools.export.graph import Graph, SegmentationGraph, TranslationGraph

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

REGISTRY = Registry()
SEGMENTERS = [component for component in REGISTRY.components("segmenter") if component.status == "ok"]
GENERATORS = [component for component in REGISTRY.components("generator") if component.status == "ok"]
SMALL = {
    "ducknet": {"filters": 4},
    "unet": {"base": 4},
    "unetpp": {"base": 4},
    "nnunet": {"base": 4},
    "cut": {"width": 4, "blocks": 5, "patches": 8},
    "cyclegan": {"width": 4, "blocks": 1},
    "pix2pix": {"width": 4, "depth": 4, "noise": False},
    "syndiff": {
        "preset": "small",
        "width": 4,
        "multipliers": (1, 1),
        "discriminator_width": 4,
        "translator_width": 4,
        "translator_blocks": 1,
    },
}
"""Options that make a network small, by name; others are exported as they are."""
SIZES = [(1, 64, 64), (3, 70, 45), (2, 33, 101)]
FAST = pytest.param("torchscript", id="torchscript")
FORMS = [FAST, *(pytest.param(form, marks=pytest.mark.slow, id=form) for form in FILES if form != "torchscript")]


def network(component):
    torch.manual_seed(0)
    cls, channels = REGISTRY.load(component), (3, 1 if component.kind == "segmenter" else 3)
    wanted = {key: value for key, value in SMALL.get(component.name, {}).items() if key in options(cls)}
    return cls(*channels, **wanted).eval()


def check(graph, form, folder, reference):
    graph.eval()
    path = folder / FILES[form]
    GraphWriter(graph).write(form, path)
    run = open_graph(form, path, graph.inputs)
    for count, height, width in SIZES:
        image = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))
        inputs = image, *graph.draws.of(torch.arange(count), height, width)
        with torch.inference_mode():
            expected, found = reference(*inputs), run(inputs)
        assert found.shape == expected.shape
        # norms of single images over the few pixels of a deepest stage make rounding larger: 2e-4 in nnunet
        assert (found - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("component", SEGMENTERS, ids=str)
def test_segmenters_at_any_size(component, form, tmp_path):
    segmenter = network(component)
    graph = Graph(None, SegmentationGraph(fold_batch_norms(segmenter, 3), 3, sigmoid=True), 3)
    check(graph, form, tmp_path, lambda image: segment(segmenter, image * 2 - 1)[0].sigmoid())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("component", GENERATORS, ids=str)
def test_generators_at_any_size(component, form, tmp_path):
    generator = network(component)
    direction = generator.directions[-1]
    graph = Graph(
        TranslationGraph(generator, direction, Conditioning("image", 2, 3), record_draws(generator, 3, direction)),
        None,
        3,
    )
    check(graph, form, tmp_path, lambda *inputs: graph(*inputs))
