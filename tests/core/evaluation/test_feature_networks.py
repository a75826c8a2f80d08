import pytest
import timm
import torch
from torchmetrics.functional.image.lpips import _LPIPS
from torchvision.models import alexnet

from transeg.core.errors import TransegError, UsageError
from transeg.core.evaluation.feature_networks import feature_network, perceptual_distance
from transeg.core.registry import Registry

CPU = torch.device("cpu")
REGISTRY = Registry()


def test_a_network_of_timm(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=5).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    features = feature_network(f"resnet18:{tmp_path / 'weights.pth'}", REGISTRY, CPU)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        theirs = network.forward_features(((images + 1) / 2 - mean) / std).mean((2, 3))
        assert torch.allclose(features(images), theirs, atol=1e-5)
        assert torch.allclose(features(images[:, :1]), features(images[:, :1].expand(-1, 3, -1, -1)))


def test_a_run(joint_run):
    features = feature_network(str(joint_run), REGISTRY, CPU)
    one, two = (torch.rand(2, 3, 32, 32) * 2 - 1 for _ in range(2))
    with torch.no_grad():
        assert features(one).shape == features(two).shape
        assert features(one).ndim == 2
        assert not torch.equal(features(one), features(two))
    with pytest.raises(UsageError, match="3 channels, not 1"):
        features(one[:, :1])


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ("resnet18", "weights are not downloaded"),
        ("resnet81:{}", "Did you mean"),
        ("resnet18:no.pth", "There is no file"),
    ],
)
def test_what_is_not_there(choice, text, tmp_path):
    (tmp_path / "x.pth").write_bytes(b"")
    with pytest.raises(UsageError, match=text):
        feature_network(choice.format(tmp_path / "x.pth"), REGISTRY, CPU)


def test_weights_of_another_network(tmp_path):
    torch.save(alexnet().state_dict(), tmp_path / "alexnet.pth")
    with pytest.raises(TransegError, match="fits nowhere"):
        feature_network(f"resnet18:{tmp_path / 'alexnet.pth'}", REGISTRY, CPU)


def test_inception_wants_its_own_weights(tmp_path):
    torch.save(alexnet().state_dict(), tmp_path / "alexnet.pth")
    with pytest.raises((TransegError, UsageError), match=r"weights of inception|transeg\[fidelity\]"):
        feature_network(f"inception:{tmp_path / 'alexnet.pth'}", REGISTRY, CPU)


def test_the_perceptual_distance(tmp_path):
    """Against its definition, on AlexNet's own layers: unit vectors, weighted squared differences."""
    torch.manual_seed(0)
    network = alexnet().eval()
    torch.save(network.state_dict(), tmp_path / "alexnet.pth")
    distance = perceptual_distance(tmp_path / "alexnet.pth", CPU)
    a, b = (torch.rand(1, 3, 64, 64) * 2 - 1 for _ in range(2))
    with torch.no_grad():
        assert distance(a, a).item() == 0
        found = distance(a, b).item()
        shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
        maps = [(image - shift) / scale for image in (a, b)]
        published = _LPIPS(pnet_rand=True)
        weights = iter([published.get_parameter(f"lin{stage}.model.1.weight") for stage in range(5)])
        total = 0.0
        for layer in network.features:
            maps = [layer(image) for image in maps]
            if isinstance(layer, torch.nn.ReLU):
                unit = [m / (m.square().sum(1, keepdim=True).sqrt() + 1e-10) for m in maps]
                total += (next(weights) * (unit[0] - unit[1]).square()).sum(1).mean().item()
        assert found == pytest.approx(total, rel=1e-4)
