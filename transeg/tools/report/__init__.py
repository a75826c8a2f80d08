"""Reports: what a run, a sweep or a ladder was and came to, as one HTML file that needs nothing else."""
