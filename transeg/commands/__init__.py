"""The commands that are imported when they are called, each in a module of its own; the manifest lists them."""
