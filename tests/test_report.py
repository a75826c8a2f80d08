"""Reports of finished and unfinished runs, as HTML."""

import csv
import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import SUPERVISED, TRANSLATION, command
from PIL import Image

from transeg.core.registry import Registry
from transeg.tools.report.record import Record

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """What tests ask of a page; it complains of tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.headings, self.texts, self.open = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def joint(joint_run, toolkit, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "joint.html"
    toolkit("report", joint_run, "-o", path)
    return Page(path.read_text())


def test_the_page_is_whole_and_accessible(joint):
    assert len(joint.ids) == len(set(joint.ids))
    assert joint.headings[0] == 1
    assert all(after - before <= 1 for before, after in zip(joint.headings, joint.headings[1:], strict=False))
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in joint.tags}
    assert all(image["alt"] for image in joint.all("img"))
    assert len(joint.all("caption")) == len(joint.all("table")) > 3
    assert all(head["scope"] in ("col", "row") for head in joint.all("th"))
    anchors = [link["href"] for link in joint.all("a") if link["href"].startswith("#")]
    assert {anchor[1:] for anchor in anchors} <= set(joint.ids)


def test_nothing_is_loaded(joint):
    assert all(image["src"].startswith("data:image/webp;base64,") for image in joint.all("img"))
    assert not any("src" in script for script in joint.all("script"))
    assert [link["href"] for link in joint.all("link")] == ["data:,"]
    assert len(joint.all("script")) == len(joint.all("style")) == 1


def test_it_says_what_was_run_and_what_came_of_it(joint, joint_run):
    metrics = json.loads((joint_run / "metrics.json").read_text())
    assert f"{metrics['tests']['phantom']['dice']:.3f}" in joint.text
    assert f"{metrics['baseline']['phantom']['dice']:.3f}" in joint.text
    for words in ("arXiv:2007.15651", "arXiv:1505.04597", "Apache-2.0", "translated", "source only", "G_GAN", "seed"):
        assert words in joint.text, words
    assert "Not as published" in joint.text
    assert "parameters" in joint.text
    for heading in ("Results", "Images", "Translation", "Calibration", "Curves", "Where the time went"):
        assert heading in joint.texts
    assert (joint_run / "experiment.toml").read_text().splitlines()[0] in joint.text
    assert "learning rate of segmenter" in joint.text
    assert "less foreground than the network's probabilities say" in joint.text


def test_each_image_is_shown_with_a_slider(joint):
    sliders = joint.all("input")
    assert len(sliders) == len(joint.all("article")) >= 3
    assert all(slider["type"] == "range" and slider["aria-label"] for slider in sliders)
    assert {"truth", "prediction", "errors", "image", "source", "translation"} <= set(joint.texts)


def test_what_the_run_notes_for_it(joint_run):
    record = Record.read(joint_run, Registry())
    assert record.state == "finished"
    assert record.sizes["images"]["phantom"] == 2
    assert record.sizes["parameters"].keys() == {"generator", "segmenter"}
    assert set(record.times) == {".", "baseline"}
    for seconds in record.times.values():
        assert {"training", "waiting for data", "validation", "pictures", "testing"} <= seconds.keys()
        assert all(value >= 0 for value in seconds.values())
    pixels = record.scores["phantom"].bins[:, 0].sum()
    assert pixels == 2 * 32 * 32
    noted = json.loads((joint_run / "metrics.json").read_text())["tests"]["phantom"]
    assert record.scores["phantom"].mean("dice") == pytest.approx(noted["dice"], abs=1e-6)
    if noted["dice_ci"] is not None:
        assert record.scores["phantom"].interval("dice") == pytest.approx(noted["dice_ci"], abs=1e-6)


def test_it_is_the_same_page_each_time(joint_run, toolkit, tmp_path):
    for name in ("one", "two"):
        toolkit("report", joint_run, "-o", tmp_path / f"{name}.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_names_cannot_become_markup(toolkit, tmp_path):
    names = [f"<script>alert({number})<b>&\"'$x$" for number in range(4)]
    random = np.random.default_rng(0)
    for name in names:
        for folder, pixels in (("images", random.integers(0, 255, (32, 32, 3))), ("masks", np.eye(32) * 255)):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "data" / folder / f"{name}.png")
    settings = ["data.size=32", "train.iterations=2", "train.batch_size=2", "segmenter.base=4"]
    classes = ["data.source.classes=['background', '<i>lesion$']"]
    data = f"folder:{tmp_path / 'data'}"
    parts = (["--segmenter", "unet", "--source", data, "--test", data], [*settings, *classes])
    toolkit(*command(parts, "--run-dir", tmp_path / "run"))
    toolkit("report", tmp_path / "run")
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert len(page.all("script")) == 1
    assert not page.all("b")
    assert not page.all("i") or all("style" in attributes for attributes in page.all("i"))  # swatches
    assert any(name in page.texts for name in names)
    assert "<i>lesion$" in page.texts


def test_an_unfinished_run_has_a_report(joint_run, toolkit, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("experiment.toml", "metrics.jsonl", "environment.json", "parts.json"):
        shutil.copy(joint_run / name, run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "train/')  # the kill came here
    toolkit("report", run, "-o", tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text())
    assert "This run has not finished." in page.text
    assert f"toolkit run --run-dir {run} --resume" in page.text
    assert "It has done 3 of 3 iterations" in page.text
    assert "Nothing has been tested yet." in page.text
    assert "has no checkpoint yet" in page.text
    assert "This run did not note its times." in page.text
    assert "G_GAN" in page.texts


def test_a_run_that_has_just_begun_has_one(joint_run, toolkit, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(joint_run / "experiment.toml", tmp_path / "run")
    toolkit("report", tmp_path / "run")
    assert "Nothing has been trained yet." in Page((tmp_path / "run" / "report.html").read_text()).text


def test_a_generator_alone(toolkit, tmp_path):
    toolkit(*command(TRANSLATION, "--run-dir", tmp_path / "run"))
    toolkit("report", tmp_path / "run")
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert "trained a generator alone" in page.text
    assert len(page.all("article")) == 1  # as many as are held out
    assert {"source", "translation"} <= set(page.texts)


def test_test_images_that_are_gone_are_said_to_be(toolkit, joint_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(joint_run, run)
    table = run / "evaluation" / "phantom.csv"
    with table.open(newline="") as file:
        head, *rows = csv.reader(file)
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([head, *([f"other-{row[0]}", *row[1:]] for row in rows)])
    for part in (run, run / "baseline"):
        shutil.rmtree(part / "evaluation" / "calibration")
        shutil.rmtree(part / "evaluations", ignore_errors=True)  # of tests before this one
    toolkit("report", run)
    page = Page((run / "report.html").read_text())
    assert "no longer has its image other-" in page.text
    assert "probabilities of this run's tests were not noted" in page.text


def test_images_that_were_measured_again_are_told(toolkit, joint_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(joint_run, run)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["tests"]["phantom"]["dice"] += 0.1
    (run / "metrics.json").write_text(json.dumps(metrics))
    shutil.copy(run / "evaluation" / "phantom.csv", run / "evaluation" / "later.csv")
    toolkit("report", run)
    page = Page((run / "report.html").read_text())
    assert "measured again since the run" in page.text
    assert "does not know where its images are" in page.text


@pytest.mark.parametrize("folds", [2])
def test_folds_and_classes(toolkit, tmp_path, folds):
    options, settings = SUPERVISED
    toolkit(*command((options, settings), "--run-dir", tmp_path / "run", "--folds", folds))
    toolkit("report", tmp_path / "run")
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert {"ensemble", "fold 1", "fold 2"} <= set(page.texts)
    assert "all folds together" in page.text


def test_bad_input_gets_a_sentence(toolkit, joint_run, tmp_path):
    assert "no folder" in toolkit("report", tmp_path / "nowhere", code=2).output
    assert not (tmp_path / "nowhere").exists()
    assert "no experiment.toml" in toolkit("report", tmp_path, code=2).output
    refused = toolkit("report", joint_run, "-o", tmp_path / "new.html", "--device", "nonsense", code=2)
    assert "nonsense" in refused.output
    assert not (tmp_path / "new.html").exists()
    other = tmp_path / "thesis.html"
    other.write_text("mine")
    assert "is not a report of transeg" in toolkit("report", joint_run, "-o", other, code=2).output
    assert other.read_text() == "mine"
    damaged = tmp_path / "damaged"
    (damaged / "evaluation").mkdir(parents=True)
    shutil.copy(joint_run / "experiment.toml", damaged)
    (damaged / "evaluation" / "phantom.csv").write_text("name,dice\n")
    assert "toolkit evaluate RUN" in toolkit("report", damaged, code=1).output
