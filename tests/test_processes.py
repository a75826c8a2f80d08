"""Runs in several processes: how they start, end, are killed and go on."""

import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from conftest import TINY_DATA, TINY_TEST, command
from servers import Ranks
from test_resume import assert_same, iterations

from transeg.core.distributed import collectives as distributed
from transeg.core.distributed import ranks
from transeg.core.errors import TransegError, UsageError
from transeg.core.experiment.schema import Experiment
from transeg.core.pipeline import launch, processes

SETTINGS = [*TINY_DATA, *TINY_TEST, "segmenter.base=4", "segmenter.variant=paper", "data.size=32", "train.batch_size=2"]
LONG = ["train.iterations=14", "train.checkpoint_interval=3", "train.val_interval=4", "train.log_interval=1"]
PARTS = ["--segmenter", "unet", "--loss", "bce", "--device", "cpu"], [*SETTINGS, *LONG, "data.workers=0"]
"""With dropout, which is drawn from each rank's own random generator."""


@pytest.fixture(scope="module")
def two():
    pair = Ranks(2)
    yield pair
    pair.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, two):
    """A run on two ranks that nobody disturbs."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    two(*command(PARTS, "--run-dir", folder))
    return folder


def start(folder, *launcher):
    line = [sys.executable, *launcher, "-m", "transeg", *command(PARTS, "--run-dir", folder)]
    line += [] if launcher else ["--devices", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    begun = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    deadline = time.monotonic() + 120
    while iterations(folder) < 7 and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert begun.poll() is None, begun.stdout.read()
    return begun, trained_by(begun.pid)


def trained_by(parent):
    """The processes of a run by rank."""
    found = {}
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    for pid in listed.split():
        with open(f"/proc/{pid}/environ", encoding="utf-8") as file:  # noqa: PTH123
            variables = dict(entry.partition("=")[::2] for entry in file.read().split("\0"))
        if "RANK" in variables:
            found[int(variables["RANK"])] = int(pid)
    return found


def ended(begun):
    output, _ = begun.communicate(timeout=60)
    return begun.returncode, " ".join(output.split())


def assert_gone(pids):
    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):  # noqa: PTH110
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("who", ["second", "all", "watcher"])
def test_killed_and_resumed(tmp_path, two, whole, who):
    folder = tmp_path / "cut"
    begun, workers = start(folder)
    assert sorted(workers) == [0, 1]
    victims = {"second": [workers[1]], "all": [begun.pid, *workers.values()], "watcher": [begun.pid]}
    for pid in victims[who]:
        os.kill(pid, signal.SIGKILL)
    code, output = ended(begun)
    assert_gone(workers.values())
    assert "Traceback" not in output
    if who == "second":
        assert code == 1
        assert output.count("Error:") == 1
        assert "Process 1 of 2 (0 is the first) was killed with SIGKILL" in output
        assert f"The last checkpoint is whole. Go on with: toolkit run --run-dir {folder} --resume" in output
    if who == "watcher":
        assert "Stopped at iteration" in output
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    assert state["iteration"] >= 3
    two("run", "--run-dir", folder, "--resume")
    assert_same(whole, folder)


@pytest.mark.slow
def test_a_signal_stops_all_after_one_iteration(tmp_path, two, whole):
    folder = tmp_path / "cut"
    begun, workers = start(folder)
    begun.send_signal(signal.SIGINT)
    code, output = ended(begun)
    assert code == 1
    assert "Traceback" not in output
    assert output.count("Stopped at iteration") == 1
    assert f"Go on with: toolkit run --run-dir {folder} --resume" in output
    assert_gone(workers.values())
    two("run", "--run-dir", folder, "--resume")
    assert_same(whole, folder)


@pytest.mark.slow
def test_torchrun_ends_with_a_rank(tmp_path):
    folder = tmp_path / "cut"
    begun, workers = start(folder, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    os.kill(workers[1], signal.SIGKILL)
    code, output = ended(begun)
    assert code == 1
    assert output.count("Another process of this run has ended.") == 1
    assert f"Go on with: toolkit run --run-dir {folder} --resume" in output
    assert_gone(workers.values())


@pytest.mark.slow
def test_tasks_of_slurm(tmp_path):
    """Two processes with what `srun --ntasks 2` says to them."""
    job = str(os.getpid())  # decides the port
    common = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_JOB_ID": job, "SLURM_STEP_ID": "0"}
    line = [
        sys.executable,
        "-m",
        "transeg",
        *command(PARTS, "--run-dir", tmp_path / "run"),
        "--set",
        "train.iterations=2",
    ]
    tasks = [
        subprocess.Popen(
            line,
            env={**os.environ, **common, "SLURM_PROCID": rank, "SLURM_LOCALID": rank, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [task.communicate(timeout=120)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert "in each of 2 processes" in " ".join(said[0].split())
    assert said[1] == ""
    assert "devices = 2" in (tmp_path / "run" / "experiment.toml").read_text()


STEP = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "3",
}


class TestSlurm:
    @pytest.fixture
    def scontrol(self, tmp_path, monkeypatch):
        """A command that says the names of two machines."""
        command = tmp_path / "scontrol"
        command.write_text('#!/bin/sh\n[ "$*" = "show hostnames gpu[07-08]" ] && printf "gpu07\\ngpu08\\n"\n')
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def test_a_task_is_a_rank(self, scontrol):
        said = dict(STEP)
        ranks._adopt_slurm(said)
        assert {key: said[key] for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK")} == {
            "RANK": "5",
            "WORLD_SIZE": "8",
            "LOCAL_RANK": "1",
        }
        assert said["MASTER_ADDR"] == "gpu07"
        other = {**STEP, "SLURM_JOB_ID": "1235"}
        ranks._adopt_slurm(other)
        assert said["MASTER_PORT"] != other["MASTER_PORT"]

    @pytest.mark.parametrize(
        ("seen", "index"), [("3", "0"), ("GPU-8a1f", "0"), ("MIG-77c0", "0"), ("2,3", "1"), ("", "1")]
    )
    def test_a_task_that_sees_its_own_gpu_alone_takes_that(self, scontrol, seen, index):
        said = {**STEP, "CUDA_VISIBLE_DEVICES": seen}
        ranks._adopt_slurm(said)
        assert said["LOCAL_RANK"] == index

    @pytest.mark.parametrize("change", [{"SLURM_STEP_NUM_TASKS": "1"}, {"RANK": "0"}])
    def test_what_no_launcher_has_started_is_left_alone(self, change):
        """A single task, and what torchrun has started in one."""
        said = {**STEP, **change}
        ranks._adopt_slurm(said)
        assert said == {**STEP, **change}

    def test_a_batch_script_is_no_step(self):
        said = {"SLURM_JOB_ID": "1234", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}
        ranks._adopt_slurm(said)
        assert "RANK" not in said

    def test_machines_without_names(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(TransegError, match="MASTER_ADDR"):
            ranks._adopt_slurm(dict(STEP))


@pytest.mark.parametrize(
    ("codes", "first"),
    [
        ({0: (1, 100), 1: (-9, 100)}, (1, -9)),  # the first has lost the second
        ({1: (1, 100), 0: (-9, 130)}, (1, 1)),  # which could not be ended otherwise, since it waited in NCCL
        ({1: (2, 100), 0: (-15, 100)}, (1, 2)),
        ({1: (-15, 100), 0: (-15, 100)}, (1, -15)),
    ],
)
def test_who_ended_first_is_told_from_who_was_ended_for_it(codes, first):
    """Codes and seconds in the order in which the ends were seen; ours come later."""
    failures = {rank: SimpleNamespace(exitcode=code, timestamp=at) for rank, (code, at) in codes.items()}
    assert processes._first(SimpleNamespace(failures=failures)) == first


class TestDevices:
    @pytest.fixture
    def chosen(self, monkeypatch):
        """The GPUs that became the one in use, on a machine of two."""
        found = []
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: found.append(str(device)))
        return found

    @pytest.mark.parametrize(("named", "used"), [("cuda", []), ("cuda:1", ["cuda:1"]), ("cpu", [])])
    def test_a_single_process_takes_what_is_named(self, chosen, named, used):
        assert str(distributed.rank_device(torch.device(named))) == named
        assert chosen == used

    def test_each_rank_takes_its_own(self, chosen, monkeypatch):
        monkeypatch.setattr(distributed, "rank_and_world_size", lambda: (5, 8))
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert str(distributed.rank_device(torch.device("cuda:0"))) == "cuda:1"
        assert chosen == ["cuda:1"]
        assert str(distributed.rank_device(torch.device("cpu"))) == "cpu"

    def test_each_rank_takes_it_before_anything_is_built_there(self, chosen, monkeypatch):
        """The networks that judge a generator's images, for one."""
        built = []

        def build_parts(experiment, registry):
            built.append((experiment.device, *chosen))
            raise UsageError("enough")

        monkeypatch.setattr(distributed, "rank_and_world_size", lambda: (1, 2))
        monkeypatch.setattr(launch, "rank_and_world_size", lambda: (1, 2))
        monkeypatch.setattr(launch, "join_ranks", lambda: None)
        monkeypatch.setattr(launch, "build_parts", build_parts)
        monkeypatch.setenv("LOCAL_RANK", "1")
        tracking = SimpleNamespace(trackers=())
        experiment = Experiment.model_construct(device="cuda", devices=2, tracking=tracking)
        with pytest.raises(UsageError, match="enough"):
            launch.prepare(SimpleNamespace(experiment=experiment), None, dry_run=False)
        assert built == [("cuda:1", "cuda:1")]

    def test_one_that_is_not_there_is_refused(self, chosen, monkeypatch):
        with pytest.raises(UsageError, match="2 GPUs, counted from 0, so there is no cuda:2"):
            distributed.rank_device(torch.device("cuda:2"))
        monkeypatch.setattr(distributed, "rank_and_world_size", lambda: (2, 3))
        monkeypatch.setenv("LOCAL_RANK", "2")
        with pytest.raises(UsageError, match="start one for each GPU"):
            distributed.rank_device(torch.device("cuda"))
        assert not chosen


