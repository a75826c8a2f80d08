import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transeg.core.data.splits import group_k_fold, read_lists, split_by_lists, split_by_ratio
from transeg.core.errors import DataError


@given(st.lists(st.sampled_from("abcdefghijklmnopqrst"), min_size=1), st.integers(0, 5))
def test_a_ratio_cuts_no_group_and_loses_nothing(groups, seed):
    splits = split_by_ratio(groups, seed=seed)
    assert sorted(i for members in splits.values() for i in members) == list(range(len(groups)))
    where = {}
    for split, members in splits.items():
        for index in members:
            assert where.setdefault(groups[index], split) == split


@given(st.permutations([str(i) for i in range(12)]))
def test_a_ratio_does_not_depend_on_the_order(names):
    by_name = {name: split for split, members in split_by_ratio(names).items() for name in (names[i] for i in members)}
    plain = split_by_ratio(sorted(names))
    assert by_name == {sorted(names)[i]: split for split, members in plain.items() for i in members}


def test_shares_are_kept():
    sizes = {split: len(members) for split, members in split_by_ratio([str(i) for i in range(1000)]).items()}
    assert sizes == {"train": 800, "val": 100, "test": 100}
    assert [len(m) for m in split_by_ratio(list("abc")).values()] == [1, 1, 1]
    assert [len(m) for m in split_by_ratio(list("abcd"), (0.0, 0.0, 1.0)).values()] == [0, 0, 4]


def test_lists_name_files_with_or_without_extension(tmp_path):
    file = tmp_path / "splits.json"
    file.write_text(json.dumps({"train": ["a.jpg", "b"], "test": ["c.png"]}))
    lists = read_lists(file)
    assert split_by_lists(["a", "b", "c", "d"], lists, "x") == {"train": [0, 1], "val": [], "test": [2]}


@pytest.mark.parametrize(
    ("lists", "sentence"),
    [({"train": ["z"]}, "no such image"), ({"train": ["a"], "test": ["a.png"]}, "in both train and test")],
)
def test_wrong_lists_get_a_sentence(lists, sentence):
    with pytest.raises(DataError, match=sentence):
        split_by_lists(["a", "b"], lists, "splits.json")


@pytest.mark.parametrize("content", ["[1]", "{", '{"trian": []}', '{"train": "a"}'])
def test_wrong_files_get_a_sentence(tmp_path, content):
    file = tmp_path / "splits.json"
    file.write_text(content)
    with pytest.raises(DataError, match="split file"):
        read_lists(file)


def test_published_lists_are_folders_of_text(tmp_path):
    (tmp_path / "train.txt").write_text("a.jpg\nb\n\n")
    (tmp_path / "validation.txt").write_text("c\n")
    assert read_lists(tmp_path) == {"train": ["a.jpg", "b"], "val": ["c"]}


def test_published_lists_are_folders_of_images(tmp_path):
    for split, name in {"train": "a.png", "validation": "b.png", "test": "c.png"}.items():
        (tmp_path / split / "images").mkdir(parents=True)
        (tmp_path / split / "images" / name).touch()
    lists = read_lists(tmp_path)
    assert split_by_lists(["a", "b", "c"], lists, "x") == {"train": [0], "val": [1], "test": [2]}


def test_other_folders_get_a_sentence(tmp_path):
    with pytest.raises(DataError, match=r"neither train\.txt nor train/images/"):
        read_lists(tmp_path)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=30), st.integers(2, 5))
def test_folds_cut_no_group(groups, count):
    found = group_k_fold(groups, count)
    assert len(found) == (min(count, len(set(groups))) if len(set(groups)) > 1 else 0)
    if found:
        assert sorted(index for fold in found for index in fold) == list(range(len(groups)))
        assert all(found)
    owners = [{groups[index] for index in fold} for fold in found]
    assert sum(map(len, owners)) == len(set().union(*owners))
    assert found == group_k_fold(groups, count)


def test_folds_are_of_nearly_one_size():
    sizes = [len(fold) for fold in group_k_fold([*"aaaabbbb", *"cdefghijklmn"], 5)]
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(0, 12).map(str), max_size=60), st.integers(2, 6), st.integers(0, 3))
def test_each_group_goes_to_the_fold_that_is_smallest_by_then(groups, count, seed):
    names = sorted(set(groups))
    random.Random(seed).shuffle(names)
    folds = [[] for _ in range(min(count, len(names)) if len(names) > 1 else 0)]
    for name in sorted(names, key=lambda name: -groups.count(name)) if folds else ():
        min(folds, key=lambda fold: sum(map(groups.count, fold))).append(name)
    assert group_k_fold(groups, count, seed) == [[i for i, g in enumerate(groups) if g in fold] for fold in folds]
