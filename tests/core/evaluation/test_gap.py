"""Tables whose answers were worked out by hand."""

import numpy as np
import pytest

from transeg.core.evaluation.gap import shares_of_gap
from transeg.core.evaluation.image_values import image_values, shared_images


def table(groups, **entries):
    """Values of one metric: of each entry a list of its runs, each a list of one value an image."""
    lines = {
        name.replace("_", "-"): [
            {f"image{at}": {"group": group, "dice": str(run[at])} for at, group in enumerate(groups)} for run in runs
        ]
        for name, runs in entries.items()
    }
    return image_values(lines, shared_images(lines), "dice")


def found(values, **options):
    made = shares_of_gap(values, "source-only", "oracle", **options)
    return made, {entry["entry"]: entry for entry in made["entries"]}


def test_two_groups_by_hand():
    """Draws of two groups are aa, ab or bb, a quarter, a half and a quarter of them: the ends are those of a and b.

    Seeds of source-only average to 0.2 in a and 0.4 in b. The gap is 0.6 in a, 0.4 in b, 0.5 over both; the rung is
    0.3 of 0.6 above in a, 0.1 of 0.4 in b, and 0.2 of 0.5 over both.
    """
    values = table("ab", source_only=[[0.1, 0.5], [0.3, 0.3]], fda=[[0.5, 0.5]], oracle=[[0.8, 0.8]])
    made, by_name = found(values)
    assert made["gap"] == {"value": pytest.approx(0.5), "ci": pytest.approx([0.4, 0.6])}
    assert made["note"] == ""
    assert by_name["fda"]["share"] == pytest.approx(0.4)
    assert by_name["fda"]["share_ci"] == pytest.approx([0.25, 0.5])
    assert by_name["fda"]["difference"] == pytest.approx(0.2)
    assert by_name["fda"]["difference_ci"] == pytest.approx([0.1, 0.3])
    assert (by_name["source-only"]["share"], by_name["source-only"]["share_ci"]) == (0, None)
    assert (by_name["oracle"]["share"], by_name["oracle"]["share_ci"]) == (1, None)
    assert by_name["source-only"]["mean"] == pytest.approx(0.3)
    assert by_name["source-only"]["ci"] == pytest.approx([0.2, 0.4])
    assert by_name["source-only"]["range"] == pytest.approx([0.3, 0.3])
    assert by_name["fda"]["range"] is None
    assert by_name["source-only"]["of_groups"] == pytest.approx({"a": 0.2, "b": 0.4})


def test_images_count_and_groups_are_drawn_whole():
    """Group a has three images, b one. Means over images: 0.2, 0.5 and 0.8; a share is the ratio of these."""
    values = table("aaab", source_only=[[0.1, 0.2, 0.3, 0.2]], fda=[[0.6, 0.6, 0.6, 0.2]], oracle=[[0.8] * 4])
    _, by_name = found(values)
    assert by_name["fda"]["share"] == pytest.approx((0.5 - 0.2) / (0.8 - 0.2))
    assert by_name["fda"]["share_ci"] == pytest.approx([0.0, 0.4 / 0.6])


def test_a_rung_may_lose_or_pass_the_oracle():
    values = table("ab", source_only=[[0.4, 0.4]], worse=[[0.3, 0.3]], better=[[1.0, 1.0]], oracle=[[0.8, 0.8]])
    _, by_name = found(values)
    assert by_name["worse"]["share"] == pytest.approx(-0.25)
    assert by_name["better"]["share"] == pytest.approx(1.5)


def test_no_share_where_the_gap_may_be_none():
    """The gap is +0.2 in a and -0.1 in b: its interval, from one to the other, contains zero."""
    made, by_name = found(table("ab", source_only=[[0.4, 0.6]], fda=[[0.5, 0.5]], oracle=[[0.6, 0.5]]))
    assert made["gap"] == {"value": pytest.approx(0.05), "ci": pytest.approx([-0.1, 0.2])}
    assert {entry["share"] for entry in by_name.values()} == {None}
    assert made["note"] == (
        "No share of the gap is given: the gap from source-only to oracle, +0.050 [-0.100, 0.200], may be none, for "
        "its interval contains zero."
    )


def test_no_share_where_the_oracle_is_worse():
    values = table("ab", source_only=[[0.6, 0.7]], oracle=[[0.4, 0.4]])
    assert found(values)[0]["note"].endswith("oracle is the worse one.")
    made, by_name = found(values, lower_is_better=True)  # a distance
    assert made["note"] == ""
    assert by_name["oracle"]["share"] == 1


def test_no_share_without_an_oracle_or_with_one_group():
    assert found(table("ab", source_only=[[0.4, 0.6]]))[0]["note"].startswith("Without oracle")
    made, by_name = found(table("aa", source_only=[[0.4, 0.6]], oracle=[[0.8, 0.8]]))
    assert "one group" in made["note"]
    assert by_name["oracle"]["ci"] is by_name["oracle"]["share"] is None


def test_p_from_nine_groups_on():
    """Nine equal gains: of 2^9 ways to flip signs, two are as extreme. Holm doubles the least of two p."""
    groups = [f"video{number}" for number in range(9)]
    low = list(np.linspace(0.2, 0.6, 9))
    values = table(groups, source_only=[low], same=[low], oracle=[[each + 0.1 for each in low]])
    _, by_name = found(values)
    assert by_name["oracle"]["p"] == pytest.approx(2 / 512)
    assert by_name["oracle"]["p_holm"] == pytest.approx(4 / 512)
    assert by_name["same"]["p_holm"] == 1
    assert by_name["source-only"]["p"] is by_name["source-only"]["p_holm"] is None
    fewer = table(groups[:8], source_only=[low[:8]], oracle=[[each + 0.1 for each in low[:8]]])
    assert {entry["p"] for entry in found(fewer)[1].values()} == {None}


def test_nothing_in_common():
    made, _ = found(table("", source_only=[[]], oracle=[[]]))
    assert (made["images"], made["entries"]) == (0, [])
