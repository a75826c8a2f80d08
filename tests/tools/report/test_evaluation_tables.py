import numpy as np

from transeg.tools.report.evaluation_tables import Row, _class_row, _means
from transeg.tools.report.record import Scores


def test_images_without_a_class_do_not_count_for_it():
    values = {f"{metric}_axon": np.array([0.5, np.nan, 1.0]) for metric in ("dice", "iou", "hd95")}
    row = _class_row("axon", Scores(["a", "b", "c"], ["a", "b", "c"], values, None))
    assert row.images == 2
    assert row.values["dice"][0] == 0.75


def test_a_mean_of_zero_is_drawn_and_none_is_not():
    rows = [Row(name, 2, {"dice": (mean, None)}) for name, mean in (("one", 0.4), ("other", 0.0), ("third", None))]
    drawn = _means("means", "phantom", rows)
    assert "one 0.400; other 0.000<" in drawn
    assert "third" not in drawn
