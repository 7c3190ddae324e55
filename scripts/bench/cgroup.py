"""A limit on memory that counts the pages of mapped files: a control group of Linux, of either version."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.result import NotMeasured

NAME = "cnnexp-benchmark"


@dataclass(frozen=True)
class Group:
    """A control group below this process's own. limit, peak: the names of its files."""

    folder: Path
    limit: str
    peak: str

    def entering(self, command: Sequence[str | Path]) -> list[str | Path]:
        """Return a command that enters the group before it does anything else."""
        enter = f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"'
        return ["/bin/sh", "-c", enter, "sh", *command]

    def peak_mib(self) -> float | None:
        """Return the most memory that the group held, pages of files included; None if the kernel does not count."""
        try:
            return int((self.folder / self.peak).read_text()) / 2**20
        except OSError:
            return None


@contextmanager
def limited(limit_bytes: int) -> Iterator[Group]:
    """Make a group that may hold so much memory, and remove it. Raises NotMeasured if this machine does not let us."""
    group = find()
    if group is None:
        raise NotMeasured("no control group for memory can be made here")
    try:
        group.folder.mkdir(exist_ok=True)
        (group.folder / group.limit).write_text(str(limit_bytes))
    except OSError as error:
        raise NotMeasured(f"no control group for memory can be made here ({error.strerror})") from error
    try:
        yield group
    finally:
        group.folder.rmdir()


def find() -> Group | None:
    """Return where a group can be made: below the one that this process is in, so that its limits hold too."""
    try:
        own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return None
    for _, controllers, path in own:
        for _, mount, kind, options, *_ in mounts:
            folder = Path(mount) / path.lstrip("/")
            if kind == "cgroup" and "memory" in controllers.split(",") and "memory" in options.split(","):
                return Group(folder / NAME, "memory.limit_in_bytes", "memory.max_usage_in_bytes")
            if kind == "cgroup2" and not controllers and _offers_memory(folder):
                return Group(folder / NAME, "memory.max", "memory.peak")
    return None


def _offers_memory(folder: Path) -> bool:
    try:
        return "memory" in (folder / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False


def forget(file: Path) -> None:
    """Drop a file's pages from the kernel's cache, so that whoever reads it next is charged for them."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
