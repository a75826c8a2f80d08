import io

from rich.console import Console

from transeg.core.evaluation.gap import METRICS, shares_of_gap
from transeg.core.evaluation.image_values import image_values, shared_images
from transeg.tools.ladder.ladder_tables import show_ladder

GROUPS = [f"{number}-of-a-group-with-a-long-name" for number in range(1, 9)]


def test_scores_of_groups_with_long_names_are_all_shown():
    lines = {
        rung: [{group: {"group": group, "dice": f"{0.1 * step + 0.001 * at}"} for at, group in enumerate(GROUPS, 1)}]
        for step, rung in enumerate(("source-only", "fda"), 1)
    }
    board = shares_of_gap(image_values(lines, shared_images(lines), "dice"), "source-only", "oracle")
    rungs = {rung: {"seconds": 1.0, "selection": ""} for rung in lines}
    console = Console(file=io.StringIO(), width=80)
    show_ladder(
        {
            "tests": {"set": dict.fromkeys(METRICS, board)},
            "rungs": rungs,
            "left_out": {},
            "regret": {},
            "over_rival": {},
        },
        console,
    )
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    assert all(f"{0.1 * step + 0.001 * at:.3f}" in shown for step in (1, 2) for at in range(1, 9))
    assert all(group in shown for group in GROUPS)
