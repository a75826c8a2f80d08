"""A model card in Hugging Face's format, of what the run folder says and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from transeg import __version__
from transeg.core.errors import UsageError
from transeg.core.evaluation.metrics.table import Rows, all_rows, digits_of, shown_in
from transeg.core.experiment.choices import DatasetChoice, GeneratorChoice, SegmenterChoice
from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import parse_sum
from transeg.core.files import read_json
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import Translator
from transeg.core.manifest import DatasetEntry
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.tools.export.graph import Graph
from transeg.tools.export.tensors import portable_options

NOT_SAID = "not said"
NetworkChoice = GeneratorChoice | SegmenterChoice


def card(
    run_dir: Path,
    graph: Graph,
    trained: TrainedModel,
    translator: Translator | None,
    registry: Registry,
    report: Mapping[str, Any],
    folder: Path,
) -> str:
    """The text of ``README.md``.

    Args:
        run_dir: the run folder.
        graph: what was exported.
        trained: the run.
        translator: what sees images first, perhaps of another run.
        registry: what components and datasets say of themselves.
        report: what ``export.json`` holds.
        folder: with every other file in it.
    """
    experiment = trained.experiment
    run = RunFolder(run_dir)
    metrics = read_json(run.metrics) if run.metrics.exists() else None
    environment = read_json(run.environment) if run.environment.exists() else {}
    tests = _tests(metrics, all_rows(registry)) if graph.segmenting is not None else []
    parts = [experiment]
    if translator is not None and translator.trained.experiment != experiment:
        parts.append(translator.trained.experiment)
    chosen = _components(parts, graph)
    data = ModelCardData(
        library_name="transeg",
        pipeline_tag="image-segmentation" if graph.segmenting is not None else "image-to-image",
        tags=["medical", "transeg", *[choice.name for _, choice in chosen], *_formats(report)],
        model_name="-".join(choice.name for _, choice in chosen),
        eval_results=_results(tests, graph) or None,
    )
    template = files("transeg.tools.export").joinpath("card.md.jinja").read_text(encoding="utf-8")
    content = ModelCard.from_template(
        data,
        template_str=template,
        title=" and ".join(f"{choice.name}" for _, choice in chosen),
        part=graph.part,
        classes=list(trained.domains.class_names),
        sigmoid=graph.segmenting is not None and graph.segmenting.sigmoid,
        components=[_component(kind, choice, registry) for kind, choice in chosen],
        data=list(_datasets(parts, registry)),
        experiment=experiment,
        earlier=parts[1:],
        loss=None if experiment.loss is None else " + ".join(parse_sum(experiment.loss.name)),
        iteration=trained.iteration,
        metrics=metrics,
        tests=tests,
        quality=_quality(metrics) if graph.segmenting is None else [],
        translation=None if translator is None else _translation(translator),
        tested=sorted({_domain(choice) for choice in experiment.data.test.values()}),
        papers=list(_papers(parts, chosen, registry)),
        versions={"transeg": environment.get("transeg", NOT_SAID), **environment.get("packages", {})},
        here={"transeg": __version__, "torch": torch.__version__},
        report=report,
        inputs=graph.inputs,
        output=graph.output,
        before=json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))["before"],
        checksums={path.name: _sha256(path) for path in sorted(folder.iterdir())},
    ).content
    return f"{content.rstrip()}\n"


def _components(parts: Iterable[Experiment], graph: Graph) -> list[tuple[str, NetworkChoice]]:
    """Kind and choice of each network that is in the graph; its generator is the last run's."""
    experiments = list(parts)
    found: list[tuple[str, NetworkChoice]] = []
    if graph.translating is not None and experiments[-1].generator is not None:
        found.append(("generator", experiments[-1].generator))
    if graph.segmenting is not None and experiments[0].segmenter is not None:
        found.append(("segmenter", experiments[0].segmenter))
    return found


def _component(kind: str, choice: NetworkChoice, registry: Registry) -> dict[str, Any]:
    entry = registry.find(kind, choice.name).entry
    options = ", ".join(f"{key}={value}" for key, value in portable_options(choice).items())
    return {
        "kind": kind,
        "name": choice.name,
        "summary": entry.summary,
        "paper": entry.paper,
        "options": options,
        "weights": Path(choice.weights).name if choice.weights else "",
    }


