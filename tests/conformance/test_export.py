"""Every segmenter leaves PyTorch: ONNX Runtime gives its numbers."""

import numpy as np
import pytest
import torch

from transeg.core.registry import Registry

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

REGISTRY = Registry()
COMPONENTS = [component for component in REGISTRY.components("segmenter") if component.status == "ok"]


@pytest.mark.slow
@pytest.mark.parametrize("component", COMPONENTS, ids=str)
def test_onnx_runtime_agrees(component, tmp_path):
    torch.manual_seed(0)
    network = REGISTRY.load(component)(3, 1).eval()
    side = max(64, network.size_multiple)
    image = torch.rand(1, 3, side, side)
    torch.onnx.export(network, (image,), tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for seed in (1, 2):
        image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))
        with torch.inference_mode():
            expected = network(image).numpy()
        (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
