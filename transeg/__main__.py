"""``python -m transeg`` is ``toolkit``."""

from transeg.cli import main

main(prog_name="toolkit")
