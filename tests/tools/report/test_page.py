import pytest

from transeg.core.errors import UsageError
from transeg.tools.report.page import MARK, check_writable, format_bounds, format_duration, format_value


def test_values_in_words():
    assert [format_value(None), format_value(0.12345), format_value(-0.5), format_value(123.456)] == [
        "\N{EN DASH}",
        "0.123",
        "\N{MINUS SIGN}0.500",
        "123.5",
    ]
    assert format_value(-0.0004) == "0.000"
    assert format_bounds(None) == ""
    assert format_bounds((0.1, 0.25)) == "[0.10, 0.25]"
    assert [format_duration(4.25), format_duration(185), format_duration(3720)] == ["4.2 s", "3 min 05 s", "1 h 02 min"]


def test_only_a_report_is_replaced(tmp_path):
    check_writable(tmp_path / "new" / "report.html")
    old = tmp_path / "old.html"
    old.write_text(f'<!doctype html>\n{MARK} 0.1.0">')
    check_writable(old)
    thesis = tmp_path / "thesis.html"
    thesis.write_text("<p>years of work")
    check_writable(tmp_path / "report.html")
    assert not list(tmp_path.glob(".writable*"))
    for place, reason in ((thesis, "is not a report"), (tmp_path, "is a folder"), (thesis / "r.html", "cannot be")):
        with pytest.raises(UsageError, match=reason):
            check_writable(place)
