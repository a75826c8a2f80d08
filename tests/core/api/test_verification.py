import itertools
import json
import unicodedata

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from transeg.core.analysis.image_facts import image_facts
from transeg.core.api.domain_gap import compare_domains
from transeg.core.api.verification import verify_dataset
from transeg.core.data import decoding
from transeg.core.errors import UsageError
from transeg.core.interfaces import IGNORE, Sample
from transeg.core.registry import Registry

QUIET = Console(quiet=True)


def scene(seed, size=24):
    """A smooth picture and a mask of one square."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    picture = np.stack([rows * 8, columns * 8, rows * 0 + 90], 2) + rng.integers(0, 20, (size, size, 3))
    mask = np.zeros((size, size), np.uint8)
    mask[4:10, 3 + seed % 5 : 12] = 1
    return picture.clip(0, 255).astype(np.uint8), mask


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write(root, count=5, images="images", masks="masks", change=lambda number, mask: mask * 255):
    for number in range(count):
        picture, mask = scene(number)
        save(root / images / f"{number}.png", picture)
        if masks is not None:
            save(root / masks / f"{number}.png", change(number, mask))
    return root


def verify(root, *assignments, **options):
    report = verify_dataset(f"folder:{root}", assignments, Registry(), QUIET, **options)
    json.dumps(report, allow_nan=False)
    return report


def reasons(report):
    return " ".join(fault["reason"] for fault in report["faults"])


def test_numbers_of_a_good_set(tmp_path):
    report = verify(write(tmp_path / "set"))
    assert report["faults"] == report["not_read"] == []
    assert report["splits"] == {"folder": {"all": 5}}  # nothing divides it but what a run needs
    found = report["domains"]["folder"]
    assert set(found["splits"]) == {"all"}
    divided = verify(tmp_path / "set", "ratio=[0.6, 0.2, 0.2]")
    assert divided["splits"] == {"folder": {"train": 3, "val": 1, "test": 1}}
    assert divided["domains"]["folder"]["all"]["objects"] == found["all"]["objects"]
    shares = [scene(number)[1].mean() for number in range(5)]
    assert found["all"]["classes"]["foreground"] == pytest.approx(np.mean(shares))
    assert found["mask_values"] == {"0": pytest.approx(1 - np.mean(shares)), "255": pytest.approx(np.mean(shares))}
    assert found["all"]["sizes"] == {"24x24": 5}
    assert found["all"]["types"] == {"uint8": 5}
    means = [scene(number)[0].mean() / 255 for number in range(5)]
    assert found["all"]["mean"] == pytest.approx(np.mean(means))
    assert found["all"]["intensities"]["uint8"] == [
        min(scene(number)[0].min() for number in range(5)),
        max(scene(number)[0].max() for number in range(5)),
    ]
    assert found["all"]["empty"] == found["all"]["full"] == 0
    assert found["all"]["objects"] == [1, 1, 1]


def test_objects_are_counted_by_what_touches():
    mask = np.zeros((30, 40), np.uint8)
    mask[3:5, 2:7] = 1
    mask[5, 7] = 2  # touches the first by a corner
    mask[20:24, 30:40] = 1
    mask[10:12, :] = IGNORE
    for one in (mask, np.asfortranarray(mask), mask[::-1, ::-1]):
        facts = image_facts(Sample(np.zeros((30, 40, 1), np.uint8), one, "a", "a"), 3)
        assert sorted(facts.objects.tolist()) == [11, 40]
        assert facts.classes.tolist() == [1200 - 80 - 51, 50, 1]
        assert facts.unknown == 80
    assert len(image_facts(Sample(np.zeros((30, 40, 1), np.uint8), mask * 0, "a", "a"), 2).objects) == 0


@pytest.mark.parametrize("masks", [1, 3])
def test_every_file_is_decoded_once(tmp_path, monkeypatch, masks):
    root = write(tmp_path, 2, masks=None)
    for number, more in itertools.product(range(2), range(masks)):
        mask = np.zeros((24, 24), np.uint8)
        mask[15:20, 4 * more : 4 * more + 2] = 255
        save(root / "masks" / f"{number}_mask{f'_{more}' if more else ''}.png", mask)
    read = []
    plain = decoding._decoded
    monkeypatch.setattr(decoding, "_decoded", lambda file, page: read.append(file.name) or plain(file, page))
    report = verify(root)
    assert report["domains"]["folder"]["all"]["objects"] == [masks, masks, masks]
    assert sorted(read) == sorted(map(str, (*root.glob("images/*"), *root.glob("masks/*"))))


def test_each_fault_is_reported_by_file(tmp_path):
    root = write(tmp_path, 6)
    save(root / "images" / "lonely.png", scene(0)[0])
    save(root / "masks" / "1.png", np.zeros((3, 3), np.uint8))
    broken = root / "images" / "2.png"
    broken.write_bytes(broken.read_bytes()[:40])
    report = verify(root)
    assert report["images"] == 6
    assert {fault["file"].rpartition("/")[2] for fault in report["faults"]} == {"lonely.png", "1.png", "2.png"}


def test_wrong_options_get_a_sentence(tmp_path):
    write(tmp_path)
    with pytest.raises(UsageError, match="Did you mean 'channels'"):
        verify(tmp_path, "chanels=3")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda number, mask: mask * 0, "All 5 masks are empty"),
        (lambda number, mask: mask * 0 + 255, "All 5 masks are full"),
        (
            lambda number, mask: mask * (1 if number % 2 else 255),
            "2 masks have 0 and 1 alone, but 3 also larger values",
        ),
        (lambda number, mask: scene(number, 24)[0][:, :, 0], "grey levels, spread over the range as in a photograph"),
        (lambda number, mask: mask * 38, "values=0,38"),
    ],
)
def test_masks_that_cannot_be_meant(tmp_path, change, said):
    assert said in reasons(verify(write(tmp_path, change=change)))


def test_several_classes_are_named_together(tmp_path):
    write(tmp_path, change=lambda number, mask: mask * (3 if number % 2 else 5))
    first = verify(tmp_path)["faults"][0]["reason"]
    assert "5 masks cannot be told to be of one class; together they have the values 0,3,5" in first


def test_masks_of_one_class_alone_are_good_in_some_images(tmp_path):
    root = write(tmp_path, change=lambda number, mask: mask * 255 if number else mask * 0)
    report = verify(root)
    assert report["faults"] == []
    assert report["domains"]["folder"]["all"]["empty"] == 1


def test_swapped_images_and_masks(tmp_path):
    write(tmp_path, images="masks", masks="images")
    faults = verify(tmp_path)["faults"]
    assert any("are images and masks swapped?" in fault["reason"] for fault in faults)
    assert verify(tmp_path, "images=masks", "masks=images")["faults"] == []


@pytest.mark.parametrize(
    ("images", "masks"),
    [("Images", "Masks"), ("image", "mask"), ("IMGS", "Labels"), ("images", "GT"), ("images", "Ground_Truth")],
)
def test_usual_names_are_found(tmp_path, images, masks):
    report = verify(write(tmp_path, images=images, masks=masks))
    assert report["faults"] == []
    assert report["domains"]["folder"]["all"]["masks"] == 5


def test_masks_under_an_unknown_name_are_a_fault(tmp_path):
    write(tmp_path, masks="doctor")
    report = verify(tmp_path)
    assert "holds 5 files, such as 0.png, that look like their masks; say so with masks=doctor" in reasons(report)
    assert report["not_read"][0] == {
        "folder": "doctor",
        "reason": "in a folder that is not read",
        "count": 5,
        "example": "0.png",
    }
    assert verify(tmp_path, "masks=doctor")["faults"] == []


def test_photographs_elsewhere_are_no_masks(tmp_path):
    write(tmp_path, masks="originals", change=lambda number, mask: scene(number + 9)[0])
    assert verify(tmp_path)["faults"] == []


def test_outlines_are_named(tmp_path):
    write(tmp_path, masks=None)
    (tmp_path / "images" / "0.json").write_text('{"shapes": []}')
    assert "0.json and its like hold outlines, which are not read" in reasons(verify(tmp_path))


def test_unusual_names_that_do_not_exist_are_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(UsageError, match=r"the folder .*doctor does not exist"):
        verify(tmp_path, "masks=doctor")


def test_folders_of_which_nothing_is_known_are_named(tmp_path):
    write(tmp_path, images="patient1", masks="doctor")
    with pytest.raises(UsageError, match="but the folders doctor, patient1; say which"):
        verify(tmp_path)


def test_nothing_read(tmp_path):
    (tmp_path / "a.txt").write_text("no image")
    assert "No image was read" in reasons(verify(tmp_path))


def test_subfolders_are_groups(tmp_path):
    for patient in "ab":
        write(tmp_path, 3, images=f"images/p{patient}", masks=f"masks/p{patient}")
    found = verify(tmp_path)["domains"]["folder"]["all"]
    assert (found["images"], found["masks"], found["groups"]) == (6, 6, 2)


def test_subfolders_of_splits_are_splits(tmp_path):
    for split, count in {"train": 4, "val": 2, "test": 3}.items():
        write(tmp_path, count, images=f"images/{split}", masks=f"labels/{split}")
    assert verify(tmp_path)["splits"]["folder"] == {"train": 4, "val": 2, "test": 3}


def test_two_images_of_one_name_are_said(tmp_path):
    write(tmp_path, 2, images="images/p/1", masks="masks/p/1")
    write(tmp_path, 2, images="images/p_1", masks="masks/p_1")
    assert "would both be called p_1_0" in reasons(verify(tmp_path))


@pytest.mark.parametrize("end", ["_mask", "_Segmentation", "-seg"])
def test_masks_beside_images(tmp_path, end):
    for number in range(4):
        picture, mask = scene(number)
        save(tmp_path / f"benign ({number}).png", picture)
        save(tmp_path / f"benign ({number}){end}.png", mask * 255)
    save(tmp_path / f"benign (0){end}_1.png", np.rot90(scene(0)[1]) * 255)
    report = verify(tmp_path)
    assert report["faults"] == report["not_read"] == []
    assert report["images"] == report["domains"]["folder"]["all"]["masks"] == 4
    assert report["domains"]["folder"]["all"]["objects"][2] > 1


def test_composed_and_decomposed_names_match(tmp_path):
    for number in range(3):
        picture, mask = scene(number)
        save(tmp_path / "images" / unicodedata.normalize("NFD", f"läsion_{number}.png"), picture)
        save(tmp_path / "masks" / unicodedata.normalize("NFC", f"läsion_{number}.png"), mask * 255)
    assert verify(tmp_path)["faults"] == []


def test_images_in_no_split_are_counted(tmp_path):
    root = write(tmp_path / "set")
    lists = tmp_path / "splits.json"
    lists.write_text('{"train": ["0.png", "1.png"]}')
    report = verify(root, f"splits={lists}")
    assert report["splits"]["folder"] == {"train": 2, "val": 0, "test": 0}
    assert report["images"] == 5
    assert report["domains"]["folder"]["splits"]["none"]["images"] == 3


def test_preview(tmp_path):
    root = write(tmp_path / "set")
    verify(root, preview=tmp_path / "seen.png")
    assert Image.open(tmp_path / "seen.png").size[0] > 500
    with pytest.raises(UsageError, match="is there already"):
        verify(root, preview=tmp_path / "seen.png")
    with pytest.raises(UsageError, match=r"ends in \.png"):
        verify(root, preview=tmp_path / "seen.jpg")


class TestAgainst:
    def gap(self, source, target):
        return compare_domains(f"folder:{source}", f"folder:{target}", (), Registry(), QUIET)

    def test_alike(self, tmp_path):
        gap = self.gap(write(tmp_path / "a"), write(tmp_path / "b"))
        assert gap["differences"] == []
        assert gap["source"] == gap["target"]

    def test_more_objects_in_the_target_are_invented(self, tmp_path):
        def many(number, mask):
            mask = np.zeros_like(mask)
            mask[::4, ::4] = 255
            return mask

        gap = self.gap(write(tmp_path / "a"), write(tmp_path / "b", change=many))
        assert any("it will invent objects" in sentence for sentence in gap["differences"])
        assert any("Objects of the source cover" in sentence for sentence in gap["differences"])
        back = self.gap(tmp_path / "b", tmp_path / "a")
        assert any("it will remove objects" in sentence for sentence in back["differences"])

    def test_what_has_no_labels_is_said(self, tmp_path):
        gap = self.gap(write(tmp_path / "a"), write(tmp_path / "b", masks=None))
        assert "The target has no labels" in gap["differences"][-1]

    def test_brightness(self, tmp_path):
        write(tmp_path / "a")
        for number in range(3):
            save(tmp_path / "b" / f"{number}.png", 255 - scene(number)[0] // 4)
        assert "The target is much brighter" in self.gap(tmp_path / "a", tmp_path / "b")["differences"][0]
