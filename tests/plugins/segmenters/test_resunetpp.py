import parity
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from transeg.core.models.fusion import fold_batch_norms
from transeg.core.models.weights import map_keys
from transeg.plugins.segmenters.resunetpp import ResUNetPP

REFERENCE = parity.read("segmenters")["models"]
VARIANTS = ["zh320", "paper"]


def image():
    return torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def test_zh320s_network_gives_the_reference_numbers():
    network = parity.fill(ResUNetPP(3, 2)).eval()
    with torch.inference_mode():
        assert parity.deviation(network(image()), REFERENCE["resunetpp"][0]) < 1e-4


def test_the_authors_network_gives_the_reference_numbers():
    """Filled by the published keys, which pass through the key map."""
    shapes = parity.read("keys_resunetpp_debeshjha")
    published = parity.fill_state({key: torch.zeros(shape) for key, shape in shapes.items()})
    network = ResUNetPP(3, 1, variant="paper").eval()
    network.load_state_dict(map_keys(published, ResUNetPP.key_map), strict=True)
    with torch.inference_mode():
        assert parity.deviation(network(image()), REFERENCE["resunetpp_debeshjha"][0]) < 1e-4


@pytest.mark.parametrize("size", [(96, 64), (90, 67)])
def test_places_that_attention_leaves_out_are_not_computed_where_it_is_folded(size):
    """Where sizes are even; what is left is the same. Unfolded, all layers give what they gave in the training."""
    network = parity.fill(ResUNetPP(3, 1)).eval()
    folded = fold_batch_norms(network, 3)
    pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    macs = []
    for each in (network, folded):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            logits = each(pixels)
        macs.append((counter.get_total_flops(), logits))
    (all_places, expected), (left, found) = macs
    assert (left < all_places) == (size == (96, 64))
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


def test_published_checkpoints_fit():
    published = {f"module.{k}": torch.zeros(shape) for k, shape in parity.read("keys_resunetpp").items()}
    ResUNetPP(3, 2).load_state_dict(map_keys(published, ResUNetPP.key_map), strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_key_map_leaves_our_own_checkpoints_alone(variant):
    state = ResUNetPP(3, 1, variant=variant).state_dict()
    assert list(map_keys(state, ResUNetPP.key_map)) == list(state)


def test_zh320s_parts_have_the_published_sizes():
    with torch.device("meta"):
        network = ResUNetPP(3, 2)
    assert {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()} == {
        "encoding_block1": 10_530,
        "encoding_block2": 58_308,
        "encoding_block3": 232_328,
        "encoding_block4": 919_040,
        "aspp": 1_071_614,
        "decoding_block3": 1_083_778,
        "decoding_block2": 382_978,
        "decoding_block1": 152_386,
        "seg_head": 15_932,
        "aux_heads": 0,
    }


def test_the_authors_parts_have_the_published_sizes():
    with torch.device("meta"):
        network = ResUNetPP(3, 1, variant="paper")
    assert {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()} == {
        "encoding_block1": 2_960,
        "encoding_block2": 14_848,
        "encoding_block3": 58_880,
        "encoding_block4": 234_496,
        "aspp": 1_248_512,
        "decoding_block3": 1_891_712,
        "decoding_block2": 473_792,
        "decoding_block1": 118_880,
        "seg_head": 18_896 + 17,
        "aux_heads": 0,
    }


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(64, 64), (65, 47), (1, 40), (33, 1)])
def test_the_network_itself_takes_any_size(variant, size):
    network = ResUNetPP(3, 2, base=16, variant=variant).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 3, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize("variant", VARIANTS)
def test_auxiliary_heads_train_every_parameter(variant):
    torch.manual_seed(0)
    network = ResUNetPP(3, 2, base=32, variant=variant, aux=True)  # wide enough that no squeeze is silent by chance
    outputs = network(torch.randn(2, 3, 65, 47))
    sizes = [(65, 47), (17, 12), (9, 6)] if variant == "zh320" else [(65, 47), (33, 24), (17, 12)]
    assert network.heads == len(outputs) == 3
    assert [tuple(logits.shape[2:]) for logits in outputs] == sizes
    sum(logits.square().mean() for logits in outputs).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert torch.is_tensor(network.eval()(torch.randn(1, 3, 32, 32)))


def test_one_image_trains_by_running_statistics_where_there_is_one_value():
    torch.manual_seed(0)
    network = ResUNetPP(3, 1, base=16)
    norms = [network.aspp.pool[1][1], network.seg_head[0].pool[1][1]]
    before = [norm.running_mean.clone() for norm in norms]
    network(torch.randn(1, 3, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    x = torch.randn(1, 64, 1, 1)
    norm = network.aspp.pool[1][1]
    assert torch.equal(norm(x[:, : norm.num_features]), norm.eval()(x[:, : norm.num_features]))


def test_more_images_train_by_their_own_statistics():
    norm = ResUNetPP(3, 1, base=16).aspp.pool[1][1]
    x = torch.randn(4, norm.num_features, 1, 1)
    assert torch.allclose(norm(x).mean(0), torch.zeros(norm.num_features, 1, 1), atol=1e-5)
    assert norm.running_mean.any()


@pytest.mark.parametrize("batch", [1, 2])
def test_it_can_be_exported_while_it_trains(batch):
    network = ResUNetPP(3, 1, base=16)
    program = torch.export.export(network, (torch.randn(batch, 3, 64, 64),))
    x = torch.randn(batch, 3, 64, 64)
    assert torch.allclose(program.module()(x), network(x), atol=1e-5)


@pytest.mark.parametrize(("variant", "smallest"), [("zh320", 16), ("paper", 8)])
def test_a_base_must_leave_something_when_squeezed(variant, smallest):
    ResUNetPP(3, 1, base=smallest, variant=variant)
    with pytest.raises(ValueError, match=f"base must be at least {smallest} for the variant {variant}, not"):
        ResUNetPP(3, 1, base=smallest - 1, variant=variant)
