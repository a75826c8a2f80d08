import pytest

from transeg.core.errors import UsageError
from transeg.tools.ladder.rungs import RUNGS, parse_rung, parse_rungs


def names(*given):
    return [rung.name for rung in parse_rungs(given)]


def test_rungs_stand_in_the_order_of_the_table_and_begin_with_the_lowest():
    assert names("oracle", "fda", "few=10", "few=5", "fda+strong") == [
        "source-only", "fda", "fda+strong", "few=5", "few=10", "oracle",
    ]  # fmt: skip
    assert names(*RUNGS) == list(RUNGS)


def test_strong_goes_with_any_rung():
    for name, rung in RUNGS.items():
        assert parse_rung(f"{name}+strong").strong
        assert not rung.strong or name == "source-strong"
    assert parse_rung("source-only+strong") == parse_rung("source-strong") == parse_rung("source-strong+strong")
    few = parse_rung("few-10+strong")  # as its cell's folder is called
    assert (few.name, few.few, few.strong) == ("few=10+strong", 10, True)


def test_adapted_rungs_are_trained_as_without_and_stand_behind():
    assert names("fda+strong+tent", "fda+bn", "fda", "fda+strong") == [
        "source-only", "fda", "fda+bn", "fda+strong", "fda+strong+tent",
    ]  # fmt: skip
    rung = parse_rung("source-only+strong+bn")
    assert (rung.name, rung.strong, rung.adaptation) == ("source-strong+bn", True, "bn")
    assert (rung.trained_as, parse_rung("few-5+strong+tent").trained_as) == ("source-strong", "few=5+strong")
    with pytest.raises(UsageError, match="no rung"):
        parse_rung("fda+bn+strong")


def test_inverted_goes_with_any_rung_that_learns_from_the_source():
    assert names("joint+inverted+strong+bn", "joint+strong", "joint+inverted", "source-only+inverted+strong") == [
        "source-only", "source-strong+inverted", "joint+strong", "joint+inverted", "joint+inverted+strong+bn",
    ]  # fmt: skip
    assert parse_rung("source-strong+inverted") == parse_rung("source-only+inverted+strong")
    rung = parse_rung("few-5+inverted")
    assert (rung.name, rung.few, rung.inverted, rung.strong) == ("few=5+inverted", 5, True, False)
    assert not parse_rung("joint+strong").inverted
    with pytest.raises(UsageError, match="target's labels alone"):
        parse_rung("oracle+inverted")
    with pytest.raises(UsageError, match="in this order"):
        parse_rung("joint+strong+inverted")


def test_what_is_no_rung():
    with pytest.raises(UsageError, match=r"no rung 'histogramm'.*histogram"):
        names("histogramm")
    with pytest.raises(UsageError, match="no rung 'few=0'"):
        names("few=0")
    with pytest.raises(UsageError, match="names fda twice"):
        names("fda", " fda")
