"""transeg: translate and segment medical images where labels are scarce."""

__version__ = "0.1.0"
