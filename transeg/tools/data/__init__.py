"""The command `toolkit data`: download, verify, convert."""
