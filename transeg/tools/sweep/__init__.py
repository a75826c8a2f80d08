"""Sweeps: many runs, one for each combination of the values of some options, as one job that can be resumed."""
