import copy
import json

import numpy as np
import pytest
import torch

from transeg.core.models.forward import segment
from transeg.core.models.weights import load_weights, map_keys

pytest.importorskip("nnunetv2")

from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.preprocessing.normalization import default_normalization_schemes as schemes
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from transeg.plugins.segmenters.nnunet import NnUNet

ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 4,
        "features_per_stage": [4, 8, 16, 16],
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3], [3, 3], [3, 3], [3, 3]],
        "strides": [[1, 1], [2, 2], [2, 2], [2, 1]],
        "n_conv_per_stage": [2, 2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
PLANNED = {
    "normalization_schemes": ["ZScoreNormalization"] * 2,
    "use_mask_for_norm": [False, False],
    "patch_size": [64, 32],
    "architecture": ARCHITECTURE,
}


def write_plans(folder, configuration=PLANNED, **more):
    path = folder / "plans.json"
    path.write_text(json.dumps({"configurations": {"2d": configuration, **more}}))
    return path


def changed(**values):
    return PLANNED | values


def rebuilt(**arguments):
    architecture = copy.deepcopy(ARCHITECTURE)
    architecture["arch_kwargs"] |= arguments
    return changed(architecture=architecture)


def tiny(**options):
    torch.manual_seed(0)
    return NnUNet(2, 3, base=4, stages=4, **options)


def test_weights_of_nnunet_give_its_numbers(tmp_path):
    torch.manual_seed(1)
    theirs = get_network_from_plans(
        ARCHITECTURE["network_class_name"],
        ARCHITECTURE["arch_kwargs"],
        ARCHITECTURE["_kw_requires_import"],
        2,
        3,
        deep_supervision=True,
    ).eval()
    torch.save({"network_weights": theirs.state_dict(), "current_epoch": 7}, tmp_path / "checkpoint_final.pth")
    ours = NnUNet(2, 3, plans=write_plans(tmp_path), aux=True).eval()
    load_weights(ours, tmp_path / "checkpoint_final.pth", ours.key_map, "segmenter", whole=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 32))
    scheme = schemes.ZScoreNormalization(False, {})
    normalized = torch.from_numpy(np.stack([scheme.run(channel) for channel in pixels]))[None]
    image = torch.from_numpy(pixels)[None].float() / 127.5 - 1
    with torch.inference_mode():
        expected = theirs(normalized)[0]
        assert (segment(ours, image)[0] - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize(
    ("normalization", "scheme"),
    [
        ("zscore", schemes.ZScoreNormalization),
        ("rescale_to_0_1", schemes.RescaleTo01Normalization),
        ("rgb_to_0_1", schemes.RGBTo01Normalization),
    ],
)
def test_images_are_normalised_as_nnunet_does(normalization, scheme):
    pixels = np.random.default_rng(0).integers(40, 200, (2, 16, 16))
    expected = np.stack([scheme(False, {}).run(channel) for channel in pixels])
    network = tiny(normalization=normalization)
    seen = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    segment(network, torch.from_numpy(pixels)[None].float() / 127.5 - 1)
    assert np.abs(seen[0][0].numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("normalization", ["zscore", "rescale_to_0_1"])
def test_an_empty_image_gives_finite_gradients(normalization):
    image = torch.zeros(1, 2, 16, 16, requires_grad=True)
    segment(tiny(normalization=normalization), image)[0].square().sum().backward()
    assert image.grad.isfinite().all()


@pytest.mark.parametrize(("patch", "stages"), [(128, 6), (256, 7), (512, 8)])
def test_the_defaults_are_what_the_planner_gives(patch, stages):
    _, strides, kernels, *_ = get_pool_and_conv_props((1.0, 1.0), (patch, patch), 4, 999999)
    assert len(strides) == stages
    network = NnUNet(1, 1, base=2, stages=stages)
    assert list(strides) == [tuple(stride) for stride in network.encoder.strides]
    assert set(kernels) == {(3, 3)}
    assert set(network.encoder.kernel_sizes) == {3}


def test_plans_may_inherit_and_be_of_an_old_form(tmp_path):
    path = write_plans(tmp_path, wide={"inherits_from": "2d", "normalization_schemes": ["RGBTo01Normalization"] * 2})
    network = NnUNet(2, 1, plans=path, configuration="wide")
    assert (network.mean, network.std) == ((0.0,), (1.0,))
    assert network.size_multiple == 16
    old = {
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "patch_size": [32, 32],
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "num_pool_per_axis": [2, 2],
        "pool_op_kernel_sizes": [[1, 1], [2, 2], [2, 2]],
        "conv_kernel_sizes": [[3, 3]] * 3,
    }
    with pytest.warns(UserWarning, match="old nnU-Net plans"):
        network = NnUNet(1, 1, plans=write_plans(tmp_path, old))
    assert list(network.encoder.output_channels) == [4, 8, 8]


@pytest.mark.parametrize(("configuration", "sentence"), [
    (rebuilt(conv_op="torch.nn.modules.conv.Conv3d"), "for volumes"),
    (rebuilt(nonlin="os.system"), "a layer 'os.system' that is not one of PyTorch's"),
    (rebuilt(nonlin="torch.nn.functional"), "not one of PyTorch's"),
    (rebuilt(depth=3), "the network of the plans cannot be built"),
    (changed(architecture=ARCHITECTURE | {"network_class_name": "a.Primus"}), "for the network Primus"),
    (changed(normalization_schemes=["CTNormalization"] * 2), "normalise by CTNormalization"),
    (changed(use_mask_for_norm=[True, True]), "within a mask"),
    pytest.param(
        {},
        "the configuration 2d of .* is incomplete",
        marks=pytest.mark.filterwarnings("ignore:Detected old nnU-Net plans"),
    ),
])  # fmt: skip
def test_plans_that_cannot_be_used_are_refused(tmp_path, configuration, sentence):
    with pytest.raises(ValueError, match=sentence):
        NnUNet(2, 1, plans=write_plans(tmp_path, configuration))


def test_files_that_are_no_plans_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no configuration '3d'; it has: 2d"):
        NnUNet(2, 1, plans=write_plans(tmp_path), configuration="3d")
    with pytest.raises(ValueError, match="cannot be read as nnU-Net's plans: FileNotFoundError"):
        NnUNet(2, 1, plans=tmp_path / "nothing.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError, match="cannot be read as nnU-Net's plans"):
        NnUNet(2, 1, plans=tmp_path / "list.json")
    with pytest.raises(ValueError, match="base must be at least 1 and stages at least 2, not 0 and 7"):
        NnUNet(2, 1, base=0)


@pytest.mark.parametrize("architecture", ["plain", "residual"])
@pytest.mark.parametrize("aux", [False, True])
def test_everything_learns_at_odd_sizes(architecture, aux):
    network = tiny(architecture=architecture, aux=aux).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    image = torch.rand(2, 2, 49, 35) * 2 - 1
    for _ in range(3):  # a residual block begins as nothing but its skip, so that its inner layers learn later
        optimizer.zero_grad()
        heads = segment(network, image)
        sum(head.square().mean() for head in heads).backward()
        optimizer.step()
    assert network.heads == len(heads) == (2 if aux else 1)
    assert all(head.shape == (2, 3, 49, 35) for head in heads)
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    with torch.inference_mode():
        assert len(segment(network.eval(), image)) == 1


def test_names_are_those_of_nnunet():
    keys = map_keys({"_orig_mod.encoder.a": torch.zeros(1), "decoder.encoder.a": torch.zeros(1)}, NnUNet.key_map)
    assert list(keys) == ["encoder.a"]
    assert not [name for name in tiny().state_dict() if name.startswith("decoder.encoder.")]
