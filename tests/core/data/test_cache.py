import logging
import os
import pickle
import shutil
import signal
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from transeg.core.data import bounded_folder
from transeg.core.data.bounded_folder import BoundedFolder, list_contents
from transeg.core.data.cache import SETTLED, CachedDataset, SampleCache, decoder_digest
from transeg.core.data.file_dataset import FileDataset, Pair
from transeg.core.data.rescaling import RescaledDataset
from transeg.core.data.serialization import MAPPED, encode_sample, open_sample
from transeg.core.data.stream import (
    SOURCE,
    TARGET,
    Collate,
    ResumableBatchSampler,
    TrainingDataset,
    TrainingDomain,
    training_loader,
)
from transeg.core.data.windows import Windows
from transeg.core.experiment.augmentation_presets import PRESETS
from transeg.core.interfaces import Dataset, Origin, Sample

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 40, 50, 3), dtype=np.uint8)


class Images(FileDataset):
    """Counts how often it decodes."""

    decoded = 0
    reads_pairs_alone = True

    def __getitem__(self, index):
        self.decoded += 1
        return super().__getitem__(index)

    def __getstate__(self):
        return {"pairs": self.pairs, "faults": self.faults}

    def origin_of(self, index):
        return super().origin_of(index)._replace(how=str(index))


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    pairs = []
    for index, pixels in enumerate(PIXELS):
        image, mask = root / f"{index}.png", root / f"{index}_mask.png"
        cv2.imwrite(str(image), pixels)
        cv2.imwrite(str(mask), (pixels[:, :, 0] > 200).astype(np.uint8) * 255)
        settled(image, mask)
        pairs.append(Pair(image, mask, f"group {index}", pixel_size=(0.5, 0.25)))
    return Images(pairs)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def settled(*paths):
    """Files whose last change is old enough to be trusted; their time of change cannot be set back."""
    old = time.time() - 3600
    for path in paths:
        os.utime(path, (old, old))


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr("transeg.core.data.cache.SETTLED", 0)


def same(one, other):
    for name in ("image", "mask", "target", "instances", "depth"):
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None) == (right is None)
        assert left is None or (left.dtype == right.dtype and np.array_equal(left, right))
    assert (one.name, one.group, one.pixel_size) == (other.name, other.group, other.pixel_size)
    return True


def test_a_sample_is_decoded_once_and_comes_back_as_it_was(dataset, folder):
    cached = CachedDataset(dataset, SampleCache(folder, 10**9))
    expected = [dataset[index] for index in range(6)]
    dataset.decoded = 0
    for _ in range(3):
        assert all(same(cached(index), expected[index]) for index in range(6))
    assert dataset.decoded == 6
    again = CachedDataset(dataset, SampleCache(folder, 10**9))  # another run
    assert all(same(again(index), expected[index]) for index in range(6))
    assert dataset.decoded == 6


def test_without_a_cache_every_time_is_the_first(dataset):
    cached = CachedDataset(dataset, None)
    assert all(same(cached(0), cached(0)) for _ in range(2))
    assert dataset.decoded == 4


@pytest.mark.parametrize("side", [9, 700])  # read, and mapped
def test_all_that_a_sample_has_is_kept(tmp_path, side):
    rng = np.random.default_rng(1)
    sample = Sample(
        rng.random((side, side, 2), dtype=np.float32),
        rng.integers(0, 5, (side, side)),
        "na\u00efve \udc80",
        "group",
        target=rng.integers(0, 2**16, (side, side, 1), dtype=np.uint16)[:, ::-1],
        instances=rng.integers(0, 2**20, (side, side), dtype=np.int32).T,
        depth=np.full((side, side), np.nan, np.float32)[:0],
        pixel_size=(0.1, 0.2),
    )
    path = tmp_path / "entry"
    path.write_bytes(b"".join(encode_sample(sample)))
    assert (path.stat().st_size > MAPPED) == (side == 700)
    found, _ = open_sample(path, check=True)
    assert same(found, sample)
    before = path.read_bytes()
    found.image[:] = 0  # as a transform may that works in place
    found.mask[:] = 1
    assert path.read_bytes() == before


