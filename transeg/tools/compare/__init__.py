"""The command `toolkit compare`."""
