"""Which images of a folder each role gets."""

import itertools
import json

import numpy as np
import pytest
from PIL import Image

from transeg.core.builders.datasets import build_dataset, validation_split
from transeg.core.builders.folder_shares import folder_shares
from transeg.core.builders.seen_images import SeenImages, check_unseen, recall_seen, unseen_rest
from transeg.core.data.splits import split_by_ratio
from transeg.core.errors import UsageError
from transeg.core.experiment.completion import complete_dataset, complete_experiment, load_experiment
from transeg.core.experiment.request import complete_request
from transeg.core.experiment.shares import ratios
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

REGISTRY = Registry()
ROLES = ("source", "target", "val", "test")


def write_set(root, count, *, first=0, groups=1):
    """Images of noise, so that no two are alike, with masks."""
    for number in range(first, first + count):
        noise = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
        for kind, pixels in (("images", noise), ("masks", np.where(noise > 127, 255, 0).astype(np.uint8))):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / kind / f"g{number // groups}_{number}.png")
    return root


@pytest.fixture
def folders(tmp_path):
    return {name: write_set(tmp_path / name, 20, first=100 * index) for index, name in enumerate("abcd")}


def experiment(tests=(), **roots):
    """A run of those folders, with options of a role as a tuple of the folder and a dictionary."""
    tables = {}
    for role, value in {**roots, **dict(tests)}.items():
        root, more = value if isinstance(value, tuple) else (value, {})
        tables[role] = {"name": "folder", "root": str(root), **more}
    data = {
        "size": 16,
        **{role: tables[role] for role in roots},
        "test": {label: tables[label] for label in dict(tests)},
    }
    settings = {"segmenter": {"name": "unet"}, "device": "cpu", "data": data}
    if "target" in roots:
        settings["generator"] = {"name": "cut"}
    return complete_experiment(settings, REGISTRY)


def images(found):
    """Names of the images of each role."""
    data = found.data
    choices = {role: getattr(data, role) for role in ("source", "target", "val") if getattr(data, role) is not None}
    parts = {role: build_dataset(choice, role, REGISTRY) for role, choice in choices.items()}
    if data.val is None:
        parts["own val"] = validation_split(data.source, REGISTRY) or ()
    parts |= {f"test {label}": build_dataset(choice, "test", REGISTRY) for label, choice in data.test.items()}
    return {role: {part.place_of(i)[0] for i in range(len(part))} for role, part in parts.items() if len(part)}


@pytest.mark.parametrize(
    ("named", "counts"),
    [
        ({"source": "a", "test": "b"}, {"source": 18, "own val": 2, "test t": 20}),
        ({"source": "a", "test": "a"}, {"source": 14, "own val": 2, "test t": 4}),
        ({"source": "a", "val": "b", "test": "c"}, {"source": 20, "val": 20, "test t": 20}),
        ({"source": "a", "val": "b", "test": "b"}, {"source": 20, "val": 4, "test t": 16}),
        ({"source": "a", "val": "a", "test": "b"}, {"source": 16, "val": 4, "test t": 20}),
        ({"source": "a", "val": "a", "test": "a"}, {"source": 13, "val": 3, "test t": 4}),
        ({"source": "a", "target": "b", "test": "c"}, {"source": 18, "own val": 2, "target": 20, "test t": 20}),
        ({"source": "a", "target": "b", "test": "b"}, {"source": 18, "own val": 2, "target": 16, "test t": 4}),
        ({"source": "a", "target": "a", "test": "b"}, {"source": 14, "own val": 2, "target": 4, "test t": 20}),
        ({"source": "a", "target": "a", "test": "a"}, {"source": 12, "own val": 1, "target": 3, "test t": 4}),
    ],
)
def test_a_folder_is_whole_for_one_role_and_shared_between_several(folders, named, counts):
    roots = {role: folders[letter] for role, letter in named.items() if role != "test"}
    found = images(experiment({"t": folders[named["test"]]}, **roots))
    assert {role: len(names) for role, names in found.items()} == counts
    for one, other in itertools.combinations(found.values(), 2):
        assert not one & other


