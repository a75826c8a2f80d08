import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from transeg.core.training.hooks import progress


def printed(monkeypatch, *, later):
    """Lines of four iterations of ten seconds each, where nothing is a terminal."""
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(now)))
    out = io.StringIO()
    hook = progress.ProgressHook(Console(file=out, width=200), "joint", later)
    runner = SimpleNamespace(iter=0, max_iters=4)
    hook.before_train(runner)
    for number in range(4):
        hook.after_train_iter(runner, number)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("later", "words"), [(0, "20 s left"), (20, "20 s left, all stages 0:03:40")])
def test_time_left_of_a_training_and_of_all(monkeypatch, later, words):
    lines = printed(monkeypatch, later=later)
    assert lines[0] == "joint: 4 iterations"
    assert f"joint: 2/4  10.00 s/it  {words}" in lines
    assert lines[-1].startswith("joint: 4/4")
