"""A process that is measured: its wall time and, on request, the memory of it and all that it starts."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from bench.result import Failed

POLL_SECONDS = 0.2
LIMIT_SECONDS = 6 * 3600.0
DATA_FILE = b"images.npy"  # the prepared images, which every run of cnnexp maps


@dataclass(frozen=True)
class Finished:
    """A process that has ended. seconds: wall time; output: what it printed; errors: what it wrote to stderr."""

    seconds: float
    code: int
    output: str
    errors: str
    memory: "Memory"

    def last_line(self) -> str:
        """Return the last line that it printed. Raises Failed if it printed nothing."""
        lines = self.output.strip().splitlines()
        if not lines:
            raise Failed("it printed nothing")
        return lines[-1]


@dataclass
class Memory:
    """The most memory seen, in MiB, as proportional set size (what processes share is counted once).

    tree: of a process and its descendants; without_data: that without the prepared images, which are mapped from a
    file; main: of the process alone; child: of its largest descendant, without the prepared images.
    """

    tree: float = 0.0
    without_data: float = 0.0
    main: float = 0.0
    child: float = 0.0
    samples: int = field(default=0)

    def note(self, main: int, sizes: Mapping[int, tuple[float, float]]) -> None:
        """Take a sample: {pid: (all, of it prepared images)} in MiB."""
        net = {pid: size - data for pid, (size, data) in sizes.items()}
        self.tree = max(self.tree, sum(size for size, _ in sizes.values()))
        self.without_data = max(self.without_data, sum(net.values()))
        self.main = max(self.main, net.get(main, 0.0))
        self.child = max([self.child, *(size for pid, size in net.items() if pid != main)])
        self.samples += 1


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    folder: Path,
    watch: bool = False,
    expected: Sequence[int] = (0,),
) -> Finished:
    """Run a command in `folder` and wait for it. Raises Failed if its exit code is not an expected one."""
    started = perf_counter()
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    memory, done = Memory(), threading.Event()
    watcher = threading.Thread(target=follow, args=(process.pid, memory, done), daemon=True)
    if watch:
        watcher.start()
    try:
        output, errors = process.communicate(timeout=LIMIT_SECONDS)
    except BaseException as error:
        process.kill()
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failed(f"it did not end within {LIMIT_SECONDS:.0f} s") from error
        raise
    finally:
        done.set()
    seconds = perf_counter() - started
    if process.returncode < 0:
        raise Failed(f"it was killed by {signal.Signals(-process.returncode).name}")
    if process.returncode not in expected:
        lines = (errors.strip() or output.strip() or f"exit code {process.returncode}").splitlines()
        raise Failed(lines[-1][-300:])
    return Finished(seconds, process.returncode, output, errors, memory)


def follow(pid: int, memory: Memory, done: threading.Event) -> None:
    """Sample the memory of a process and its descendants until told that it is done."""
    while not done.wait(POLL_SECONDS):
        sizes = {member: size for member in family(pid) if (size := size_mib(member)) is not None}
        if sizes:
            memory.note(pid, sizes)


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended since
            continue
        parents[int(folder.name)] = int(fields[1])
    found, new = [pid], {pid}
    while new := {child for child, parent in parents.items() if parent in new}:
        found += sorted(new)
    return found


def size_mib(pid: int) -> tuple[float, float] | None:
    """Return the proportional set size of a process and the part of it that is prepared images; None if it is gone."""
    try:
        content = Path(f"/proc/{pid}/smaps").read_bytes()
    except OSError:
        return None
    return parse_smaps(content) if content else None


def parse_smaps(content: bytes) -> tuple[float, float]:
    """Add up the `Pss:` lines of /proc/<pid>/smaps: (all, those of mapped prepared images), in MiB."""
    total = data = 0
    mapped = False
    for line in content.splitlines():
        if line.startswith(b"Pss:"):
            size = int(line.split()[1])
            total += size
            data += size if mapped else 0
        elif line[:1] in b"0123456789abcdef":  # the first line of a mapping: address, permissions, ..., file
            mapped = line.endswith(DATA_FILE)
    return total / 2**10, data / 2**10


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what would tilt a comparison: thread counts, cnnexp's own folders.

    cnnexp sets its number of threads itself; a plain loop would follow OMP_NUM_THREADS.
    """
    left_out = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONWARNINGS")
    kept = {k: v for k, v in os.environ.items() if k not in left_out and not k.startswith(("CNNEXP_", "HYDRA_"))}
    if "PYTHONPATH" in kept:  # the processes are started in another folder
        kept["PYTHONPATH"] = os.pathsep.join(str(Path(p).resolve()) for p in kept["PYTHONPATH"].split(os.pathsep))
    return {**kept, **more}
