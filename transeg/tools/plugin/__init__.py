"""The workbench of those who write plugins."""
