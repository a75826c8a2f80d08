"""The command `toolkit translate`: files or whole datasets."""
