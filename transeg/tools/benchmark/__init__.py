"""The command `toolkit benchmark`."""
