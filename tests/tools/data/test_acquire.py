"""Import, download and inventory of datasets, through the command line."""

import errno
import functools
import hashlib
import http.server
import json
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile

import pytest
from layouts import BUILDERS, folders, pannuke, pixels, save, write

from transeg.core.registry import Registry
from transeg.tools.data import acquire

IMPORTABLE = [c.name for c in Registry().components("dataset") if c.name != "phantom"]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def sentence(toolkit):
    def call(*arguments, code=1):
        text = " ".join(toolkit(*arguments, code=code).stderr.split())
        assert text.count("Error: ") == 1
        return text.partition("Error: ")[2]

    return call


def zipped(folder, path, inside=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{inside}{file.relative_to(folder).as_posix()}")
    return path


@pytest.fixture
def kvasir(tmp_path):
    folders(tmp_path / "made")
    return zipped(tmp_path / "made", tmp_path / "kvasir-seg.zip", "Kvasir-SEG/")


def snapshot(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def left_behind(root):
    return {path.name for path in root.iterdir()} - {".kvasir.lock", ".pannuke.lock", "kvasir", "pannuke"}


@pytest.mark.parametrize("name", IMPORTABLE)
def test_every_dataset_is_imported_as_downloaded_and_verified(toolkit, tmp_path, root, name):
    made = tmp_path / "made" / name
    write(name, made)
    if name == "unitopatho-mask":
        toolkit("data", "import", "unitopatho", made.parent / "unitopatho", "--root", root)
    report = json.loads(toolkit("data", "import", name, made, "--root", root, "--json").stdout)
    assert report["images"] > 0
    assert report["faults"] == []
    assert report["added"] == len(snapshot(root / name))
    assert "no fault" in toolkit("data", "verify", f"{name}:{root / name}").stdout


def test_again_it_is_there_already(toolkit, root, kvasir):
    assert "60 images" in toolkit("data", "import", "kvasir", kvasir, "--root", root).stdout
    before = snapshot(root)
    assert "all of it was there already" in toolkit("data", "import", "kvasir", kvasir, "--root", root).stdout
    assert snapshot(root) == before
    assert not left_behind(root)


def test_root_is_by_default_where_runs_look(toolkit, root, kvasir, monkeypatch):
    monkeypatch.setenv("TRANSEG_DATA", str(root))
    toolkit("data", "import", "kvasir", kvasir)
    toolkit("run", "--segmenter", "unet", "--source", "kvasir", "--dry-run")


def test_archives_in_turn_or_at_once(toolkit, tmp_path, root):
    for fold in (1, 2, 3):
        pannuke(tmp_path / f"fold_{fold}", folds=[fold])
        zipped(tmp_path / f"fold_{fold}", tmp_path / f"fold_{fold}.zip")
    for fold in (1, 2):
        toolkit("data", "import", "pannuke", tmp_path / f"fold_{fold}.zip", "--root", root)
    report = json.loads(
        toolkit(
            "data", "import", "pannuke", *(tmp_path / f"fold_{i}.zip" for i in (2, 3)), "--root", root, "--json"
        ).stdout
    )
    assert report["images"] == 15
    assert report["added"] == 3
    toolkit("data", "import", "pannuke", *(tmp_path / f"fold_{i}.zip" for i in (1, 2, 3)), "--root", tmp_path / "other")
    assert snapshot(root / "pannuke") == snapshot(tmp_path / "other" / "pannuke")


def test_a_folder_that_holds_everything_is_looked_into(toolkit, tmp_path, root):
    write("monuseg", tmp_path / "made")
    archive = zipped(tmp_path / "made", tmp_path / "a.zip", "my downloads/")
    toolkit("data", "import", "monuseg", archive, "--root", root)
    assert (root / "monuseg" / "MoNuSegTestData").is_dir()
    assert "there already" in toolkit("data", "import", "monuseg", archive, "--root", root).stdout


def test_another_content_is_never_written_over(toolkit, sentence, tmp_path, root, kvasir):
    toolkit("data", "import", "kvasir", kvasir, "--root", root)
    before = snapshot(root)
    save(tmp_path / "made" / "images" / "10.png", pixels(999))
    other = zipped(tmp_path / "made", tmp_path / "other.zip", "Kvasir-SEG/")
    text = sentence("data", "import", "kvasir", other, "--root", root)
    assert "images/10.png is there already and is not the same as in" in text
    assert snapshot(root) == before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:9000]), "is truncated or damaged"),
        (lambda path: zipfile.ZipFile(path, "a").writestr("../evil", "x"), "which lies outside; it is not unpacked"),
        (lambda path: path.write_text("<html>log in</html>"), "neither a folder nor a zip or tar archive"),
    ],
    ids=["truncated", "member outside", "page"],
)
def test_what_is_wrong_leaves_nothing(sentence, root, kvasir, spoil, said):
    spoil(kvasir)
    assert said in sentence("data", "import", "kvasir", kvasir, "--root", root, code=2 if "neither" in said else 1)
    assert not left_behind(root)
    assert not (root / "kvasir").exists()


