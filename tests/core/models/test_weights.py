import logging
from argparse import Namespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from transeg.core.errors import TransegError
from transeg.core.models import checkpoint
from transeg.core.models.weights import load_weights, map_keys


def network():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def ones():
    return {key: torch.ones_like(value) for key, value in network().state_dict().items()}


def all_ones(module):
    return all((value == 1).all() for value in module.state_dict().values())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model": {"state_dict": {f"module.{key}": value for key, value in state.items()}}},
        lambda state: {"format": 1, "model": {f"segmenter.{key}": value for key, value in state.items()}},
        lambda state: {"epoch": 3, "net": state, "optimizer": {}},
    ],
)
def test_every_usual_container_is_opened(tmp_path, wrap):
    path = tmp_path / "weights.pth"
    torch.save(wrap(ones()), path)
    module = network()
    load_weights(module, path, [(r"^module\.", "")], "segmenter")
    assert all_ones(module)


@pytest.mark.parametrize(
    "prefix", ["module.", "module.module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_names_are_known_without_what_wrappers_put_before_them(tmp_path, prefix):
    path = tmp_path / "weights.pth"
    torch.save({f"{prefix}{key}": value for key, value in ones().items()}, path)
    module = network()
    load_weights(module, path, [], "segmenter", whole=True)
    assert all_ones(module)


def test_parts_that_were_compiled_alone_are_known(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({key.replace(".", "._orig_mod."): value for key, value in ones().items()}, path)
    module = network()
    load_weights(module, path, [], "segmenter", whole=True)
    assert all_ones(module)


def test_a_child_called_module_keeps_its_name(tmp_path):
    path, wrapped = tmp_path / "weights.pth", nn.DataParallel(network())
    torch.save({f"module.{key}": value for key, value in ones().items()}, path)
    load_weights(wrapped, path, [], "segmenter", whole=True)
    assert all_ones(wrapped)


def test_a_network_that_a_training_kept_as_a_child_is_found(tmp_path):
    path = tmp_path / "weights.pth"
    states = {f"model.net.{key}": value for key, value in ones().items()}
    torch.save({"state_dict": {**states, "loss.weight": torch.zeros(2)}}, path)
    module = network()
    load_weights(module, path, [], "segmenter", whole=True)
    assert all_ones(module)
    twins = {f"{name}.{key}": value for name in ("student", "teacher") for key, value in ones().items()}
    torch.save(twins, path)
    with pytest.raises(TransegError, match=r"several networks that would fit, student\., teacher\."):
        load_weights(network(), path, [], "segmenter")


def test_safetensors_are_read(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(ones(), path)
    module = network()
    load_weights(module, path, [], "segmenter")
    assert all_ones(module)


def test_ones_own_checkpoints_are_read_by_part(tmp_path):
    path = tmp_path / "best.pt"
    state = {f"segmenter.{key}": value for key, value in ones().items()} | {"generator.0.weight": torch.zeros(3, 2)}
    checkpoint.save_checkpoint({"model": state}, path)
    module = network()
    load_weights(module, path, [], "segmenter")
    assert all_ones(module)


def test_keys_are_renamed_and_dropped():
    state = {"module.module.a": torch.zeros(1), "dead.b": torch.zeros(1), "old.c": torch.zeros(1)}
    mapped = map_keys(state, [(r"^(module\.)+", ""), (r"^dead\.", None), (r"^old\.", "new.")])
    assert list(mapped) == ["a", "new.c"]


def test_a_file_is_known_by_the_child_that_it_is_named_after(tmp_path):
    """CUT's `latest_net_G.pth`: keys that would fit any of its networks."""
    module = nn.ModuleDict({"G": network(), "D": network()})
    torch.save(ones(), tmp_path / "latest_net_G.pth")
    load_weights(module, tmp_path / "latest_net_G.pth", [], "generator")
    assert all_ones(module["G"])
    assert not all_ones(module["D"])
    torch.save(ones(), tmp_path / "Good.pth")
    with pytest.raises(TransegError, match="fits nowhere"):
        load_weights(module, tmp_path / "Good.pth", [], "generator")


def test_several_networks_by_name_and_options_beside_them(tmp_path):
    path = tmp_path / "all.pth"
    torch.save({"args": Namespace(lr=1.0), "epoch": 2, "G": ones(), "D": ones()}, path)
    module = nn.ModuleDict({"G": network(), "D": network()})
    load_weights(module, path, [], "generator")
    assert all_ones(module)


def test_what_does_not_fit_is_said(tmp_path, caplog):
    path = tmp_path / "weights.pth"
    state = ones()
    state["1.weight"] = torch.ones(5, 3)
    state["head.weight"] = torch.ones(1)
    torch.save(state, path)
    module = network()
    with caplog.at_level(logging.WARNING):
        load_weights(module, path, [], "segmenter")
    assert "fills 3 of the 4 tensors" in caplog.text
    assert "of another shape: 1.weight" in caplog.text
    assert "head.weight" in caplog.text


def test_weights_that_fit_nowhere_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"x": torch.ones(1)}, path)
    with pytest.raises(TransegError, match="fits nowhere"):
        load_weights(network(), path, [], "segmenter")
    torch.save({"x": 1}, path)
    with pytest.raises(TransegError, match="holds no state dict"):
        load_weights(network(), path, [], "segmenter")
    broken = tmp_path / "weights.safetensors"
    broken.write_bytes(b"nothing")
    with pytest.raises(TransegError, match="cannot be read"):
        load_weights(network(), broken, [], "segmenter")


def test_pickled_modules_are_refused(tmp_path):
    """CUT-seg saves its best segmenter as a whole pickled module."""
    path = tmp_path / "S_best.pth"
    torch.save(network(), path)
    with pytest.raises(TransegError, match="pickled code"):
        load_weights(network(), path, [], "segmenter")


def test_single_numbers_of_numpy_are_no_code(tmp_path):
    """As nnU-Net keeps them beside its weights."""
    path = tmp_path / "checkpoint_final.pth"
    numbers = [kind(1) for kind in (np.bool_, np.int32, np.int64, np.float32, np.float64)]
    torch.save({"network_weights": ones(), "_best_ema": np.float64(0.5), "logging": {"losses": numbers}}, path)
    module = network()
    load_weights(module, path, [], "segmenter")
    assert all_ones(module)
    with pytest.raises(TransegError, match="pickled code"):
        checkpoint.load_safely(path)


def test_of_a_checkpoint_of_ours_the_averages_count(tmp_path):
    """What inference uses; weights that are not averaged are as they are."""
    path = tmp_path / "best.pt"
    raw = {f"generator.{key}": 2 * value for key, value in ones().items()}
    averaged = {"generator.0.weight": torch.ones(3, 2)}
    torch.save({"model": raw, "averages": averaged}, path)
    module = network()
    load_weights(module, path, [], "generator")
    assert (module[0].weight == 1).all()
    assert (module[1].weight == 2).all()
