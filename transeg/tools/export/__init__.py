"""Trained networks for other programs: written, run again there, compared, described."""