def test_what_nccl_refuses_is_said_and_not_taken_for_a_lost_process(monkeypatch):
    """Else all processes would leave it to another to say what happened."""

    def broadcast(tensor, root):
        raise torch.distributed.DistBackendError(
            "NCCL error in: NCCLUtils.hpp:268, invalid usage\nncclInvalidUsage: This usually reflects ...\n"
            "Last error:\nDuplicate GPU detected : rank 0 and rank 1 both on CUDA device 4000\n"
        )

    monkeypatch.setattr(distributed, "rank_and_world_size", lambda: (0, 2))
    monkeypatch.setattr(distributed.dist, "broadcast", broadcast)
    with pytest.raises(TransegError, match="Duplicate GPU detected") as caught:
        distributed.broadcast_state(torch.nn.Linear(1, 1))
    assert not isinstance(caught.value, ranks.LostProcessError)


@pytest.mark.parametrize(
    "text",
    [
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:27811.",
        "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 6000ms for recv operation",
        "Application timeout caused pair closure",
    ],
)
def test_a_lost_process_is_known_by_what_gloo_says(monkeypatch, text):
    with pytest.raises(ranks.LostProcessError, match="Another process of this run has ended"):
        broadcast_failing_with(RuntimeError(text), monkeypatch)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("Tensors must be contiguous"),
        RuntimeError("[enforce fail at gloo/transport/tcp/pair.cc:490] op.preamble.length <= op.nbytes. 8 vs 4"),
    ],
)
def test_what_else_goes_wrong_keeps_its_words(monkeypatch, error):
    with pytest.raises(type(error), match=re.escape(str(error))):
        broadcast_failing_with(error, monkeypatch)


