"""The command `toolkit run`."""
