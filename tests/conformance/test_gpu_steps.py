"""A training step of every generator by every strategy, in every precision, on a GPU that is not there.

See :mod:`fake_gpu` for what it can find and what not.
"""

from functools import cache
from typing import get_args

import pytest
import torch
from conformance.test_generators import SMALL
from fake_gpu import GPU, PACKAGE, fake_gpu, move
from mmengine.optim import OptimWrapper, OptimWrapperDict

from transeg.core.distributed import collectives
from transeg.core.experiment.combinations import combinations
from transeg.core.experiment.completion import complete_experiment
from transeg.core.experiment.planned_stages import build_strategy, plan_stages
from transeg.core.experiment.schema import Precision
from transeg.core.inference.trained_model import DomainProperties
from transeg.core.interfaces import Batch
from transeg.core.models.ema import EMA
from transeg.core.models.forward import shift_and_scale
from transeg.core.registry import Registry
from transeg.core.training.build import Build
from transeg.core.training.parts import Parts
from transeg.core.training.train import _apply_options, _averaged

REGISTRY = Registry()
PRECISIONS = [precision for precision in get_args(Precision) if precision != "tf32"]
"""TensorFloat-32 takes the same steps as float32."""
FEW = {"syndiff": {"multipliers": (1, 1), "blocks": 1}}
"""Options besides :data:`SMALL` that make a step shorter."""
SEGMENTER = {"name": "unet", "base": 4}
FOUND = {(c.strategy, c.generator): c for c in combinations(REGISTRY) if not c.missing}
KNOWN = {"core/training/appearance_changes.py": "its changes are Albumentations', which the CPU makes"}
"""Where a step may wait, and why."""
PHANTOM = {"name": "phantom", "count": 10, "side": 32}


@cache
def experiment(strategy, generator):
    combination = FOUND[strategy, generator]
    data = {"size": 32, "source": {**PHANTOM, "domain": "clean"}}
    if combination.target:
        data["target"] = {**PHANTOM, "domain": "scope"}
    settings = {"strategy": {"name": strategy}, "data": data, "train": {"batch_size": 2, "iterations": 20}}
    if generator is not None:
        settings["generator"] = {"name": generator, **SMALL.get(generator, {}), **FEW.get(generator, {})}
    if combination.segmenter is not None:
        settings |= {"segmenter": SEGMENTER}
    return complete_experiment(settings, REGISTRY)


def batch():
    """As the loader gives it, but on any stage's behalf; it is always the first, in which penalties count."""
    images = [torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8) for _ in range(2)]
    masks = [torch.randint(2, (2, 32, 32), dtype=torch.uint8) for _ in range(2)]
    return Batch(images[0], masks[0], images[1], torch.arange(2), seed=5, instances=masks[1].long())


def step(strategy, stage, own, precision):
    """What a step of a stage would do wrong on a GPU; ``own`` is the stage's experiment."""
    options = own.train.model_copy(update={"precision": precision})
    domains = DomainProperties(("background", "polyp"), 3, 3)
    build = Build(own, domains, REGISTRY)
    task = build_strategy(strategy, REGISTRY).task(stage, Parts(domains, None, None, None, {}), build)
    optimizers = {name: OptimWrapper(o.optimizer) for name, o in task.optimizers().items()}
    if not optimizers:  # it learns at once
        return []
    task.device = GPU
    _apply_options(task, options, GPU)
    data = batch()
    with fake_gpu() as findings:
        move(task, [wrapper.optimizer for wrapper in optimizers.values()])
        task.averages = EMA(task, _averaged(task, options))
        task.averages.update()
        task.train()
        task.before_iteration()
        if hasattr(task, "segmenter"):  # made once for all steps
            shift_and_scale(task.segmenter.mean, task.segmenter.std, 3, GPU, torch.float32)
        findings.on = True
        losses = task.train_step(data, OptimWrapperDict(**optimizers))
        task.averages.update()
        findings.on = False
    assert losses
    assert all(loss.device == GPU for loss in losses.values())
    return findings.lines


