"""Reports: what a run or a sweep was and came to, as one HTML file that needs nothing else."""