@pytest.mark.parametrize("count", range(1, 5))
def test_no_share_meets_that_of_tests(count):
    for roles in itertools.combinations(ROLES, count):
        for keeps in (True, False):
            shares = ratios(roles, keeps_val=keeps and "val" not in roles)
            for size in range(3, 60):
                parts = {
                    role: set(split_by_ratio([str(i) for i in range(size)], ratio)[split])
                    for role, (split, ratio) in shares.items()
                }
                assert all(parts.values())
                assert not any(parts["test"] & parts[role] for role in parts if "test" in parts and role != "test")


def test_a_link_is_the_same_folder_and_groups_are_never_cut(tmp_path):
    write_set(tmp_path / "a", 30, groups=3)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    group = {"group": "g[0-9]+"}
    found = images(experiment({"t": (tmp_path / "link", group)}, source=(tmp_path / "a", group)))
    groups = {role: {path.name.partition("_")[0] for path in paths} for role, paths in found.items()}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 10


def test_the_data_sets_own_seed_divides_a_folder_and_that_of_a_run_does_not(folders):
    def tests_of(run_seed, **more):
        settings = {
            "segmenter": {"name": "unet"},
            "device": "cpu",
            "seed": run_seed,
            "data": {
                "size": 16,
                "source": {"name": "folder", "root": str(folders["a"]), **more},
                "test": {"t": {"name": "folder", "root": str(folders["a"])}},
            },
        }
        return images(complete_experiment(settings, REGISTRY))["test t"]

    assert tests_of(0) == tests_of(1)
    assert tests_of(0) != tests_of(0, seed=1)


def test_tests_follow_the_seed_of_a_target_in_their_folder(folders):
    found = images(experiment({"t": folders["b"]}, source=folders["a"], target=(folders["b"], {"seed": 5})))
    assert len(found["target"] | found["test t"]) == 20


@pytest.mark.parametrize("option", [{"split": "all"}, {"split": "train"}, {"ratio": [0.5, 0.25, 0.25]}])
def test_what_a_user_says_of_a_folder_stands(folders, option):
    found = experiment({"t": folders["b"]}, source=(folders["a"], option))
    shares = {key: getattr(found.data.source, key) for key in ("split", "ratio")}
    assert shares == {"split": option.get("split", "train"), "ratio": tuple(option.get("ratio", (0.8, 0.1, 0.1)))}
    both = experiment({"t": folders["a"]}, source=(folders["a"], {"ratio": [0.5, 0.25, 0.25]}))
    assert {role: len(names) for role, names in images(both).items()} == {"source": 10, "own val": 5, "test t": 5}


def test_a_division_of_its_own_is_honoured(tmp_path):
    for split, first in (("train", 0), ("val", 50), ("test", 60)):
        write_set(tmp_path / "set" / split, 4, first=first)
    for named in ({"t": tmp_path / "set"}, {}):
        found = images(experiment(named, source=tmp_path / "set", target=tmp_path / "set"))
        assert all(len(names) == 4 for names in found.values())
        assert found["source"] == found["target"]
    lists = tmp_path / "lists.json"
    write_set(tmp_path / "plain", 4)
    lists.write_text(json.dumps({"train": ["g0_0"], "val": ["g1_1"], "test": ["g2_2"]}))
    found = images(experiment({"t": tmp_path / "plain"}, source=(tmp_path / "plain", {"splits": str(lists)})))
    assert {role: len(names) for role, names in found.items()} == {"source": 1, "own val": 1, "test t": 1}


