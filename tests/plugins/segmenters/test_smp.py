import json
from typing import get_args

import parity
import pytest
import torch
from conftest import TINY_DATA, TINY_TEST, TINY_TRAINING, command
from safetensors.torch import save_file

from transeg.core.models.forward import segment
from transeg.core.models.weights import map_keys, read_state_dict

published = pytest.importorskip("segmentation_models_pytorch")

from transeg.plugins.segmenters.smp import SMP, Decoder  # noqa: E402

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def learns(network, size=(65, 47)):
    """The names of parameters that ought to get a gradient and do not, after a step at an odd size."""
    heads = segment(network.train(), torch.rand(2, 3, *size) * 2 - 1)
    assert network.heads == len(heads)
    assert all(head.shape == (2, 1, *size) for head in heads)
    sum(head.square().mean() for head in heads).backward()
    return [name for name, p in network.named_parameters() if (p.grad is None) == p.requires_grad]


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_published_checkpoints_fit(prefix):
    keys = {f"{prefix}{k}": torch.zeros(shape) for k, shape in parity.read("keys_smp_unet_resnet18").items()}
    assert len(keys) == 182
    network = SMP(3, 2)
    network.load_state_dict(map_keys(keys, SMP.key_map), strict=True)
    assert sum(p.numel() for p in network.parameters()) == 14_328_354


@pytest.mark.parametrize("decoder", get_args(Decoder))
def test_every_decoder_is_the_package_s_own_to_the_bit(decoder):
    theirs = published.create_model(decoder, "resnet18", None, 3, 2)
    theirs.load_state_dict(parity.fill_state(theirs.state_dict()))
    ours = SMP(3, 2, decoder=decoder).eval()
    ours.load_state_dict(map_keys(theirs.state_dict(), SMP.key_map), strict=True)
    image = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        assert torch.equal(ours(image), theirs.eval()(image))


@pytest.mark.parametrize("decoder", get_args(Decoder))
def test_every_decoder_learns_at_odd_sizes(decoder):
    torch.manual_seed(0)
    network = SMP(3, 1, decoder=decoder, aux=True)
    assert not learns(network)
    with torch.inference_mode():
        assert segment(network.eval(), torch.rand(1, 3, 1, 40))[0].shape == (1, 1, 1, 40)


@pytest.mark.parametrize("encoder", ["mit_b0", "mobilenet_v2", "tu-convnext_atto", "tu-mobilenetv3_small_050"])
def test_encoders_of_all_families_learn(encoder):
    torch.manual_seed(0)
    assert not learns(SMP(3, 1, decoder="fpn", encoder=encoder))


def test_every_parameter_of_the_default_learns():
    assert all(p.requires_grad for p in SMP(3, 1).parameters())


def test_stages_that_pspnet_does_not_reach_are_kept_but_frozen():
    network = SMP(3, 1, decoder="pspnet")
    frozen = {name.rpartition(".layer")[2][0] for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"3", "4"}


def test_frozen_stages_stay_as_they_are_in_a_run(toolkit, tmp_path):
    settings = [*TINY_DATA, *TINY_TRAINING, *TINY_TEST, "segmenter.decoder=pspnet", "segmenter.aux=true"]
    toolkit(*command((["--segmenter", "smp"], settings), "--run-dir", tmp_path / "run"))
    trained = read_state_dict(tmp_path / "run" / "checkpoints" / "last.pt", "segmenter")
    torch.manual_seed(0)
    begun = SMP(3, 1, decoder="pspnet", aux=True)
    changed = {key: not torch.equal(trained[key], value) for key, value in begun.named_parameters()}
    assert not any(value for key, value in changed.items() if "layer3" in key or "layer4" in key)
    assert changed["encoder.conv1.weight"]


