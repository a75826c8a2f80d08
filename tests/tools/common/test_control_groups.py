import pytest

from transeg.tools.common.control_groups import core_limit, memory_limit


@pytest.fixture
def groups(tmp_path):
    """A machine whose process is in these groups."""

    def make(lines):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(lines)
        return tmp_path

    return make


def write(root, files):
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_the_second_version(groups):
    """The narrowest of the groups around counts."""
    root = groups("0::/job/step\n")
    write(root, {"job/step/memory.max": "max\n", "job/memory.max": "4096\n", "memory.max": "8192\n"})
    write(root, {"job/cpu.max": "150000 100000\n", "job/step/cpu.max": "max 100000\n"})
    assert memory_limit(root) == 4096
    assert core_limit(root) == 1.5


def test_the_first_version_seen_from_within_a_container(groups):
    root = groups("5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n")
    write(root, {"memory/memory.limit_in_bytes": "4096\n"})
    write(root, {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"})
    assert memory_limit(root) == 4096
    assert core_limit(root) == 0.5


def test_no_limit(groups, tmp_path):
    assert memory_limit(tmp_path / "elsewhere") is None
    assert core_limit(tmp_path / "elsewhere") is None
    root = groups("4:memory:/\n3:cpu:/\n0::/\n")
    write(root, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n", "memory.max": "max\n"})
    assert memory_limit(root) is None
    assert core_limit(root) is None