def test_what_is_no_number_is_not_kept():
    assert encode_sample(Sample(np.array([[["a"]]], dtype=object), None, "name", "group")) is None


@pytest.mark.parametrize("harm", ["empty", "shorter", "longer", "one byte", "another file"])
def test_a_damaged_entry_is_decoded_anew_and_mended(dataset, folder, harm):
    expected = CachedDataset(dataset, SampleCache(folder, 10**9))(0)
    (entry,) = folder.glob("*.sample")
    content = entry.read_bytes()
    harmed = {
        "empty": b"",
        "shorter": content[:-1],
        "longer": content + b"x",
        "one byte": content[:-200] + bytes([content[-200] ^ 1]) + content[-199:],
        "another file": b"x" * len(content),
    }[harm]
    entry.write_bytes(harmed)
    assert same(CachedDataset(dataset, SampleCache(folder, 10**9))(0), expected)
    assert dataset.decoded == 2
    assert entry.read_bytes() == content


def test_a_damaged_memo_costs_a_look_at_the_files(dataset, folder):
    expected = CachedDataset(dataset, SampleCache(folder, 10**9))(0)
    (memo,) = folder.glob("*.key")
    memo.write_bytes(b"\xff")
    assert same(CachedDataset(dataset, SampleCache(folder, 10**9))(0), expected)
    assert dataset.decoded == 1
    assert len(memo.read_text()) == 64


@pytest.mark.parametrize("restart", [True, False])
def test_a_changed_file_is_noticed(dataset, folder, restart):
    """Of equal size, at the same place and with the same times of writing: only its time of change tells."""
    cached = CachedDataset(dataset, SampleCache(folder, 10**9))
    mask = dataset.pairs[0].mask
    before, times = cached(0), mask.stat()
    flipped = np.where(before.mask > 0, 0, 255).astype(np.uint8)
    cv2.imwrite(str(mask), flipped)
    os.utime(mask, ns=(times.st_atime_ns, times.st_mtime_ns))
    if restart:
        cached = CachedDataset(dataset, SampleCache(folder, 10**9))
    assert np.array_equal(cached(0).mask, 1 - before.mask)
    assert dataset.decoded == 2


def test_a_file_that_was_changed_just_now_is_looked_at_again(dataset, folder, monkeypatch):
    """Some file systems count seconds: a second change would not be seen."""
    monkeypatch.setattr("transeg.core.data.cache.SETTLED", SETTLED)
    cached = CachedDataset(dataset, SampleCache(folder, 10**9))
    looked = []
    content = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *a, **k: looked.append(path.suffix) or content(path, *a, **k))
    cached(0)
    assert not list(folder.glob("*.key"))
    looked.clear()
    cached(0)
    assert looked.count(".png") == 2  # for their contents
    assert dataset.decoded == 1


def test_a_copy_of_the_files_needs_no_decoding(dataset, folder, tmp_path):
    CachedDataset(dataset, SampleCache(folder, 10**9))(0)
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "data", moved)
    pair = dataset.pairs[0]
    copy = Images([Pair(moved / pair.image.name, moved / pair.mask.name, pair.group, pixel_size=pair.pixel_size)])
    assert same(CachedDataset(copy, SampleCache(folder, 10**9))(0), dataset[0])
    assert copy.decoded == 0


def test_a_missing_file_is_said_as_without_a_cache(dataset, folder):
    cached = CachedDataset(dataset, SampleCache(folder, 10**9))
    dataset.pairs[0].image.unlink()
    with pytest.raises(Exception, match="There is no file"):
        cached(0)


