import re
from xml.etree import ElementTree

import numpy as np

from transeg.tools.report import figures
from transeg.tools.report.plots import SERIES, plot


def drawn(name="one", label="a $x$ <b>"):
    def draw(figure):
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=SERIES[1], label=label)
        axes.legend()

    return str(plot(name, "A <title>", "Said & done", (3, 2), draw))


def test_a_figure_is_named_described_and_scales():
    root = ElementTree.fromstring(drawn())
    assert root.get("role") == "img"
    assert root.get("viewBox") == "0 0 216 144"
    assert root.get("width") is None
    texts = {element.get("id"): element.text for element in root.iter()}
    assert texts[root.get("aria-labelledby")] == "A <title>"
    assert texts[root.get("aria-describedby")] == "Said & done"


def test_colours_are_the_pages_and_text_stays_text():
    text = drawn()
    assert "var(--series-2)" in text
    assert not re.search(r"#0[1-9a]0[1-9a]0[1-9a]", text)
    assert "font-family" not in text
    assert "<style" not in text  # it would hold for the whole page
    assert "a $x$ &lt;b&gt;" in text  # neither mathematics nor markup


def test_ids_belong_to_the_figure():
    one, other = drawn("one"), drawn("other")
    ids = [set(re.findall(r'id="([^"]+)"', text)) for text in (one, other)]
    assert not ids[0] & ids[1]
    for name, text, known in zip(("one", "other"), (one, other), ids, strict=True):
        used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
        assert used
        assert used <= known, name
    assert drawn("one") == one  # the same bytes each time


def test_long_curves_are_averaged():
    x, y = figures.downsample_curve(range(10_000), np.ones(10_000))
    assert len(x) <= figures.POINTS
    assert (y == 1).all()
    assert x[0] == np.arange(42).mean()
    short = figures.downsample_curve([1, 2, 3], [3.0, 2.0, 1.0])
    assert short[1].tolist() == [3, 2, 1]


def test_figures_say_what_they_show():
    curve = figures.plot_curves("c", "loss", {"loss": ([10, 20], [2.0, 1.0])}, mark=20)
    assert "loss from 2 at iteration 10 to 1 at 20" in curve
    spread = figures.plot_distribution("d", "Dice", {"run": np.array([0.2, 0.4, 0.9])}, "Dice")
    assert "3 images from 0.200 to 0.900, median 0.400" in spread
    means = figures.plot_estimates("e", "Dice", [figures.Estimate("run", 0.5, (0.4, 0.6))], "Dice")
    assert "run 0.500, 95 % interval 0.400 to 0.600" in means
    times = figures.plot_shares("s", "time", {"run": {"training": 3.0, "testing": 1.0}}, "seconds")
    assert "run: training 3, testing 1" in times
    grid = figures.plot_heat_map("h", "Dice", np.array([[0.5, np.nan]]), ["a", "b"], ["r"], ("column", "row"))
    assert "r with a: 0.500; r with b: none" in grid


def test_reliability_leaves_empty_bins_out():
    bins = np.zeros((15, 3))
    bins[0] = 10, 0.5, 1
    bins[14] = 5, 4.9, 4
    text = figures.plot_reliability("r", "Reliability", {"run": bins}, binary=True)
    assert "run: 0.05 is foreground in 0.10, 0.98 is foreground in 0.80" in text
    assert "0.98 is right in 0.80" in figures.plot_reliability("s", "Reliability", {"run": bins}, binary=False)
    assert "mathdefault" not in text  # the logarithmic axis