@pytest.mark.parametrize("name", ["folder", "kvasir"])
@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}", "{Split}/{Kind}", "{Kind}/{Split}"])
def test_a_division_by_folders_is_seen_however_they_are_called(tmp_path, name, layout):
    write_set(tmp_path / "plain", 6)
    for split, numbers in (("train", (0, 1, 2, 3)), ("test", (4, 5))):
        for kind, number in itertools.product(("images", "masks"), numbers):
            words = {"split": split, "kind": kind, "Split": split.title(), "Kind": kind.title()}
            place = tmp_path / "set" / layout.format(**words) / f"g{number}_{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "plain" / kind / place.name).rename(place)
    assert REGISTRY.load(REGISTRY.find("dataset", name)).is_divided(tmp_path / "set", {})
    table = {"name": name, "root": str(tmp_path / "set")}
    found = {
        role: len(build_dataset(complete_dataset(table, role, REGISTRY), role, REGISTRY)) for role in ("target", "test")
    }
    assert found == {"target": 4, "test": 2}


def test_published_test_sets_stay_tests_and_others_are_used_whole(tmp_path):
    write_set(tmp_path / "set", 10)
    tables = [{"name": name, "root": str(tmp_path / "set")} for name in ("etis", "kvasir")]
    counts = [
        {
            role: len(build_dataset(complete_dataset(table, role, REGISTRY), role, REGISTRY))
            for role in ("target", "test")
        }
        for table in tables
    ]
    assert counts == [{"target": 0, "test": 10}, {"target": 10, "test": 10}]


def test_a_stored_run_has_the_shares_that_it_had(folders, tmp_path):
    """Shares are spelled out in what a run stores; what an older transeg stored says `split`, and stays as it is."""
    now = experiment({"t": folders["a"]}, source=folders["a"])
    run = RunFolder(tmp_path / "run")
    run.create()
    run.experiment.write_text(now.to_toml())
    assert load_experiment(run.experiment, REGISTRY).data == now.data
    resumed = complete_request({}, REGISTRY, run_dir=run.path, resume=True, dry_run=True).experiment
    assert resumed.data == now.data
    old = now.to_toml().replace("0.72", "0.8").replace("0.08", "0.1").replace("0.2,", "0.1,")
    run.experiment.write_text(old)
    resumed = complete_request({}, REGISTRY, run_dir=run.path, resume=True, dry_run=True).experiment
    assert resumed.data.source.ratio == resumed.data.test["t"].ratio == (0.8, 0.1, 0.1)
    assert {role: len(names) for role, names in images(resumed).items()} == {"source": 16, "own val": 2, "test t": 2}


def test_the_phantom_is_as_it_was():
    data = complete_experiment(
        {"generator": {"name": "cut"}, "segmenter": {"name": "hardnet"}, "device": "cpu"}, REGISTRY
    ).data
    chosen = (data.source, data.target, data.test["phantom"])
    sizes = [len(build_dataset(choice, "source", REGISTRY)) for choice in chosen]
    assert [choice.split for choice in chosen] == ["train", "train", "test"]
    assert sizes == [200, 200, 40]


def test_a_plan_knows_how_many_images_folders_have_and_who_has_the_others(folders):
    data = experiment({"t": folders["b"]}, source=folders["a"], target=folders["b"]).data
    wanted = {"source": (20, "validation"), "target": (20, "test"), "test.t": (20, "target")}
    assert folder_shares(data, REGISTRY, {"source": 18, "val": 2, "target": 16, "test.t": 4}) == wanted
    assert folder_shares(data, REGISTRY, {"source": 18, "target": 16, "test.t": 4}) == wanted  # no validation is built
    usual = experiment(source=(folders["a"], {"split": "train"})).data
    assert folder_shares(usual, REGISTRY, {"source": 16, "val": 2}) == {"source": (20, "validation and not used")}