@pytest.fixture(scope="module")
def known():
    """What has been found of stages that several strategies have."""
    return {}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("strategy", "generator"), FOUND, ids=str)
def test_it_never_waits(strategy, generator, precision, known):
    whole, found = experiment(strategy, generator), []
    for planned in plan_stages(whole, REGISTRY):
        own, stage = planned.experiment, planned.stage
        delegated = own.strategy if stage.strategy else whole.strategy
        key = delegated.name, stage.trains, own.generator and own.generator.name, precision
        if key not in known:
            known[key] = step(delegated, stage, own, precision)
        found += known[key]
    assert [line for line in found if not any(place in line for place in KNOWN)] == []


def planted(work):
    """What is found of some work on an image of a GPU, and on one of the CPU, as if the package did it."""
    scope = {"torch": torch}
    exec(compile(f"def work(there, here, draw):\n    {work}", f"{PACKAGE}/planted.py", "exec"), scope)
    with fake_gpu() as findings:
        there, here = torch.zeros(2, 3, device=GPU), torch.zeros(2, 3)
        findings.on = True
        scope["work"](there, here, torch.Generator(GPU))
    return findings.lines


@pytest.mark.parametrize(
    ("work", "found"),
    [
        ("there.sum().item()", "asks for a value"),
        ("float(there.sum())", "asks for a value"),
        ("assert not there.any()", "asks for a value"),
        ("torch.equal(there, there)", "asks for a value"),
        ("there.cpu()", "from cuda to cpu waits"),
        ("there.tolist()", "asks for a value"),
        ("here.to(there.device)", "from cpu to cuda waits"),
        ("here.to(there)", "from cpu to cuda waits"),
        ("there.copy_(here)", "from cpu to cuda waits"),
        ("torch.tensor([1.0], device=there.device)", "from cpu to cuda waits"),
        ("there.new_tensor([1.0])", "from cpu to cuda waits"),
        ("there[there > 0] = 1", "truth values waits"),
        ("torch.rand(2, generator=draw)", "from a generator of cuda"),
    ],
)
def test_what_is_planted_is_found(work, found):
    (line,) = planted(work)
    assert found in line
    assert line.endswith(": planted.py, line 2")


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_gradients_are_averaged_without_a_wait_unless_one_is_missing(missing, monkeypatch):
    """Then it is asked once for all of them which another rank has."""
    monkeypatch.setattr(collectives, "rank_and_world_size", lambda: (0, 2))
    monkeypatch.setattr(collectives.dist, "all_reduce", lambda _: None)
    with fake_gpu() as findings:
        parameters = [torch.nn.Parameter(torch.zeros(3, device=GPU)) for _ in range(5)]
        for parameter in parameters[missing:]:
            parameter.grad = torch.ones_like(parameter)
        findings.on = True
        collectives.average_gradients(parameters)
    assert len(findings.lines) == min(1, missing)


@pytest.mark.parametrize(
    "work",
    [
        "there.copy_(here, non_blocking=True) + here.to(there.device, non_blocking=True)",
        "here.pin_memory().to(there.device, non_blocking=True) * torch.tensor(0.5)",
        "here[here > 0].tolist(), float(here.sum()), bool(here.any())",
        "torch.where(there > 0, there, torch.full_like(there, 2)).masked_fill(there > 0, 1)",
        "torch.rand(2, generator=draw, device=there.device)",
    ],
)
def test_what_is_allowed_is_not(work):
    assert planted(work) == []


@pytest.mark.parametrize("work", ["there + here", "torch.cat((there, here))", "there @ here.t()"])
def test_mixed_devices_end_it(work):
    with pytest.raises(RuntimeError, match="device"):
        planted(work)


@pytest.mark.parametrize("work", ["there[there > 0]", "there.nonzero()", "there.unique()"])
def test_shapes_that_depend_on_values_end_it(work):
    with pytest.raises(AssertionError, match="depends on values of the GPU"):
        planted(work)