def test_what_is_done_to_samples_keeps_them_apart(dataset, folder):
    cache = SampleCache(folder, 10**9)
    twice, half = RescaledDataset(dataset, factor=2.0), RescaledDataset(dataset, factor=0.5)
    for images in (dataset, twice, half, twice, half, dataset):
        assert same(CachedDataset(images, cache)(0), images[0])
    assert len(list(folder.glob("*.sample"))) == 3
    domains = [domain(dataset, cache, load_size=size) for size in (16, 24, 16)]
    for each, size in zip(domains, (16, 24, 16), strict=True):
        plain = domain(dataset, None, load_size=size)
        assert all(torch.equal(each[place].image, plain[place].image) for place in range(6))


def test_options_of_a_dataset_keep_its_samples_apart(tmp_path, dataset):
    class Values(FileDataset):
        def __init__(self, pairs, values, channels=3):
            super().__init__(pairs)
            self.values, self.channels = values, channels

    pairs = dataset.pairs
    variants = [
        Values(pairs, None),
        Values(pairs, {0: 0, 255: 1}),
        Values(pairs, {0: 1, 255: 0}),
        Values(pairs, None, 1),
    ]
    origins = [variant.origin_of(0) for variant in variants]
    assert len({origin.how for origin in origins}) == 4
    assert Values(pairs, None).origin_of(0) == origins[0]
    renamed = Values([Pair(pairs[0].image, pairs[0].mask, "other")], None)
    assert renamed.origin_of(0).how != origins[0].how


def test_a_dataset_that_reads_in_its_own_way_is_not_kept_unless_it_says_so(dataset):
    class Own(FileDataset):
        def labels(self, pair, size):
            return np.loadtxt(pair.image.with_suffix(".txt")), None

    class Said(Own):
        reads_pairs_alone = True

    assert Own(dataset.pairs).origin_of(0) is None
    assert Said(dataset.pairs).origin_of(0).files == (dataset.pairs[0].image, dataset.pairs[0].mask)


def test_another_source_is_another_origin(tmp_path, monkeypatch):
    path = tmp_path / "edited_reader.py"
    digests = []
    for text in ("class Reader: a = 1", "class Reader: a = 2"):
        path.write_text(text)
        module = type(sys)("edited_reader")
        module.__file__ = str(path)
        exec(text, module.__dict__)
        monkeypatch.setitem(sys.modules, "edited_reader", module)
        digests.append(decoder_digest(module.Reader))
    assert None not in digests
    assert digests[0] != digests[1]
    module.Reader.__module__ = "nowhere"
    decoder_digest.cache_clear()
    assert decoder_digest(module.Reader) is None


class Made(Dataset):
    """Samples of a size, one file each."""

    def __init__(self, root, count, side):
        self.paths = [root / f"{index}.bin" for index in range(count)]
        for index, path in enumerate(self.paths):
            path.write_bytes(bytes([index]))
        settled(*self.paths)
        self.side, self.decoded = side, 0

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        self.decoded += 1
        return Sample(np.full((self.side, self.side, 1), index, np.uint8), None, str(index), str(index))

    def origin_of(self, index):
        return Origin((self.paths[index],), str(index), type(self))


ENTRY = 12 * 4096  # of 200 x 200 pixels and what describes them, with the memo of 4096


def bytes_of(folder):
    return sum(size for _, size, _ in list_contents(folder))


def test_the_bound_is_kept_and_what_one_training_uses_does_not_push_itself_out(tmp_path, folder):
    made = Made(tmp_path, 20, 200)
    cached = CachedDataset(made, SampleCache(folder, 10 * ENTRY))
    for _ in range(3):
        for index in range(20):
            assert cached(index).image[0, 0, 0] == index
            assert bytes_of(folder) <= 10 * ENTRY
    assert len(list(folder.glob("*.sample"))) >= 9
    assert made.decoded <= 20 + 2 * 11


