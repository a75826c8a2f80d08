"""The hand-over to nnU-Net: its tools on what is written here, and its models on images of any kind."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from transeg.core.builders.datasets import dataset_writer
from transeg.core.errors import TransegError, UsageError
from transeg.core.interfaces import IGNORE, About, Sample, Written
from transeg.core.models.weights import load_weights
from transeg.core.registry import Registry
from transeg.tools.nnunet.workspace import Workspace

pytest.importorskip("nnunetv2")

from nnunetv2.preprocessing.normalization.default_normalization_schemes import ZScoreNormalization
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from transeg.plugins.segmenters.nnunet import NnUNet
from transeg.tools.nnunet.predictor import NNUNetModel

CLASSES = "background", "myelin", "axon"
ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3]] * 3,
        "strides": [[1, 1], [2, 2], [2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
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
RESAMPLING = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
PLANS = {
    "dataset_name": "Dataset001_tiny",
    "plans_name": "nnUNetPlans",
    "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
    "image_reader_writer": "NaturalImage2DIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {"0": {}},
    "configurations": {
        "2d": {
            "preprocessor_name": "DefaultPreprocessor",
            "patch_size": [32, 32],
            "spacing": [1.0, 1.0],
            "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [False],
            "architecture": ARCHITECTURE,
        }
        | {f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")}
        | {f"resampling_fn_{what}_kwargs": RESAMPLING for what in ("data", "seg", "probabilities")}
    },
}


@pytest.fixture
def model(tmp_path):
    """A model as nnU-Net leaves it, with weights as they are before a training."""
    return make_model(tmp_path / "model", 1)


def make_model(folder, channels):
    (folder / "fold_0").mkdir(parents=True)
    plans = json.loads(json.dumps(PLANS))
    plans["foreground_intensity_properties_per_channel"] = {str(channel): {} for channel in range(channels)}
    plans["configurations"]["2d"]["normalization_schemes"] *= channels
    plans["configurations"]["2d"]["use_mask_for_norm"] *= channels
    (folder / "plans.json").write_text(json.dumps(plans))
    labels = {name: number for number, name in enumerate(CLASSES)}
    names = {str(channel): f"channel {channel}" for channel in range(channels)}
    described = {"channel_names": names, "labels": labels, "file_ending": ".png"}
    (folder / "dataset.json").write_text(json.dumps(described))
    torch.manual_seed(0)
    save(folder / "fold_0" / "checkpoint_final.pth", network(channels).state_dict())
    return folder


def network(channels=1):
    given = ARCHITECTURE["network_class_name"], ARCHITECTURE["arch_kwargs"], ARCHITECTURE["_kw_requires_import"]
    return get_network_from_plans(*given, channels, len(CLASSES), deep_supervision=False).eval()


def save(path, weights, **more):
    checkpoint = {
        "network_weights": weights,
        "_best_ema": np.float64(0.5),
        "logging": {"mean_fg_dice": [np.float32(0.25)]},
        "init_args": {"configuration": "2d"},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    }
    torch.save(checkpoint | more, path)


def pictures(folder, count=2, size=(32, 32)):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(folder / f"image.{number}.png")
    return folder


def test_its_predictor_gives_what_its_network_gives(model, toolkit, tmp_path):
    images = pictures(tmp_path / "images")
    toolkit("nnunet", "predict", model, images, "-o", tmp_path / "out", "--device", "cpu")
    theirs = network()
    theirs.load_state_dict(torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"])
    for path in images.iterdir():
        seen = ZScoreNormalization(False, {}).run(np.array(Image.open(path)))
        image = torch.from_numpy(seen)[None, None]
        with torch.inference_mode():
            turned = [torch.flip(theirs(torch.flip(image, axes)), axes) for axes in ((), (2,), (3,), (2, 3))]
        expected = torch.stack(turned).mean(0).argmax(1)[0].numpy()
        found = np.array(Image.open(tmp_path / "out" / "masks" / path.name))
        assert len(np.unique(expected)) > 1
        assert (found == expected).mean() > 0.999
        assert Image.open(tmp_path / "out" / "overlays" / path.name).size == (32, 32)


def test_images_of_any_size_and_folds_together(model, toolkit, tmp_path):
    torch.manual_seed(1)
    (model / "fold_1").mkdir()
    save(model / "fold_1" / "checkpoint_final.pth", network().state_dict())
    images = pictures(tmp_path / "images", 1, (45, 70))
    both, one = tmp_path / "both", tmp_path / "one"
    toolkit("nnunet", "predict", model, images, "-o", both, "--device", "cpu")
    toolkit("nnunet", "predict", model, images, "-o", one, "--fold", "1", "--device", "cpu")
    masks = [np.array(Image.open(out / "masks" / "image.0.png")) for out in (both, one)]
    assert [mask.shape for mask in masks] == [(45, 70)] * 2
    assert (masks[0] != masks[1]).any()


def test_foreign_images_are_translated_first(model, joint_run, toolkit, tmp_path):
    images = pictures(tmp_path / "images", 1, (45, 70))
    line = ["-o", tmp_path / "out", "--translate-with", joint_run, "--device", "cpu"]
    said = " ".join(toolkit("nnunet", "predict", model, images, *line, code=2).output.split())
    assert "makes images of 3 channels, but the model takes 1" in said
    colour = make_model(tmp_path / "colour", 3)
    toolkit("nnunet", "predict", colour, images, *line)
    toolkit("translate", joint_run, images, "-o", tmp_path / "translated", "--device", "cpu")
    toolkit("nnunet", "predict", colour, tmp_path / "translated", "-o", tmp_path / "steps", "--device", "cpu")
    masks = [np.array(Image.open(tmp_path / out / "masks" / "image.0.png")) for out in ("out", "steps")]
    assert masks[0].shape == (45, 70)
    assert (masks[0] == masks[1]).all()
    toolkit("nnunet", "predict", colour, images, *line, "--rescale", 0.5)
    half = np.array(Image.open(tmp_path / "out" / "masks" / "image.0.png"))
    assert half.shape == (45, 70)
    assert (half != masks[0]).any()


def test_labelled_images_are_measured(model, toolkit, tmp_path):
    writer = dataset_writer("nnunet", tmp_path / "raw", About(CLASSES, 1, "tiny"), Registry())
    write(writer, 3, "test")
    line = ["nnunet", "predict", model, "--test", f"nnunet:{tmp_path / 'raw'}", "-o", tmp_path / "out"]
    answer = json.loads(toolkit(*line, "--device", "cpu", "--json").stdout)
    assert answer["masks"] == 3
    assert answer["tests"]["raw"]["images"] == 3
    assert {"dice_axon", "iou_axon", "hd95_myelin"} <= set(answer["tests"]["raw"])
    assert len((tmp_path / "out" / "raw.csv").read_text().splitlines()) == 4


def test_what_is_missing_is_said(model, toolkit, tmp_path):
    images = pictures(tmp_path / "images")
    empty = tmp_path / "empty"
    empty.mkdir()

    def said(*arguments, code=2):
        return " ".join(toolkit("nnunet", "predict", *arguments, "-o", tmp_path / "out", code=code).output.split())

    assert "holds no model of nnU-Net" in said(empty, images)
    assert "holds no image" in said(model, empty)
    assert "one of the two" in said(model)
    assert "one of the two" in said(model, images, "--test", "phantom")
    assert "no checkpoint_final.pth of fold 3; there are: 0" in said(model, images, "--fold", "3")
    assert "no checkpoint_best.pth of any fold; there is none" in said(model, images, "--checkpoint", "best")
    assert "phantom has 2 classes and images of 3 channels" in said(model, "--test", "phantom", "--device", "cpu")
    path = model / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:500])
    assert "damaged or not a checkpoint" in said(model, images, "--device", "cpu", code=1)


def test_several_models_in_a_folder_are_not_guessed(model, toolkit, tmp_path):
    space = tmp_path / "space" / "nnUNet_results" / "Dataset001_tiny"
    for name in ("a__b__2d", "a__c__2d"):
        (space / name).mkdir(parents=True)
        (space / name / "plans.json").write_text("{}")
    result = toolkit("nnunet", "predict", tmp_path / "space", tmp_path, "-o", tmp_path / "out", code=2)
    assert "holds several models" in result.output or "holds no image" in result.output


class Code:
    def __reduce__(self):
        return Path.touch, (Path("touched"),)


def test_code_in_a_checkpoint_is_not_run(model, toolkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(model / "fold_0" / "checkpoint_final.pth", network().state_dict(), more=Code())
    result = toolkit("nnunet", "predict", model, pictures(tmp_path / "images"), "-o", "out", "--device", "cpu", code=1)
    assert "holds pickled code, which is never run" in " ".join(result.output.split())
    assert not Path("touched").exists()
    pickle.loads(pickle.dumps(Code()))
    assert Path("touched").exists()  # it would have run


def test_models_of_volumes_are_refused(model):
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"]["patch_size"] = [8, 32, 32]
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(UsageError, match="is for volumes"):
        NNUNetModel.load(model, (), "final", "cpu")
    save(model / "fold_0" / "checkpoint_final.pth", {}, init_args={})
    with pytest.raises(TransegError, match="holds no model that nnU-Net can use"):
        NNUNetModel.load(model, (), "final", "cpu")


@pytest.mark.parametrize("arguments", [("train", "phantom"), ("predict", "model", "images")])
def test_the_extra_is_named(toolkit, tmp_path, monkeypatch, arguments):
    monkeypatch.setattr("transeg.core.optional_packages.find_spec", lambda _: None)
    result = toolkit("nnunet", *arguments, "-o", tmp_path, code=2)
    assert "pip install 'transeg[nnunet]'" in result.output


def test_bad_trainings_are_refused(toolkit, tmp_path):
    out = tmp_path / "out"
    said = toolkit("nnunet", "train", "phantom:nowhere", "-o", out, code=2).output
    assert "reads no folder" in " ".join(said.split())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    said = toolkit("nnunet", "train", "phantom", "-o", tmp_path / "full", code=2).output
    assert "is not empty and holds no training" in " ".join(said.split())
    raw = tmp_path / "raw"
    write(dataset_writer("nnunet", raw, About(CLASSES, 1, "tiny"), Registry()), 3, "train", groups=2)
    said = toolkit("nnunet", "train", f"nnunet:{raw}", "-o", out, "--fold", "2", "--device", "cpu", code=2).output
    assert "There is no fold 2: the images have 2 folds, 0 to 1" in " ".join(said.split())


def test_a_failure_of_nnunet_is_a_sentence(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho before\necho 'RuntimeError: no memory.'\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    lines = []
    with pytest.raises(TransegError, match=r"nnU-Net failed: RuntimeError: no memory\. .*fold_0\.log"):
        Workspace(tmp_path, "tiny").run("train", "fold_0", "", lines.append)
    assert lines == ["before\n", "RuntimeError: no memory.\n"]
    assert (tmp_path / "logs" / "fold_0.log").read_text() == "".join(lines)


@pytest.mark.parametrize(("fold", "done"), [(0, ["trained", "validated"]), ("all", ["trained"])])
def test_a_fold_that_keeps_nothing_back_is_not_validated_and_threads_stay_as_they_were(monkeypatch, fold, done):
    from transeg.tools.nnunet import stages

    said = []

    class Trainer:
        def run_training(self):
            said.append("trained")

        def perform_actual_validation(self):
            said.append("validated")

    monkeypatch.setattr(stages, "get_trainer_from_args", lambda *_, **__: Trainer())
    monkeypatch.setattr(stages, "maybe_load_checkpoint", lambda *_, **__: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: said.append(count))
    stages.train_fold(1, "nnUNetPlans", "2d", fold, "cpu", 1, 1, [])
    assert said == done


def test_planning_works_where_the_training_has_no_workers(monkeypatch):
    from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

    from transeg.tools.nnunet import stages

    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setattr(stages, "extract_fingerprints", lambda *_, **__: None)
    monkeypatch.setattr(stages, "preprocess", lambda *_, **__: None)
    threads = []
    monkeypatch.setattr(stages, "plan_experiments", lambda *_: threads.append(get_allowed_n_proc_DA()))
    stages.plan_and_preprocess(1, "ExperimentPlanner", "2d", 1)
    assert threads == [1]


def test_a_configuration_of_ones_own_is_asked_for_and_trained_once(toolkit, tmp_path, monkeypatch):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write(dataset_writer("nnunet", raw, About(CLASSES, 1, "tiny"), Registry()), 3, "train")
    done = []

    def run(space, task, *_, **arguments):
        done.append(task)
        plans = space.preprocessed / "nnUNetPlans.json"
        if task == "train":
            place = space.results / "nnUNetTrainer__nnUNetPlans__2d_small" / f"fold_{arguments['fold']}"
            place.mkdir(parents=True)
            (place / "checkpoint_final.pth").touch()
        elif not plans.exists():
            plans.parent.mkdir(parents=True)
            plans.write_text('{"configurations": {"2d": {}}}')

    monkeypatch.setattr(Workspace, "run", run)
    line = ["nnunet", "train", f"nnunet:{raw}", "-o", out, "--configuration", "2d_small", "--fold", "all"]
    line += ["--device", "cpu"]
    said = " ".join(toolkit(*line, code=2).output.split())
    assert "planned no configuration '2d_small'; there are: 2d. Add one of your own to" in said
    (plans,) = out.glob("nnUNet_preprocessed/*/nnUNetPlans.json")
    plans.write_text('{"configurations": {"2d": {}, "2d_small": {}}}')
    toolkit(*line)
    assert "fold all is trained already" in toolkit(*line).output
    assert done == ["prepare", "prepare", "train"]


def write(writer, count, split, groups=0):
    """Discs with a ring around them, whose grey values tell the classes apart."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    written = []
    for number in range(count):
        distance = np.hypot(rows - rng.integers(20, 44), columns - rng.integers(20, 44))
        mask = np.select([distance < 8, distance < 16], [2, 1], 0).astype(np.uint8)
        image = (60 * mask + rng.integers(0, 60, mask.shape)).astype(np.uint8)[..., None]
        mask[0, 0] = IGNORE if number == 0 and split == "train" else 0
        group = f"subject-{number % groups if groups else number}"
        writer.add(Sample(image, mask, f"{split} case/{number}", group), split)
        written.append(Written(f"{split} case/{number}", split, group))
    writer.finish(written)


