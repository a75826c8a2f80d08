from transeg.core.report.results import Row, _means


def test_a_mean_of_zero_is_drawn_and_none_is_not():
    rows = [Row(name, 2, {"dice": (mean, None)}) for name, mean in (("one", 0.4), ("other", 0.0), ("third", None))]
    drawn = _means("means", "phantom", rows)
    assert "one 0.400; other 0.000<" in drawn
    assert "third" not in drawn
