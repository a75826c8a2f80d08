"""What the command line and Python do with an experiment, a run folder or a dataset: a module each."""