class TestSeen:
    def whole(self, root):
        return build_dataset(
            complete_dataset({"name": "folder", "root": str(root)}, "test", REGISTRY), "test", REGISTRY
        )

    def test_images_trained_on_are_refused_by_path_and_by_content(self, tmp_path):
        trained = self.whole(write_set(tmp_path / "a", 5))
        copies = write_set(tmp_path / "b", 3, first=2)  # two of them under the names that they have in a
        (copies / "images" / "g4_4.png").rename(copies / "images" / "other.png")
        (copies / "masks" / "g4_4.png").rename(copies / "masks" / "other.png")
        seen = SeenImages.of({"source": trained})
        for tests, count in ((trained, "5 of 5"), (self.whole(copies), "3 of 3")):
            with pytest.raises(UsageError, match=f"{count} test images of t are also trained on with their labels"):
                check_unseen({"t": tests}, seen, transductive=True)
        assert check_unseen({"t": self.whole(write_set(tmp_path / "c", 5, first=50))}, seen, transductive=False) == {}

    def test_only_files_of_equal_sizes_are_looked_into(self, tmp_path, monkeypatch):
        seen = SeenImages.of({"source": self.whole(write_set(tmp_path / "a", 3))})
        root = tmp_path / "b"
        for kind in ("images", "masks"):
            (root / kind).mkdir(parents=True)
            Image.new("L", (40, 40)).save(root / kind / "x.png")
        monkeypatch.setattr(SeenImages, "_digest", lambda *_: pytest.fail("a file was read"))
        assert not seen.among(self.whole(root))

    def test_large_files_of_one_size_are_told_apart(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (2100, 2100), dtype=np.uint8)  # above 4 MiB
        for name in ("a", "b"):
            for kind in ("images", "masks"):
                (tmp_path / name / kind).mkdir(parents=True)
                Image.fromarray(noise if name == "a" else np.roll(noise, 7)).save(tmp_path / name / kind / "x.bmp")
        seen = SeenImages.of({"source": self.whole(tmp_path / "a")})
        assert not seen.among(self.whole(tmp_path / "b"))
        assert len(seen.among(self.whole(tmp_path / "a"))) == 1

    def test_target_images_are_allowed_when_asked_for_and_said(self, tmp_path):
        seen = SeenImages.of({"target": self.whole(write_set(tmp_path / "a", 4))})
        tests = {"t": self.whole(write_set(tmp_path / "b", 6))}
        with pytest.raises(UsageError, match=r"4 of 6 .* Say --transductive"):
            check_unseen(tests, seen, transductive=False)
        assert "4 of 6 test images were seen" in check_unseen(tests, seen, transductive=True)["t"]

    def test_they_are_found_again_when_all_that_is_left_of_them_is_written_down(self, tmp_path):
        root = write_set(tmp_path / "a", 6)
        stored = json.loads(json.dumps(SeenImages.of({"source": self.whole(root)}).stored()))
        root.rename(tmp_path / "moved")
        write_set(tmp_path / "moved", 2, first=90)
        found = SeenImages.read(stored)
        rest = unseen_rest(self.whole(tmp_path / "moved"), found, transductive=False)
        assert [rest.place_of(index)[0].name for index in range(len(rest))] == ["g90_90.png", "g91_91.png"]

    def test_a_run_that_wrote_nothing_down_is_asked_for_its_folders(self, folders, tmp_path):
        found = experiment({"t": folders["a"]}, source=folders["a"])
        seen = recall_seen(RunFolder(tmp_path / "old"), found, REGISTRY)
        rest = unseen_rest(self.whole(folders["a"]), seen, transductive=False)
        assert {rest.place_of(index)[0] for index in range(len(rest))} == images(found)["test t"]

    def test_images_of_one_hdf5_file_are_told_apart(self, tmp_path):
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "set.h5", "w") as file:
            for number in range(6):
                file[f"sem/{number}"] = np.full((16, 16), number, np.uint8)
        parts = [
            build_dataset(
                complete_dataset({"name": "hdf5", "root": str(tmp_path), "split": split}, "source", REGISTRY),
                "source",
                REGISTRY,
            )
            for split in ("train", "test", "all")
        ]
        seen = SeenImages.of({"source": parts[0]})
        assert not seen.among(parts[1])
        assert len(seen.among(parts[2])) == len(parts[0])