def test_what_was_used_longest_ago_makes_room(tmp_path, folder):
    made = Made(tmp_path, 20, 200)
    first = CachedDataset(made, SampleCache(folder, 10 * ENTRY))
    old = set()
    for index in range(8):  # a day ago, one after the other, ...
        first(index)
        new = {path for _, _, path in list_contents(folder)} - old
        for path in new:
            os.utime(path, (time.time() - 86400 + index,) * 2)
        old |= new
    second = CachedDataset(made, SampleCache(folder, 10 * ENTRY))
    for index in (0, 1):  # ... except for these
        second(index)
    for index in range(8, 15):
        second(index)
        assert bytes_of(folder) <= 10 * ENTRY
    made.decoded = 0
    for index in (0, 1, *range(8, 15)):
        second(index)
    assert made.decoded == 0
    second(5)
    assert made.decoded == 1


def test_what_is_larger_than_the_bound_leaves_the_rest_alone(tmp_path, folder):
    small = CachedDataset(Made(tmp_path, 2, 200), SampleCache(folder, 4 * ENTRY))
    small(0), small(1)
    CachedDataset(Made(tmp_path, 1, 900), SampleCache(folder, 4 * ENTRY))(0)
    assert len(list(folder.glob("*.sample"))) == 2


def test_a_wrong_count_is_counted_again(tmp_path, folder):
    """As killed processes and those that write the same leave it."""
    made = Made(tmp_path, 4, 200)
    cached = CachedDataset(made, SampleCache(folder, 10 * ENTRY))
    cached(0)
    for wrong in ("", "nonsense", str(10 * ENTRY)):
        (folder / ".bytes").write_text(wrong)
        cached = CachedDataset(made, SampleCache(folder, 10 * ENTRY))
        cached(("", "nonsense", str(10 * ENTRY)).index(wrong) + 1)
        assert int((folder / ".bytes").read_text()) == bytes_of(folder)
    assert len(list(folder.glob("*.sample"))) == 4


def test_the_leavings_of_killed_processes_are_removed_in_time(tmp_path, folder):
    made = Made(tmp_path, 20, 200)
    CachedDataset(made, SampleCache(folder, 10 * ENTRY))(0)
    old, new = folder / ".old.part", folder / ".new.part"
    for path in (old, new):
        path.write_bytes(bytes(5000))
    os.utime(old, (time.time() - 2 * bounded_folder.LATELY,) * 2)
    cached = CachedDataset(made, SampleCache(folder, 10 * ENTRY))
    for index in range(20):
        cached(index)
    assert not old.exists()
    assert new.exists()


class Killed(list):
    """Parts of a file, in the middle of which their writer is killed."""

    measured = False

    def __iter__(self):
        yield self[0]
        if self.measured:
            os.kill(os.getpid(), signal.SIGKILL)
        self.measured = True


def write(folder, limit, parts, name):
    store = BoundedFolder(folder, limit)
    for index in range(40):
        store.keep(f"{name}-{index}.sample", parts)


def started(*arguments):
    process = get_context("fork").Process(target=write, args=arguments)
    process.start()
    return process


def test_a_writer_that_is_killed_leaves_no_entry(folder):
    process = started(folder, 10**9, Killed([bytes(30000)]), "killed")
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list_contents(folder) == []
    assert len(list(folder.glob("*.part"))) == 1
    BoundedFolder(folder, 10**9).keep("next.sample", [b"whole"])  # and no lock
    assert (folder / "next.sample").read_bytes() == b"whole"


@pytest.mark.parametrize("names", [("same", "same"), ("one", "two")])
def test_processes_write_side_by_side(folder, names):
    limit = 50 * 32768
    processes = [started(folder, limit, [bytes(30000)], name) for name in names]
    while any(process.is_alive() for process in processes):
        if folder.exists():
            assert bytes_of(folder) <= limit
    assert [process.exitcode for process in processes] == [0, 0]
    kept = list(folder.glob("*.sample"))
    assert {path.stat().st_size for path in kept} == {30000}
    assert len(kept) == 40 if names[0] == names[1] else 45 <= len(kept) <= 50
    assert not list(folder.glob("*.part"))


