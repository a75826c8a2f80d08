"""nnU-Net itself beside the ladder of octa: its plans, with windows of 96 pixels in batches of two.

    export OMP_NUM_THREADS=1 nnUNet_n_proc_DA=0                     # one process does all, on one thread
    train="toolkit nnunet train folder:/data/octa/graph --set channels=1 -o runs/nnunet --device cpu --fold all \
        --configuration 2d_96 --epochs 34 --iterations 50"
    $train                                                          # plans, and says that there is no 2d_96
    python examples/experiments/octa/nnunet_windows.py runs/nnunet  # adds it
    $train                                                          # trains it
    toolkit nnunet predict runs/nnunet --test folder:/data/octa/real-train --set channels=1 \
        --set splits=examples/experiments/octa/split.json -o measured --device cpu

The oracle is the same with folder:/data/octa/real-train, the --set splits= of the last line, and --epochs 20.
"""

import json
import sys
from pathlib import Path

from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

SIDE, BATCH, LEAST = 96, 2, 4
"""LEAST is the side at the bottom below which nnU-Net's planner does not halve."""

(path,) = Path(sys.argv[1]).glob("nnUNet_preprocessed/*/nnUNetPlans.json")
plans = json.loads(path.read_text())
architecture = json.loads(path.read_text())["configurations"]["2d"]["architecture"]
_, strides, kernels, _, _ = get_pool_and_conv_props((1, 1), (SIDE, SIDE), LEAST, 999)
stages = len(strides)
network = architecture["arch_kwargs"]
network |= {"n_stages": stages, "strides": strides, "kernel_sizes": kernels}
kept = {"features_per_stage": stages, "n_conv_per_stage": stages, "n_conv_per_stage_decoder": stages - 1}
for key, length in kept.items():
    network[key] = network[key][:length]
plans["configurations"][f"2d_{SIDE}"] = {
    "inherits_from": "2d",
    "patch_size": [SIDE, SIDE],
    "batch_size": BATCH,
    "architecture": architecture,
}
path.write_text(json.dumps(plans, indent=4))
