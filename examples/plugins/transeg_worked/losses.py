"""A command."""

import json
from pathlib import Path

import click

from transeg.core.errors import UsageError


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def losses(run: Path) -> None:
    """Print the last losses of RUN, stage by stage."""
    files = sorted(run.rglob("metrics.jsonl"))
    if not files:
        raise UsageError(f"{run} holds no metrics.jsonl: it is no run folder, or nothing has been trained yet.")
    for path in files:
        last: dict[str, float] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            last |= {name: value for name, value in json.loads(line).items() if name.startswith("train/")}
        click.echo(path.parent.relative_to(run).as_posix())
        for name, value in sorted(last.items()):
            click.echo(f"  {name.removeprefix('train/')} {value:.4g}")