def test_auxiliary_heads_see_strides_8_and_16_in_training_alone():
    network = SMP(3, 1, aux=True)
    image = torch.rand(2, 3, 64, 96)
    assert [tuple(head.shape[2:]) for head in network.train()(image)] == [(64, 96), (8, 12), (4, 6)]
    assert [tuple(head.shape[2:]) for head in SMP(3, 1, decoder="pspnet", aux=True)(image)] == [(64, 96), (8, 12)]
    with torch.inference_mode():
        assert network.eval()(image).shape == (2, 1, 64, 96)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"decoder": "unett"}, "there is no decoder 'unett'; near are unet"),
        ({"encoder": "resnet19"}, "there is no encoder 'resnet19'; near are resnet18"),
        ({"encoder": "tu-convnext_tiy"}, "near are tu-convnext_tiny"),
        ({"pretrained": "imagnet"}, "resnet18 has no weights 'imagnet'; it has: imagenet, ssl, swsl"),
        ({"encoder": "tu-resnet10t", "pretrained": "a1"}, "it has: imagenet"),
        (
            {"decoder": "deeplabv3", "encoder": "densenet121"},
            "deeplabv3 does not fit the encoder densenet121: .*dilated",
        ),
        ({"encoder": "tu-swin_tiny_patch4_window7_224"}, "does not fit the encoder .*Input height"),
    ],
)
def test_what_cannot_be_is_refused_with_a_clause(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        SMP(3, 1, **options)


@pytest.mark.parametrize(
    ("encoder", "pretrained", "expected"),
    [
        ("resnet18", None, IMAGENET),
        ("resnet18", "swsl", IMAGENET),
        ("efficientnet-b0", "advprop", ((0.5,) * 3, (0.5,) * 3)),
        ("inceptionv4", None, ((0.5,) * 3, (0.5,) * 3)),
        ("dpn68", None, ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)),
        ("tu-vgg11", None, IMAGENET),
        ("tu-tf_efficientnet_b0.ap_in1k", None, ((0.5,) * 3, (0.5,) * 3)),
    ],
)
def test_images_are_normalised_as_the_weights_were(encoder, pretrained, expected):
    with torch.device("meta"):
        network = SMP(3, 1, encoder=encoder, pretrained=pretrained)
    assert (network.mean, network.std) == expected


class TestPretrained:
    @pytest.fixture
    def hub(self, monkeypatch, tmp_path):
        """A hub that holds one encoder, and counts what is asked of it."""
        encoder = published.encoders.get_encoder("resnet18", weights=None)
        encoder.load_state_dict(parity.fill_state(encoder.state_dict()))
        save_file(encoder.state_dict(), tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps({"mean": IMAGENET[0], "std": IMAGENET[1]}))
        asked = []

        def download(repo_id, filename, **_):
            asked.append(repo_id)
            return str(tmp_path / filename)

        monkeypatch.setattr(published.encoders, "hf_hub_download", download)
        return asked, encoder.state_dict()

    def test_weights_are_asked_for_when_a_training_begins(self, hub):
        asked, expected = hub
        network = SMP(3, 1, pretrained="imagenet")
        assert not asked
        network.load_pretrained()
        assert set(asked) == {"smp-hub/resnet18.imagenet"}
        assert all(torch.equal(network.encoder.state_dict()[key], value) for key, value in expected.items())

    def test_they_are_spread_over_other_channels(self, hub):
        network = SMP(1, 1, pretrained="imagenet")
        network.load_pretrained()
        published_sum = hub[1]["conv1.weight"].sum(1, keepdim=True)
        assert torch.allclose(network.encoder.state_dict()["conv1.weight"], published_sum)

    def test_nothing_is_asked_for_without_a_name(self, hub):
        SMP(3, 1).load_pretrained()
        assert not hub[0]

    def test_no_connection_is_a_clause(self, monkeypatch):
        def fail(*_, **__):
            raise OSError("no route to host\nand a long story")

        monkeypatch.setattr(published.encoders, "hf_hub_download", fail)
        network = SMP(3, 1, pretrained="imagenet")
        with pytest.raises(ValueError, match=r"not available \(.* takes a file .*\): no route to host$"):
            network.load_pretrained()
