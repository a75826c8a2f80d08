"""From an experiment to datasets and networks."""