def test_another_dataset_is_said(sentence, tmp_path, root, kvasir):
    text = sentence("data", "import", "monuseg", kvasir, "--root", root)
    assert text.startswith(f"This is not monuseg in a known layout: data.test: {kvasir} holds neither Tissue Images/")
    assert not (root / "monuseg").exists()
    (tmp_path / "empty").mkdir()
    assert "does not have the folders" in sentence("data", "import", "kvasir", tmp_path / "empty", "--root", root)


def test_a_full_disk_leaves_what_was_there(toolkit, sentence, tmp_path, root, monkeypatch):
    for fold in (1, 2):
        pannuke(tmp_path / f"fold_{fold}", folds=[fold])
    toolkit("data", "import", "pannuke", tmp_path / "fold_1", "--root", root)
    before = snapshot(root)
    written = acquire.unpack

    def fills(source, folder, advance):
        written(source, folder, advance)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(acquire, "unpack", fills)
    text = sentence("data", "import", "pannuke", tmp_path / "fold_2", "--root", root)
    assert f"The disk of {root} is full, so nothing was imported; make room" in text
    assert snapshot(root) == before
    assert not left_behind(root)


def test_ctrl_c_leaves_what_was_there(toolkit, root, kvasir, monkeypatch):
    def stops(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(acquire, "_checked", stops)
    toolkit("data", "import", "kvasir", kvasir, "--root", root, code=1)
    assert not left_behind(root)
    assert not (root / "kvasir").exists()


def test_what_a_killed_import_left_is_cleared_away(toolkit, root, kvasir):
    (root / ".kvasir.importing" / "half").mkdir(parents=True)
    (root / ".kvasir.importing.inner").mkdir()
    toolkit("data", "import", "kvasir", kvasir, "--root", root)
    assert not left_behind(root)
    # killed between the two renames that exchange old and new
    before = snapshot(root / "kvasir")
    (root / "kvasir").rename(root / ".kvasir.replaced")
    assert "there already" in toolkit("data", "import", "kvasir", kvasir, "--root", root).stdout
    assert snapshot(root / "kvasir") == before
    assert not left_behind(root)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["_checked_or_unwrapped", "_joined", "_exchange", "shutil.rmtree"])
