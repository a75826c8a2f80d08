from pathlib import Path
from typing import Literal

import pytest

from transeg.core.component_options import check_options, options
from transeg.core.errors import UsageError


class Base:
    """Base.

    Args:
        inherited: said in the base class.
    """


class Thing(Base):
    """A thing.

    Args:
        channels: not an option, as it is positional.
        width: how wide it is,
            over two lines.
        mode: which one.
    """

    def __init__(
        self,
        channels,
        *,
        width: int = 3,
        mode: Literal["a", "b"] = "a",
        file: Path | None = None,
        inherited: float = 0.5,
        sizes: tuple[int, ...] = (),
    ):
        pass


def test_options_are_the_keyword_arguments():
    found = options(Thing)
    assert list(found) == ["width", "mode", "file", "inherited", "sizes"]
    assert found["width"].default == 3
    assert found["width"].help == "how wide it is, over two lines."
    assert found["inherited"].help == "said in the base class."
    assert found["mode"].type_name == "'a' or 'b'"
    assert found["file"].type_name == "Path | None"


def test_values_are_converted_and_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = check_options(Thing, {"width": "5", "file": "a.txt", "sizes": [1, "2"]}, "thing")
    assert values == {"width": 5, "mode": "a", "file": tmp_path / "a.txt", "inherited": 0.5, "sizes": (1, 2)}


@pytest.mark.parametrize(("text", "sizes"), [("0, 127", (0, 127)), ("5", (5,)), ([1, 2], (1, 2))])
def test_lists_are_divided_by_commas_where_a_shell_would_eat_quotes(text, sizes):
    assert check_options(Thing, {"sizes": text}, "thing")["sizes"] == sizes


def test_unknown_options_get_the_nearest():
    with pytest.raises(UsageError, match=r"no option thing.widht. Did you mean 'width'"):
        check_options(Thing, {"widht": 1}, "thing")


@pytest.mark.parametrize(("name", "value"), [("width", "wide"), ("mode", "c"), ("sizes", 3), ("sizes", "1,a")])
def test_wrong_values_get_a_sentence(name, value):
    with pytest.raises(UsageError, match=rf"thing.{name} cannot be {value!r}"):
        check_options(Thing, {name: value}, "thing")


def test_options_without_default_must_be_given():
    class Needy:
        def __init__(self, *, must: int):
            pass

    with pytest.raises(UsageError, match="needs a value for must"):
        check_options(Needy, {}, "needy")