def domain(dataset, cache, stream=SOURCE, load_size=36, **options):
    transforms = PRESETS["zh320"]
    usual = {"seed": 3, "limit": 0, "sampling": "shuffle", "size": 16, "transforms": transforms, "cache": cache}
    return TrainingDomain(dataset, stream, load_size=load_size, **{**usual, **options})


def batches(dataset, cache, workers, tile):
    sizes = {"load_size": 36}
    if tile:
        windows = Windows([(40, 50)] * 6, 16, 8)
        sizes = {"load_size": None, "windows": windows, "pools": [np.arange(len(windows))]}
    stream = TrainingDataset(domain(dataset, cache, **sizes), domain(dataset, cache, TARGET, **sizes))
    loader = training_loader(
        stream, ResumableBatchSampler(9, 4, 0, 1), Collate(0, 4), workers=workers, device=torch.device("cpu")
    )
    return list(loader)


@pytest.mark.parametrize("tile", [False, True])
def test_batches_are_equal_with_and_without_a_cache_whatever_the_workers(dataset, folder, tile):
    expected = batches(dataset, None, 0, tile)
    for cache, workers in ((SampleCache(folder, 10**9), 2), (SampleCache(folder, 10**9), 0), (None, 2)):
        found = batches(dataset, cache, workers, tile)
        for one, other in zip(expected, found, strict=True):
            for name in ("source", "source_mask", "target", "positions"):
                assert torch.equal(getattr(one, name), getattr(other, name))
    assert len(list(folder.glob("*.sample"))) == 6


def test_a_cache_can_be_sent_to_a_process(dataset, folder):
    """Where processes cannot be forked."""
    cached = pickle.loads(pickle.dumps(CachedDataset(dataset, SampleCache(folder, 10**9))))
    assert all(same(cached(0), dataset[0]) for _ in range(2))
    assert len(list(folder.glob("*.sample"))) == 1


def test_a_folder_that_cannot_be_written_is_said_once(dataset, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING, "transeg.data"):
        cached = CachedDataset(dataset, SampleCache(tmp_path / "file" / "images", 10**9))
        for _ in range(2):
            assert all(same(cached(index), FileDataset(dataset.pairs)[index]) for index in range(6))
        SampleCache(tmp_path / "file" / "images", 10**9)  # of the next training of the run
    (record,) = caplog.records
    assert "Not a directory" in record.message
    assert "TRANSEG_CACHE" in record.message


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_folder_that_may_only_be_read_is_read(dataset, folder, caplog):
    CachedDataset(dataset, SampleCache(folder, 10**9))(0)
    dataset.decoded = 0
    folder.chmod(0o500)
    with caplog.at_level(logging.WARNING, "transeg.data"):
        cached = CachedDataset(dataset, SampleCache(folder, 10**9))
        cached(0), cached(1), cached(2)
    assert dataset.decoded == 2
    assert len(caplog.records) == 1


def test_a_full_disk_is_said_once_by_all_workers(dataset, folder, capfd, monkeypatch):
    used = shutil.disk_usage(folder.parent)
    monkeypatch.setattr(bounded_folder.shutil, "disk_usage", lambda _: used._replace(free=bounded_folder.SPARE + 4000))
    handler = logging.StreamHandler()
    bounded_folder.logger.addHandler(handler)
    try:
        expected, found = batches(dataset, None, 0, False), batches(dataset, SampleCache(folder, 10**9), 2, False)
    finally:
        bounded_folder.logger.removeHandler(handler)
    assert all(torch.equal(one.source, other.source) for one, other in zip(expected, found, strict=True))
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Decoded images cannot be kept")]
    assert 1 <= len(said) <= 2  # two workers may find out at the same time
    assert "No space left on device" in said[0]
    assert not list(folder.glob("*.sample"))


def test_what_only_the_user_may_see_nobody_else_does(folder):
    SampleCache(folder, 10**9)
    assert folder.stat().st_mode & 0o077 == 0
