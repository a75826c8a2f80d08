"""Decoded samples on disk, shared by all processes and runs; docs/decisions/cache.md."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from transeg.core.cache_folder import cache_folder
from transeg.core.data.bounded_folder import BoundedFolder, list_contents
from transeg.core.data.serialization import encode_sample, open_sample
from transeg.core.errors import TransegError
from transeg.core.interfaces import Dataset, Origin, Sample

DECODERS = ("numpy", "opencv-python-headless", "pillow", "tifffile", "imagecodecs", "scipy", "av")
"""Packages that pixels depend on."""
SETTLED = 2.0
"""Seconds: what changed in the last ones may change again without another time of change."""

FileState = tuple[str, int, int, int, int]


class SampleCache:
    """Samples by what they are made of.

    Files are known by their contents. Reading a file for that is saved where one of its path, size, inode, time of
    writing and time of change was read before.

    Args:
        folder: where samples are kept.
        limit: bytes of all of them together.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = BoundedFolder(folder, limit)
        self._keys: dict[str, str] = {}
        self._checked: set[str] = set()

    def get(self, origin: Origin, how: str, make: Callable[[], Sample]) -> Sample:
        """The sample of an origin, whose arrays may be changed.

        Args:
            origin: what it is made of.
            how: what is done to it besides.
            make: does all that, where it is not kept.
        """
        source = decoder_digest(origin.reader)
        if source is None:
            return make()
        recipe = _digest(source, origin.how, how)
        try:
            before = [_state(path) for path in origin.files]
            key = self._key(recipe, before)
        except OSError:
            return make()  # which can say what is wrong with a file
        name = f"{key}.sample"
        try:
            sample, state = open_sample(self._folder.path / name, check=key not in self._checked)
        except (OSError, ValueError):
            sample = make()
            parts = encode_sample(sample)
            if parts is not None and before == [_state(path) for path in origin.files]:
                self._folder.keep(name, parts)
            return sample
        self._checked.add(key)
        self._folder.used(name, state)
        return sample

    def _key(self, recipe: str, files: list[FileState]) -> str:
        """What names a sample: a digest of a recipe and of the contents of files."""
        known = _digest(recipe, repr(files))
        if known in self._keys:
            return self._keys[known]
        memo = self._folder.path / f"{known}.key"
        try:
            key = memo.read_text(encoding="ascii")
            self._folder.used(memo.name, memo.stat())
        except (OSError, UnicodeDecodeError):
            key = ""
        if len(key) != hashlib.sha256().digest_size * 2:
            key = _digest(recipe, *(_content(path) for path, *_ in files))
            if any(time.time() - max(times) / 1e9 < SETTLED for _, _, _, *times in files):
                return key
            self._folder.keep(memo.name, [key.encode("ascii")])
        self._keys[known] = key
        return key


class CachedDataset:
    """Samples of a dataset by their indices, kept where the dataset says what they are made of.

    Args:
        dataset: decodes them.
        cache: keeps them; None to decode each time.
        prepare: what is done to each before it is kept, a function of the sample alone whose ``repr`` tells it from
            others.
    """

    def __init__(
        self, dataset: Dataset, cache: SampleCache | None, prepare: Callable[[Sample], Sample] | None = None
    ) -> None:
        self._dataset = dataset
        self._cache = cache
        self._prepare = prepare

    def __call__(self, index: int) -> Sample:
        origin = None if self._cache is None else self._dataset.origin_of(index)
        if self._cache is None or origin is None:
            return self._made(index)
        return self._cache.get(origin, repr(self._prepare), lambda: self._made(index))

    def _made(self, index: int) -> Sample:
        sample = self._dataset[index]
        return sample if self._prepare is None else self._prepare(sample)


def image_cache() -> Path:
    """The folder that decoded samples are kept in."""
    return cache_folder("images")


def cache_size() -> int:
    """Bytes of all that is kept."""
    folder = image_cache()
    return sum(size for _, size, _ in list_contents(folder)) if folder.is_dir() else 0


def clear_cache() -> int:
    """Remove all that is kept, and say how many bytes that were; trainings that are under way decode anew.

    Raises:
        TransegError: something cannot be removed.
    """
    folder, removed = image_cache(), 0
    try:
        for _, size, path in list_contents(folder) if folder.is_dir() else ():
            path.unlink(missing_ok=True)
            removed += size
    except OSError as error:
        raise TransegError(f"{folder} cannot be emptied: {error.strerror}.") from error
    return removed


@lru_cache
def decoder_digest(reader: type) -> str | None:
    """A digest of what decodes the samples of a class: its source, the toolkit's and the versions of libraries.

    None where there is no source to be read.
    """
    files = set(Path(__file__).parent.glob("*.py"))
    for cls in reader.__mro__:
        if cls is not object:
            try:
                files.add(Path(inspect.getfile(cls)))
            except (TypeError, OSError):
                return None
    try:
        sources = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)]
    except OSError:
        return None
    return _digest(reader.__module__, reader.__qualname__, *map(_version, DECODERS), *sources)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _state(path: Path) -> FileState:
    state = path.stat()
    return str(path.absolute()), state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns


def _content(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="backslashreplace")).hexdigest()
