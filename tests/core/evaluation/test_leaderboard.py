import csv
import io
import json

import numpy as np
import pytest
from evaluations import evaluated
from scipy import stats

from transeg.core.errors import UsageError
from transeg.core.evaluation.leaderboard import LeaderboardEntry, leaderboard
from transeg.core.evaluation.leaderboard_formats import to_csv, to_markdown
from transeg.tools.sweep.entries import compare_entries, leaderboard_entries

RNG = np.random.default_rng(1)
GOOD, FAIR, POOR = np.sort(RNG.uniform(0.2, 0.9, (3, 24)), axis=0)[::-1].round(6)
SINGLE = [f"image{index}" for index in range(24)]
DICE = {"metrics": ["dice"]}


def board(entries, **options):
    return leaderboard(entries, **{**DICE, **options})["tests"]["kvasir"]


def rows_of(entries, **options):
    return {row["entry"]: row for row in board(entries, **options)["metrics"]["dice"]["rows"]}


@pytest.fixture
def entries(tmp_path):
    values = {"poor": POOR, "good": GOOD, "fair": FAIR}
    return [
        LeaderboardEntry(name, (evaluated(tmp_path / name, groups=SINGLE, dice=dice, hd95=100 * (1 - dice)),))
        for name, dice in values.items()
    ]


def test_runs_stand_from_the_best_to_the_worst(entries):
    found = board(entries)
    assert (found["images"], found["groups"], found["without"]) == (24, 24, [])
    rows = found["metrics"]["dice"]["rows"]
    assert [(row["rank"], row["entry"]) for row in rows] == [(1, "good"), (2, "fair"), (3, "poor")]
    assert [row["mean"] for row in rows] == pytest.approx([GOOD.mean(), FAIR.mean(), POOR.mean()])
    assert rows[0]["against"] is rows[0]["difference"] is rows[0]["p"] is rows[0]["p_holm"] is None
    assert {row["against"] for row in rows[1:]} == {"good"}
    assert rows[2]["difference"] == pytest.approx((POOR - GOOD).mean())


def test_a_shorter_distance_ranks_higher(entries):
    rows = board(entries, metrics=["hd95"])["metrics"]["hd95"]["rows"]
    assert [row["entry"] for row in rows] == ["good", "fair", "poor"]
    assert rows[1]["difference"] > 0


def test_intervals_and_tests_agree_with_scipy(entries):
    rows = rows_of(entries)
    reference = stats.bootstrap((FAIR,), np.mean, n_resamples=20000, method="percentile", random_state=2)
    assert rows["fair"]["ci"] == pytest.approx(list(reference.confidence_interval), abs=0.01)
    difference = FAIR - GOOD
    reference = stats.permutation_test(
        (difference,), lambda x, axis: x.mean(axis), permutation_type="samples", n_resamples=20000, random_state=2
    )
    assert rows["fair"]["p"] == pytest.approx(reference.pvalue, abs=0.002)


def test_p_is_adjusted_for_all_pairs_or_for_those_with_the_baseline(tmp_path):
    """Three pairs could have turned out to be the best and another; with a baseline there are two."""
    noise = RNG.normal(0, 0.1, (3, 8)).round(6)
    runs = [
        LeaderboardEntry(f"run{n}", (evaluated(tmp_path / f"run{n}", dice=0.5 + each),)) for n, each in enumerate(noise)
    ]
    for baseline, comparisons in ((None, 3), ("run0", 2)):
        rows = [row for row in rows_of(runs, baseline=baseline).values() if row["p"] is not None]
        small, large = sorted(row["p"] for row in rows)
        adjusted = sorted(row["p_holm"] for row in rows)
        first = min(1, comparisons * small)
        assert adjusted == pytest.approx([first, max(first, min(1, (comparisons - 1) * large))])
        assert len(rows) == 2
    assert {row["against"] for row in rows} == {"run0"}


def test_repeats_are_averaged_image_by_image(tmp_path):
    a, b, other = RNG.uniform(size=(3, 24)).round(6)
    runs = tuple(evaluated(tmp_path / name, groups=SINGLE, dice=dice) for name, dice in (("a", a), ("b", b)))
    rows = rows_of(
        [
            LeaderboardEntry("both", runs),
            LeaderboardEntry("other", (evaluated(tmp_path / "c", groups=SINGLE, dice=other),)),
        ]
    )
    assert rows["both"]["mean"] == pytest.approx((a + b).mean() / 2)
    assert rows["both"]["runs"] == 2
    assert rows["both"]["sd"] == pytest.approx(np.std([a.mean(), b.mean()], ddof=1))
    assert rows["other"]["sd"] is None
    compared_to = rows["other"]["difference"] if rows["both"]["rank"] == 1 else -rows["both"]["difference"]
    assert compared_to == pytest.approx((other - (a + b) / 2).mean())


def test_folds_make_one_set_of_what_each_held_out(tmp_path):
    names = [f"image{index}" for index in range(24)]
    folds = tuple(
        evaluated(tmp_path / f"fold{n}", "held-out", names[n::3], SINGLE[n::3], dice=GOOD[n::3]) for n in range(3)
    )
    whole = evaluated(tmp_path / "whole", "held-out", dice=POOR)
    found = leaderboard([LeaderboardEntry("folds", folds), LeaderboardEntry("whole", (whole,))], **DICE)["tests"][
        "held-out"
    ]
    assert found["images"] == 24
    first = found["metrics"]["dice"]["rows"][0]
    assert (first["entry"], first["runs"]) == ("folds", 3)
    assert first["mean"] == pytest.approx(GOOD.mean())
    assert first["sd"] == pytest.approx(np.std([GOOD[n::3].mean() for n in range(3)], ddof=1))


