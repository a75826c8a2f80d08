import os

from transeg.core.runs.evaluations import is_later, new_evaluation, score_files
from transeg.core.runs.run_folder import RunFolder


def test_each_evaluation_has_a_folder_of_its_own(tmp_path):
    folder = RunFolder(tmp_path)
    first = new_evaluation(folder, ["kvasir", "etis"])
    assert first.parent == tmp_path / "evaluations"
    assert first.name.startswith("kvasir+etis-20")
    first.mkdir(parents=True)
    assert new_evaluation(folder, ["kvasir", "etis"]) != first


def test_a_runs_own_numbers_come_first_and_then_the_newest(tmp_path):
    files = ["evaluation/a.csv", "evaluations/x/a.csv", "evaluations/x/b.csv", "evaluations/y/b.csv"]
    for number, name in enumerate([*files, "evaluations/y/c-translation.csv"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        os.utime((tmp_path / name).parent, (number, number))
    found = score_files(tmp_path)
    assert found == {"a": tmp_path / files[0], "b": tmp_path / files[3]}
    assert [is_later(path) for path in found.values()] == [False, True]
    os.utime(tmp_path / "evaluations" / "x", (99, 99))
    assert score_files(tmp_path)["b"] == tmp_path / files[2]


def test_a_folder_of_csv_files_is_as_good(tmp_path):
    (tmp_path / "a.csv").touch()
    assert score_files(tmp_path) == {"a": tmp_path / "a.csv"}
