"""Search: Optuna over the options of an experiment."""