def test_killed_at_any_moment_nothing_is_half_done(toolkit, tmp_path, root, moment):
    for fold in (1, 2):
        pannuke(tmp_path / f"fold_{fold}", folds=[fold])
    toolkit("data", "import", "pannuke", tmp_path / "fold_1", "--root", root)
    code = f"""
        import os, signal, sys
        from pathlib import Path
        from transeg.cli import main
        from transeg.tools.data import acquire
        def kill(*_, **__):
            if {moment!r} != "shutil.rmtree" or Path({str(root / ".pannuke.replaced")!r}).exists():
                os.kill(os.getpid(), signal.SIGKILL)
        acquire.{moment} = kill
        main(["data", "import", "pannuke", {str(tmp_path / "fold_2")!r}, "--root", {str(root)!r}])
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert snapshot(tmp_path / "fold_1").items() <= snapshot(root / "pannuke").items()
    toolkit("data", "import", "pannuke", tmp_path / "fold_2", "--root", root)
    assert snapshot(root / "pannuke") == snapshot(tmp_path / "fold_1") | snapshot(tmp_path / "fold_2")
    assert not left_behind(root)


def test_usage(sentence, tmp_path, root, kvasir, monkeypatch):
    monkeypatch.delenv("TRANSEG_DATA", raising=False)
    assert "Say where datasets are kept with --root" in sentence("data", "import", "kvasir", kvasir, code=2)
    assert "Did you mean 'kvasir'" in sentence("data", "import", "kvazir", kvasir, "--root", root, code=2)
    assert "reads no folder" in sentence("data", "import", "phantom", kvasir, "--root", root, code=2)
    root.mkdir()
    (root / "kvasir").symlink_to(tmp_path)
    assert "is a link; import into what it links to" in sentence(
        "data", "import", "kvasir", kvasir, "--root", root, code=2
    )


class TestDownload:
    @pytest.fixture
    def server(self, tmp_path):
        """Serves a folder on this machine; gives its address and what was asked for."""
        asked = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args):
                asked.append(self.path)

        (tmp_path / "served").mkdir()
        handler = functools.partial(Handler, directory=tmp_path / "served")
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
            threading.Thread(target=running.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{running.server_port}", asked
            running.shutdown()

    @pytest.fixture
    def offered(self, tmp_path, server, kvasir):
        """A registry whose dataset `mine` is on that server."""
        shutil.copy(kvasir, tmp_path / "served" / "kvasir-seg.zip")

        def offer(sha256="", name="kvasir-seg.zip"):
            path = tmp_path / "mine.toml"
            path.write_text(
                textwrap.dedent(f"""
                    [plugin]
                    contract = 1
                    [dataset.mine]
                    entry = "mine.py:Kvasir"
                    licence = "do as you like"
                    url = "{server[0]}/"
                    archives = [{{ url = "{server[0]}/{name}", sha256 = "{sha256}" }}]
                    """)
            )
            (tmp_path / "mine.py").write_text("from transeg.plugins.datasets.polyps import Kvasir as Kvasir\n")
            return path

        return offer

    def call(self, root, registry):
        return ["data", "download", "mine", "--root", root, "--registry", registry]

    def test_it_is_fetched_checked_and_imported(self, toolkit, sentence, root, kvasir, server, offered):
        registry = offered(hashlib.sha256(kvasir.read_bytes()).hexdigest())
        result = toolkit(*self.call(root, registry))
        assert "60 images" in result.stdout
        assert "Its terms: do as you like" in result.stderr
        assert {path.name for path in root.iterdir()} <= {"mine", ".mine.lock"}
        asked = len(server[1])
        assert "is there already; remove it to download mine again" in sentence(*self.call(root, registry), code=2)
        assert len(server[1]) == asked

    def test_without_a_published_checksum_that_is_said(self, toolkit, root, offered):
        result = toolkit(*self.call(root, offered()))
        assert "No checksum of" in result.stderr
        assert "60 images" in result.stdout

    def test_another_file_than_published_is_not_kept(self, sentence, root, offered):
        text = sentence(*self.call(root, offered("0" * 64)))
        assert "is not what its authors published" in text
        assert not any(path.suffix == ".zip" for path in root.rglob("*"))
        assert not (root / "mine").exists()

    def test_a_file_that_is_gone(self, sentence, root, offered):
        text = sentence(*self.call(root, offered(name="gone.zip")))
        assert "gone.zip cannot be downloaded: its server answers 404" in text
        assert not list(root.iterdir())

    def test_a_server_that_is_gone(self, sentence, root, offered, server):
        registry = offered()
        registry.write_text(registry.read_text().replace(server[0], "http://127.0.0.1:9"))
        assert "cannot be downloaded: its server cannot be reached" in sentence(*self.call(root, registry))

    def test_what_no_program_may_fetch_is_said(self, sentence, root):
        text = sentence("data", "download", "glas", "--root", root)
        assert "Get it from https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest/" in text
        assert "toolkit data import glas ARCHIVE" in text
        assert "Its terms: research; no commercial use" in text


class TestList:
    def test_what_is_here(self, toolkit, root, kvasir, monkeypatch):
        monkeypatch.delenv("TRANSEG_DATA", raising=False)
        rows = json.loads(toolkit("data", "list", "--json").stdout)
        assert {row["name"] for row in rows} == {c.name for c in Registry().components("dataset")} >= set(BUILDERS)
        assert not any(row["present"] for row in rows)
        toolkit("data", "import", "kvasir", kvasir, "--root", root)
        rows = {row["name"]: row for row in json.loads(toolkit("data", "list", "--root", root, "--json").stdout)}
        assert [name for name, row in rows.items() if row["present"]] == ["kvasir"]
        assert rows["kvasir"]["folder"] == str(root / "kvasir")
        assert rows["kvasir"]["size"] == "46 MB"
        assert rows["kvasir"]["download"]
        assert not rows["glas"]["download"]
        assert rows["glas"]["licence"] == "research; no commercial use"

    def test_for_people(self, toolkit, root):
        (root / "etis" / "images").mkdir(parents=True)
        lines = toolkit("data", "list", "--root", root).stdout.splitlines()
        assert [line.split()[0] for line in lines if " yes " in line] == ["etis"]

    def test_it_imports_nothing_heavy(self):
        code = """
            import sys
            from transeg.cli import main
            main(["data", "list", "--root", "/nonexistent"], standalone_mode=False)
            assert not {"torch", "numpy", "pooch", "requests"} & set(sys.modules), "too much was imported"
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True)
