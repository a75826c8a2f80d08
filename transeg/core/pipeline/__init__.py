"""A whole run, from a command to its results."""
