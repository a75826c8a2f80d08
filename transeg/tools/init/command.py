"""The command `toolkit init`, imported when it is called."""

from __future__ import annotations

import tomllib
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click
import tomli_w

from transeg.core.errors import UsageError
from transeg.core.files import write_text
from transeg.core.registry import Registry
from transeg.tools.common.console import stderr_console
from transeg.tools.common.options import PATH, device, with_registry

if TYPE_CHECKING:
    from transeg.tools.init.suggestions import Suggestion


@click.command()
@click.argument("source", metavar="FOLDER")
@click.option("--target", metavar="FOLDER", help="Images without labels, of where the model must work.")
@click.option("--test", metavar="FOLDER", help="Labelled images to measure on; by default a share of FOLDER's.")
@click.option(
    "-o",
    "--out",
    type=PATH,
    default=Path("experiment.toml"),
    metavar="FILE",
    help="File to write; by default experiment.toml.",
)
@device
@with_registry
def init(source: str, target: str | None, test: str | None, out: Path, device: str | None, registry: Registry) -> None:
    """Propose an experiment that fits the labelled images in FOLDER.

    Each choice in the file has its reason beside it: change what you know better. FOLDER may be a dataset, as in
    axon:SEM:/data/axon, too.

    \b
    toolkit init /data/labelled
    toolkit init /data/renders --target /data/video --test /data/labelled -o video.toml
    toolkit run --config video.toml --dry-run
    """
    if out.exists():
        raise UsageError(f"{out} is there already; choose another file with -o.")
    if not out.parent.is_dir():
        raise UsageError(f"There is no folder {out.parent} to write {out.name} to; choose another file with -o.")
    from transeg.core.evaluation.numbers import pluralise
    from transeg.core.experiment.request import complete_request
    from transeg.tools.init.findings import look_at
    from transeg.tools.init.suggestions import suggest

    console = stderr_console()
    named = {"source": source, "target": target, "test": test}
    datasets = {role: _dataset(text, registry) for role, text in named.items() if text}
    found = {role: look_at(dataset, registry, console) for role, dataset in datasets.items()}
    for role in ("source", "test"):
        if role in found and not found[role].masks:
            verify = f"see what was understood with: toolkit data verify {datasets[role]}"
            raise UsageError(f"No image of the {role} has a mask, and it needs labels; {verify}")
    options = suggest(found["source"], found.get("target"), found.get("test"), device or "auto", registry)
    text = experiment_text(options, source)
    complete_request(tomllib.loads(text), registry, run_dir=None, resume=False, dry_run=True)
    write_text(out, text)
    for role, each in found.items():
        if each.faults:
            verify = f"toolkit data verify {datasets[role]}"
            console.print(f"{role}: {pluralise(each.faults, 'fault')}; see: {verify}", highlight=False)
    click.echo(f"Written: {out}. Read it, then: toolkit run --config {out} --dry-run")


def _dataset(text: str, registry: Registry) -> str:
    """A folder as the dataset that reads folders; any other as it is."""
    names = {component.name for component in registry.components("dataset")}
    return text if text.partition(":")[0] in names else f"folder:{text}"


def experiment_text(options: list[Suggestion], source: str) -> str:
    """Suggestions as TOML, with their reasons as comments."""
    head = f"# What `toolkit init {source}` proposes; every line may be changed. Run it with: toolkit run --config FILE"
    blocks = [head]
    for table, members in groupby(options, key=lambda option: option.table):
        lines = [f"[{table}]"]
        for option in members:
            lines += [f"# {line}" for line in option.why.splitlines()]
            lines.append(tomli_w.dumps({option.name: option.value}).strip())
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"