def broadcast_failing_with(error, monkeypatch):
    monkeypatch.setattr(distributed, "rank_and_world_size", lambda: (0, 2))
    monkeypatch.setattr(distributed.dist, "broadcast", Mock(side_effect=error))
    distributed.broadcast_state(torch.nn.Linear(1, 1))


def test_there_must_be_a_gpu_for_each_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    processes.check_gpus(2, "cuda:0")
    processes.check_gpus(8, "cpu")
    with pytest.raises(UsageError, match="--devices 3: this machine has 2 GPUs; say --devices 2"):
        processes.check_gpus(3, "cuda")


def test_what_one_process_would_refuse_is_refused_once(tmp_path, process):
    """Here the parent has no reason to, so the processes do."""
    result = process("run", "--segmenter", "unet", "--devices", "2", "--set", "train.lr=-1", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("Error:") == 1
    assert "train.lr cannot be -1" in result.stderr
    assert not result.stdout


def test_an_experiment_for_several_processes_needs_them(tmp_path, toolkit):
    """Of a program that calls the core itself; `toolkit run` starts them."""
    from transeg.core.experiment.request import read_request
    from transeg.core.pipeline.launch import prepare
    from transeg.core.registry import Registry

    settings = (*SETTINGS, *LONG, "devices=2")
    registry = Registry()
    request = read_request(
        {"segmenter": "unet", "assignments": settings},
        registry,
        config=None,
        run_dir=tmp_path / "run",
        resume=False,
        dry_run=False,
    )
    with pytest.raises(UsageError, match="for 2 processes"):
        prepare(request, registry, dry_run=False)
    assert not (tmp_path / "run").exists()


class TestSharedBatchNorm:
    def test_weights_keep_their_names_and_activations_stay(self):
        """timm's norms have their activation in them."""
        from timm.layers import BatchNormAct2d
        from torch import nn

        from transeg.core.training.build import _with_shared_batch_norm

        network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), BatchNormAct2d(4))
        keys, image = list(network.state_dict()), torch.randn(2, 3, 5, 5)
        before = network.eval()(image)
        shared = _with_shared_batch_norm(network)
        assert [isinstance(module, nn.SyncBatchNorm) for module in shared] == [False, True, True]
        assert list(shared.state_dict()) == keys
        assert torch.equal(shared.eval()(image), before)

    def test_norms_that_do_more_are_not_replaced_by_plain_ones(self):
        """Pix2pix's normalise each image by its own statistics in eval mode."""
        from timm.layers import BatchNormAct2d
        from torch import nn

        from transeg.core.training.build import check_batch_norms
        from transeg.plugins.generators.pix2pix import Pix2pix

        with pytest.raises(UsageError, match="norms of Pix2pix are of a kind of its own"):
            check_batch_norms(Pix2pix(1, 1, width=4, depth=5, norm="batch"), None)
        known = nn.Sequential(nn.BatchNorm2d(4), BatchNormAct2d(4))
        check_batch_norms(Pix2pix(1, 1, width=4, depth=5, norm="instance"), known)

    def test_a_cpu_has_none(self, toolkit, tmp_path):
        options = ["--set", "train.sync_batch_norm=true", "--device", "cpu", "--run-dir", tmp_path]
        result = toolkit("run", "--segmenter", "unet", *options, code=2)
        assert "on GPUs alone" in " ".join(result.stderr.split())
