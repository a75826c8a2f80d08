"""The command `toolkit watch`."""
