"""Spaces as users write them."""

import math
import tomllib

import optuna
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from transeg.core.errors import UsageError
from transeg.tools.search.presets import PRESETS
from transeg.tools.search.space import Choices, Range, parse_space, parse_spaces

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
scalars = st.one_of(st.booleans(), st.integers(-(2**31), 2**31), finite, st.text(max_size=8))


def ranges():
    whole = st.tuples(st.integers(-1000, 1000), st.integers(0, 1000), st.none() | st.integers(1, 9))
    real = st.tuples(finite.filter(lambda x: abs(x) < 1e6), st.floats(0, 1e6), st.none() | st.floats(0.01, 10))
    linear = st.one_of(whole, real).map(lambda t: Range(t[0], t[0] + t[1], step=t[2]))
    logarithmic = st.tuples(st.floats(1e-9, 1), st.floats(1, 1e9)).map(lambda t: Range(*t, log=True))
    return linear | logarithmic


def choices():
    return st.lists(scalars, min_size=1, max_size=5, unique_by=lambda v: float(v) if not isinstance(v, str) else v).map(
        lambda values: Choices(tuple(values))
    )


@given(st.dictionaries(st.sampled_from(["a.b", "a.c", "d", "e.f.g"]), ranges() | choices(), min_size=1))
def test_a_file_says_the_same_again(space):
    """Whatever is searched survives search.toml."""
    table = tomllib.loads(tomli_w.dumps({option: domain.table() for option, domain in space.items()}))
    assert {option: repr(domain) for option, domain in parse_space(table).items()} == {
        option: repr(domain) for option, domain in space.items()
    }


@given(ranges() | choices())
def test_trials_choose_what_is_in_the_space(domain):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    value = domain.value(domain.suggest(study.ask(), "x"))
    if isinstance(domain, Choices):
        assert value in domain.values
    else:
        assert domain.low <= value <= domain.high + 1e-9
        assert isinstance(value, type(domain.low))
        if domain.step:
            steps = (value - domain.low) / domain.step
            assert steps == pytest.approx(round(steps), abs=1e-3)


def test_options_may_be_quoted_or_nested():
    quoted = tomllib.loads('"train.lr" = {low = 1e-5, high = 1e-2, log = true}\n"segmenter.base" = [16, 32]')
    nested = tomllib.loads("train.lr = {low = 1e-5, high = 1e-2, log = true}\n[segmenter]\nbase = {choices = [16, 32]}")
    wanted = {"train.lr": Range(1e-5, 1e-2, log=True), "segmenter.base": Choices((16, 32))}
    assert parse_space(quoted) == parse_space(nested) == wanted


def test_a_command_line_says_it_too():
    texts = ("train.lr=1e-5..1e-2:log", "train.batch_size=2..8:2", "segmenter=unet,resunet", "segmenter.aux=true,false")
    assert parse_spaces(texts) == {
        "train.lr": Range(1e-5, 1e-2, log=True),
        "train.batch_size": Range(2, 8, step=2),
        "segmenter": Choices(("unet", "resunet")),
        "segmenter.aux": Choices((True, False)),
    }
    assert parse_spaces(("a.b=0.1..0.5",)) == {"a.b": Range(0.1, 0.5)}
    assert parse_spaces(("a.b=-0.8..-0.1",)) == {"a.b": Range(-0.8, -0.1)}


def test_lists_and_what_is_not_set_can_be_chosen():
    (domain,) = parse_space({"a": {"choices": [[1, 2], [3]], "unset": True}}).values()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    chosen = [domain.value(domain.suggest(study.ask(), "a")) for _ in range(30)]
    assert all(value in chosen for value in ([1, 2], [3], None))
    assert domain.table() == {"choices": [[1, 2], [3]], "unset": True}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "cannot be 3"),
        ([], "cannot be"),
        ({}, "cannot be {}"),
        ({"low": 2, "high": 1}, "goes from 2 to 1"),
        ({"low": 0, "high": 1, "log": True}, "must be greater than zero"),
        ({"low": 1, "high": 2, "log": True, "step": 1}, "it is logarithmic"),
        ({"low": 1, "high": 2, "step": 0}, "a step must be greater than zero"),
        ({"low": 1}, "needs a number for high"),
        ({"low": True, "high": 2}, "needs a number for low"),
        ({"low": 1.0, "high": math.inf}, "needs a number for high"),
        ({"low": 1, "high": 2, "log": "yes"}, "say true or false"),
        ({"low": 1, "hihg": 2}, "Did you mean 'high'?"),
        ({"choices": [1], "low": 2}, "cannot be"),
        ([1, 1.0], "a choice twice"),
        ([1.0, math.nan], "not a finite number"),
    ],
)
def test_what_is_no_space_gets_a_sentence(value, said):
    with pytest.raises(UsageError) as caught:
        parse_space({"train.lr": value})
    assert said in str(caught.value)
    assert "train.lr" in str(caught.value)


@pytest.mark.parametrize("text", ["train.lr", "train.lr=", "=1..2", "train.lr=1..b"])
def test_a_command_line_that_says_none_gets_a_sentence(text):
    with pytest.raises(UsageError, match=r"--space|needs a number"):
        parse_spaces((text,))


def test_counts():
    assert Range(1, 4).count == 4
    assert Range(1, 4, step=2).count == 2
    assert Range(0.0, 1.0, step=0.25).count == 5
    assert Range(0.0, 1.0).count == math.inf
    assert Choices((1, None)).count == 2


def test_presets_have_ranges_that_can_be_written():
    for preset in PRESETS.values():
        assert parse_space({option: domain.table() for option, domain in preset.space.items()}) == preset.space
