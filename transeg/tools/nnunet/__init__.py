"""nnU-Net itself on our datasets: its planner, trainer and predictor, each through its public functions."""