def _translation(translator: Translator) -> tuple[str, str]:
    """What a generator is given, and what it makes of that."""
    data = translator.trained.experiment.data
    assert data.source is not None
    source = _domain(data.source)
    target = _domain(data.target) if data.target else f"the counterparts in {source}"
    if translator.trained.given.by_mask:
        return f"label maps, as those of {source}", f"images, as those of {source}"
    given, made = (target, source) if translator.backwards else (source, target)
    return f"images, as those of {given}", f"images, as those of {made}"


def _datasets(parts: Iterable[Experiment], registry: Registry) -> Iterator[dict[str, str]]:
    """Every dataset by role, with what its manifest says of its terms; no folders of this machine."""
    for experiment in parts:
        data = experiment.data
        roles = {"source": data.source, "target": data.target, "synthetic": data.synthetic, "validation": data.val}
        roles |= {f"test ({label})": choice for label, choice in data.test.items()}
        for role, choice in roles.items():
            if choice is not None:
                entry = _entry(choice, registry)
                yield {
                    "role": role,
                    "name": _domain(choice),
                    "split": choice.split or NOT_SAID,
                    "licence": (entry.licence if entry else "") or NOT_SAID,
                    "url": (entry.url if entry else "") or NOT_SAID,
                }


def _entry(choice: DatasetChoice, registry: Registry) -> DatasetEntry | None:
    """What a manifest says of a dataset; None where its plugin is gone."""
    try:
        entry = registry.find("dataset", choice.name).entry
    except UsageError:
        return None
    return entry if isinstance(entry, DatasetEntry) else None


def _domain(choice: DatasetChoice) -> str:
    return choice.name if choice.domain is None else f"{choice.name}, domain {choice.domain}"


def _papers(
    parts: Iterable[Experiment], chosen: Iterable[tuple[str, NetworkChoice]], registry: Registry
) -> Iterator[tuple[str, str]]:
    """What to cite, each once: (what for, paper)."""
    used = [(kind, choice.name) for kind, choice in chosen]
    for experiment in parts:
        data = experiment.data
        used += [("loss", name) for name in (parse_sum(experiment.loss.name) if experiment.loss else ())]
        sets = [data.source, data.target, data.synthetic, data.val, *data.test.values()]
        used += [("dataset", choice.name) for choice in sets if choice is not None]
    for kind, name in dict.fromkeys(used):
        try:
            paper = registry.find(kind, name).entry.paper
        except UsageError:
            paper = ""
        if paper:
            yield f"{kind} {name}", paper


def _tests(metrics: Mapping[str, Any] | None, known: Rows) -> list[dict[str, Any]]:
    """A table for each test set: metric, value and interval, in the order of metrics.json, which has all of them."""
    tables, shown = [], shown_in("card", known)
    for label, table in (metrics or {}).get("tests", {}).items():
        rows = [
            {"name": key, "value": table[key], "ci": table.get(f"{key}_ci"), "digits": digits_of(key, known)}
            for key in table
            if key in shown
        ]
        tables.append({"label": label, "images": table.get("images"), "rows": rows})
    return tables


def _quality(metrics: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    judged = (metrics or {}).get("quality", {})
    return [{"label": label, "values": table} for label, table in judged.items()]


def _results(tests: Iterable[Mapping[str, Any]], graph: Graph) -> list[EvalResult]:
    """What Hugging Face's leaderboards read; a graph with a generator in front was not what was tested."""
    if graph.translating is not None:
        return []
    return [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=test["label"],
            dataset_name=test["label"],
            metric_type=row["name"],
            metric_value=row["value"],
        )
        for test in tests
        for row in test["rows"]
        if row["value"] is not None
    ]


def _formats(report: Mapping[str, Any]) -> list[str]:
    names = {"int8": "onnx", "fp16": "onnx"}
    return sorted({names.get(row["format"], row["format"]) for row in report["files"]})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
