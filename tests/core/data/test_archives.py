import io
import os
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from transeg.core.data import archives
from transeg.core.data.archives import megabytes, unpack
from transeg.core.errors import DataError, UsageError

FILES = {"set/images/a.png": b"image" * 1000, "set/masks/TVA.HG (1,2) x.png": b"mask", "set/empty.txt": b""}


def zipped(path, files=FILES):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path, files=FILES, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def in_folder(path, files=FILES):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def run(source, folder):
    folder.mkdir(exist_ok=True)
    steps = []
    unpack(source, folder, lambda: steps.append(1))
    return len(steps)


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


SOURCES = [
    pytest.param("a.zip", zipped, id="zip"),
    pytest.param("a.tar.gz", tarred, id="tar.gz"),
    pytest.param("a.tar", lambda path, files=FILES: tarred(path, files, "w"), id="tar"),
    pytest.param("a.tar.xz", lambda path, files=FILES: tarred(path, files, "w:xz"), id="tar.xz"),
    pytest.param("a", in_folder, id="folder"),
]


@pytest.mark.parametrize(("name", "write"), SOURCES)
def test_everything_comes_out(tmp_path, name, write):
    run(write(tmp_path / name), tmp_path / "out")
    assert tree(tmp_path / "out") == FILES


@pytest.mark.parametrize(("name", "write"), SOURCES)
def test_it_advances_once_for_each_megabyte(tmp_path, name, write):
    source = write(tmp_path / name, {"a.npy": os.urandom(3_500_000), "b.npy": os.urandom(900_000)})
    assert run(source, tmp_path / "out") == megabytes(source) == 4


@pytest.mark.parametrize("name", ["../evil", "set/../../evil", "/tmp/transeg-evil", "set/../../out2/evil"])
@pytest.mark.parametrize("write", [zipped, tarred])
def test_no_member_leaves_the_folder(tmp_path, write, name):
    source = write(tmp_path / "a", {"good": b"1", name: b"2"})
    with pytest.raises(DataError, match=r"has the member .*evil', which lies outside; it is not unpacked"):
        run(source, tmp_path / "out")
    assert set(tree(tmp_path)) == {"a", "out/good"}
    assert not os.path.exists("/tmp/transeg-evil")  # noqa: PTH110


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_no_link_or_device_in_a_tar(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc"
        archive.addfile(info)
    with pytest.raises(DataError, match="'link', a link or a device"):
        run(tmp_path / "a.tar", tmp_path / "out")


def test_no_link_in_a_zip_or_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc")
    in_folder(tmp_path / "a")
    (tmp_path / "a" / "link").symlink_to("/etc")
    for source in ("a.zip", "a"):
        with pytest.raises(DataError, match="'link', a link or a device"):
            run(tmp_path / source, tmp_path / f"out {source}")


@pytest.mark.parametrize(("name", "write"), SOURCES[:4])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_what_is_cut_short_is_said(tmp_path, name, write, share):
    source = write(tmp_path / name, {f"{i}.png": os.urandom(30_000) for i in range(8)})
    whole = source.read_bytes()
    source.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"is truncated or damaged \(.+\); download it again"):
        run(source, tmp_path / "out")


@pytest.mark.parametrize(("name", "write"), [("a.zip", zipped), ("a.tar.gz", tarred)])
def test_damage_in_the_middle_is_said(tmp_path, name, write):
    source = write(tmp_path / name, {f"{i}.png": os.urandom(30_000) for i in range(8)})
    whole = bytearray(source.read_bytes())
    whole[100_000:100_020] = bytes(20)
    source.write_bytes(whole)
    with pytest.raises(DataError, match="is truncated or damaged"):
        run(source, tmp_path / "out")


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGE", 100_000)
    source = zipped(tmp_path / "a.zip", {f"{i}.npy": bytes(400_000) for i in range(5)})
    with pytest.raises(DataError, match="unpacks to more than 200 times its size"):
        run(source, tmp_path / "out")
    assert sum(map(len, tree(tmp_path / "out").values())) <= 200 * source.stat().st_size
    in_folder(tmp_path / "same", {"a.npy": bytes(2_000_000)})
    run(tmp_path / "same", tmp_path / "out2")  # a folder is as large as it is


def test_what_does_not_fit_is_not_begun(tmp_path, monkeypatch):
    source = zipped(tmp_path / "a.zip")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: SimpleNamespace(free=9))
    with pytest.raises(DataError, match="needs more room than the disk of"):
        run(source, tmp_path / "out")
    assert not tree(tmp_path / "out")


def test_what_is_no_archive_is_said(tmp_path):
    (tmp_path / "page.zip").write_text("<html>please log in</html>")
    with pytest.raises(UsageError, match="neither a folder nor a zip or tar archive; if it is a page"):
        run(tmp_path / "page.zip", tmp_path / "out")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        run(tmp_path / "none.zip", tmp_path / "out")


def test_an_encrypted_zip_is_said(tmp_path):
    source = zipped(tmp_path / "a.zip", {"a": b"1"})
    content = bytearray(source.read_bytes())
    content[6] |= 1  # of the file's own header, and of the directory's
    content[content.index(b"PK\x01\x02") + 8] |= 1
    source.write_bytes(content)
    with pytest.raises(DataError, match="is encrypted"):
        run(source, tmp_path / "out")


def test_two_members_of_one_name_are_said(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", "2")
    with pytest.raises(DataError, match="'a', which is there already"):
        run(tmp_path / "a.zip", tmp_path / "out")


def test_the_clutter_of_desktops_is_left_out(tmp_path):
    source = zipped(tmp_path / "a.zip", {"__MACOSX/set/._a.png": b"x", "set/.DS_Store": b"x", "set/a.png": b"1"})
    run(source, tmp_path / "out")
    assert tree(tmp_path / "out") == {"set/a.png": b"1"}