def test_only_shared_images_on_which_all_define_the_metric_count(tmp_path):
    holes = GOOD.copy()
    holes[3] = np.nan
    a = evaluated(tmp_path / "a", dice=holes)
    b = evaluated(tmp_path / "b", dice=FAIR[:20])
    c = evaluated(tmp_path / "c", "etis", dice=POOR)
    runs = [LeaderboardEntry(path.name, (path,)) for path in (a, b, c)]
    document = leaderboard(runs, **DICE)
    kvasir = document["tests"]["kvasir"]
    assert (kvasir["images"], kvasir["metrics"]["dice"]["images"], kvasir["without"]) == (20, 19, ["c"])
    both = [index for index in range(20) if index != 3]
    assert {row["entry"]: row["mean"] for row in kvasir["metrics"]["dice"]["rows"]} == {
        "a": pytest.approx(GOOD[both].mean()),
        "b": pytest.approx(FAIR[both].mean()),
    }
    assert [row["entry"] for row in document["tests"]["etis"]["metrics"]["dice"]["rows"]] == ["c"]
    assert list(leaderboard(runs, tests=["etis"], **DICE)["tests"]) == ["etis"]


def test_equal_runs_share_a_rank_and_differ_in_nothing(tmp_path):
    runs = [LeaderboardEntry(name, (evaluated(tmp_path / name, dice=GOOD),)) for name in "abc"]
    rows = rows_of(runs).values()
    assert [row["rank"] for row in rows] == [1, 1, 1]
    assert [row["p_holm"] for row in rows] == [None, 1.0, 1.0]


def test_without_a_shared_image_nothing_is_ranked(tmp_path, toolkit):
    a = evaluated(tmp_path / "a", names=[f"x{index}" for index in range(24)], dice=GOOD)
    b, c = (evaluated(tmp_path / name, dice=FAIR) for name in "bc")
    assert board([LeaderboardEntry(p.name, (p,)) for p in (a, b, c)])["metrics"]["dice"]["rows"] == []
    assert "no image on which all define dice" in toolkit("compare", a, b, c, "--metric", "dice").stdout


def test_names_are_as_short_as_they_can_be(tmp_path):
    run = evaluated(tmp_path / "runs" / "mine", dice=GOOD)
    inner = evaluated(run / "baseline", dice=FAIR)
    assert [entry.name for entry in leaderboard_entries([run, inner])] == ["mine", "mine/baseline"]


def test_files_say_what_the_table_does(entries, tmp_path, toolkit):
    document = leaderboard(entries, metrics=["dice", "hd95"])
    lines = list(csv.DictReader(io.StringIO(to_csv(document))))
    assert [(line["metric"], line["entry"]) for line in lines] == [
        (metric, name) for metric in ("dice", "hd95") for name in ("good", "fair", "poor")
    ]
    row = document["tests"]["kvasir"]["metrics"]["dice"]["rows"][1]
    assert float(lines[1]["mean"]) == row["mean"]
    assert [float(lines[1][f"ci_{end}"]) for end in ("low", "high")] == row["ci"]
    assert lines[0]["p"] == lines[0]["difference_ci_low"] == ""
    markdown = to_markdown(document).splitlines()
    assert markdown[0] == "### kvasir: dice, 24 images"
    assert {line.count("|") for line in markdown if line.startswith("|")} == {9}
    runs = [entry.runs[0] for entry in entries]
    options = ["--metric", "dice", "--metric", "hd95"]
    assert json.loads(toolkit("compare", *runs, *options, "--json").stdout) == document
    assert toolkit("compare", *runs, *options, "--format", "csv").stdout == to_csv(document)
    toolkit("compare", *runs, *options, "-o", tmp_path / "table.md")
    assert (tmp_path / "table.md").read_text() == to_markdown(document)
    assert "diff. is from good" in toolkit("compare", *runs, *options).stdout
    said = toolkit("compare", *runs[:2], *options, "--baseline", runs[0]).stdout
    assert "diff. is from poor" in said


def test_two_runs_stay_side_by_side(entries):
    runs = [entry.runs[0] for entry in entries]
    options = {"tests": (), "metrics": ["dice"], "baseline": None}
    assert "a" in compare_entries(runs[:2], pairwise=True, **options)
    assert "entries" in compare_entries(runs[:2], pairwise=False, **options)
    assert "entries" in compare_entries(runs, pairwise=True, **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--baseline", "god"], "Did you mean 'good'"),
        (["--test", "kvasi"], "Did you mean 'kvasir'"),
        (["--metric", "dise"], "Did you mean 'dice'"),
        (["--format", "csv", "--json"], "contradict each other"),
        (["-o", "table.txt"], "Say --format markdown, csv or json"),
    ],
)
def test_wrong_options_get_a_sentence(entries, toolkit, options, sentence):
    said = toolkit("compare", *(entry.runs[0] for entry in entries), *options, code=2).stderr
    assert sentence in " ".join(said.split())


def test_one_run_has_nothing_to_be_compared_with(entries, toolkit):
    run = entries[0].runs[0]
    assert "one run alone" in toolkit("compare", run, code=2).stderr
    with pytest.raises(UsageError, match="given twice"):
        leaderboard_entries([run, run, run])
