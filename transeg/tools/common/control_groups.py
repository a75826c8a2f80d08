"""What Linux's control groups leave of a machine to a container or a job, in either version of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that this process and its siblings may use together; None without a limit."""
    texts = [*_texts(root, "memory", "memory.max"), *_texts(root, "memory", "memory.limit_in_bytes")]
    return min((int(text) for text in texts if text.isdigit()), default=None)


def core_limit(root: Path = ROOT) -> float | None:
    """Seconds of processor time in a second that they may use; None without a limit."""
    shares = [text.split() for text in _texts(root, "cpu", "cpu.max")]
    quotas, periods = _texts(root, "cpu", "cpu.cfs_quota_us"), _texts(root, "cpu", "cpu.cfs_period_us")
    shares += [[quota, period] for quota, period in zip(quotas, periods, strict=False)]
    return min((int(quota) / int(period) for quota, period in shares if quota.isdigit()), default=None)


def _texts(root: Path, controller: str, file: str) -> Iterator[str]:
    """A file of this process's group and of those around it."""
    for group in _groups(root, controller):
        try:
            yield (group / file).read_text(encoding="ascii").strip()
        except OSError:
            continue


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of groups, the innermost first; in a container only the outermost may be there to see."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        inside = Path(path.lstrip("/"))
        yield from (top / group for group in (inside, *inside.parents))
