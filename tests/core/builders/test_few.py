import numpy as np
import pytest

from transeg.core.builders.few import draw_few
from transeg.core.errors import UsageError
from transeg.core.interfaces import Dataset, Sample

GROUPS = ["a", "b", "c", "a", "b", "c", "a", "b", "c"]


class Videos(Dataset):
    def __len__(self):
        return len(GROUPS)

    def __getitem__(self, index):
        return Sample(np.zeros((1, 1, 3), np.uint8), None, str(index), GROUPS[index])


def drawn(count, seed):
    few = draw_few(Videos(), count, seed)
    return [few[place].name for place in range(len(few))]


def test_groups_are_drawn_and_filled_one_after_the_other():
    assert drawn(3, 0) in (["0", "3", "6"], ["1", "4", "7"], ["2", "5", "8"])
    first, more = drawn(3, 0), drawn(4, 0)
    assert set(first) < set(more)
    assert len({GROUPS[int(name)] for name in more}) == 2
    assert len({tuple(drawn(3, seed)) for seed in range(8)}) == 3
    assert drawn(9, 5) == [str(index) for index in range(9)]


def test_there_must_be_so_many():
    with pytest.raises(UsageError, match=r"10 images are to be drawn .* there are 9"):
        draw_few(Videos(), 10, 0)