@pytest.mark.slow
def test_its_own_tools_take_what_is_written_here(tmp_path):
    """A dozen images of 64 pixels pass nnU-Net's integrity check and are planned and preprocessed by its command."""
    writer = dataset_writer(
        "nnunet", tmp_path / "nnUNet_raw" / "Dataset007_tiny", About(CLASSES, 1, "tiny"), Registry()
    )
    write(writer, 12, "train")
    places = {name: str(tmp_path / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    command = (
        "nnUNetv2_plan_and_preprocess -d 7 --verify_dataset_integrity -c 2d -pl nnUNetPlannerResEncM -npfp 1 -np 1"
    )
    line = [str(Path(sys.executable).with_name(command.split()[0])), *command.split()[1:]]
    environment = {"PATH": "/usr/bin:/bin", "nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", **places}
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verify_dataset_integrity Done" in done.stdout
    preprocessed = tmp_path / "nnUNet_preprocessed" / "Dataset007_tiny"
    assert len(list((preprocessed / "gt_segmentations").iterdir())) == 12
    planned = NnUNet(1, 3, plans=preprocessed / "nnUNetResEncUNetMPlans.json")
    default = NnUNet(1, 3, architecture="residual", stages=len(planned.encoder.stages))
    shapes = [{key: tensor.shape for key, tensor in net.state_dict().items()} for net in (planned, default)]
    assert shapes[0] == shapes[1]


@pytest.mark.slow
def test_it_trains_and_its_model_is_used(toolkit, tmp_path, monkeypatch):
    """Two iterations and one of validation, on the CPU; then its predictor and our segmenter on its weights."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    raw, out = tmp_path / "raw", tmp_path / "out"
    write(dataset_writer("nnunet", raw, About(CLASSES, 1, "tiny"), Registry()), 12, "train", groups=6)
    line = ["nnunet", "train", f"nnunet:{raw}", "-o", out, "--device", "cpu", "--epochs", 1, "--iterations", 2]
    table = json.loads(toolkit(*line, "--json").stdout)["folds"]["fold_0"]
    results = out / "nnUNet_results" / "Dataset001_nnunet" / "nnUNetTrainer__nnUNetPlans__2d"
    theirs = json.loads((results / "fold_0" / "validation" / "summary.json").read_text())["mean"]
    for number, name in enumerate(CLASSES[1:], start=1):
        assert table[f"dice_{name}"] == pytest.approx(theirs[str(number)]["Dice"], abs=1e-6)
    (splits,) = out.glob("nnUNet_preprocessed/*/splits_final.json")
    records = json.loads((out / "nnUNet_raw" / "Dataset001_nnunet" / "manifest.json").read_text())
    for fold in json.loads(splits.read_text()):
        assert not {records[c]["group"] for c in fold["train"]} & {records[c]["group"] for c in fold["val"]}
        assert len(fold["train"]) + len(fold["val"]) == 12
    assert "trained already" in toolkit(*line).output
    ours = NnUNet(1, 3, plans=results / "plans.json", aux=True)
    load_weights(ours, results / "fold_0" / "checkpoint_final.pth", ours.key_map, "segmenter", whole=True)
    toolkit("nnunet", "predict", out, raw / "imagesTr", "-o", tmp_path / "masks", "--device", "cpu")
    assert len(list((tmp_path / "masks" / "masks").iterdir())) == 12


def test_a_wrong_option_of_the_dataset_is_said(toolkit, tmp_path):
    line = ["nnunet", "train", "phantom", "--set", "pixel_size=0", "-o", tmp_path / "out"]
    assert "pixel_size cannot be 0" in " ".join(toolkit(*line, code=2).output.split())
    assert not (tmp_path / "out").exists()
