"""Run a command, time it, and on request sample the memory of its process and of all processes that it starts."""

import json
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

SAMPLE_SECONDS = 0.2
IMAGES_FILE = b"images.npy"  # the prepared images, which every run of cnnexp maps
PIPES: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "errors": "replace"}
Sample = list[tuple[float, float]]  # of each process, the started one first: (all memory, prepared images only) in MiB


class NotMeasured(Exception):
    """Why something cannot be measured: what is missing, or the last line that a failed command wrote."""


@dataclass(frozen=True)
class Finished:
    """A process that has ended. seconds: wall time; output, errors: its stdout and stderr; peaks: see `peaks_of`."""

    seconds: float
    output: str
    errors: str
    peaks: dict[str, float]

    def result(self) -> Any:
        """Return the results in its last line, which is JSON."""
        return json.loads(self.output.strip().splitlines()[-1])


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    sample: bool = False,
    code: int = 0,
) -> Finished:
    """Run a command in `folder` and wait for it. Raises NotMeasured if its exit code is not `code`."""
    words, started = [str(word) for word in command], perf_counter()
    samples: list[Sample] = []
    done = threading.Event()
    with subprocess.Popen(words, cwd=folder, env=environment, text=True, **PIPES) as process:
        if sample:
            threading.Thread(target=_watch, args=(process.pid, samples, done), daemon=True).start()
        try:
            output, errors = process.communicate()
            seconds = perf_counter() - started
        finally:
            done.set()
            process.kill()  # does nothing if it has ended
    if process.returncode < 0:
        raise NotMeasured(f"it was killed by {signal.Signals(-process.returncode).name}")
    if process.returncode != code:
        raise NotMeasured((errors.strip() or output.strip() or "it failed silently").splitlines()[-1][-300:])
    return Finished(seconds, output, errors, peaks_of(samples) if samples else {})


def peaks_of(samples: Sequence[Sample]) -> dict[str, float]:
    """Return peaks in MiB of proportional set size, in which memory shared by several processes counts once.

    peak: all processes together; peak_with_data: the same with the prepared images, which are mapped from a file;
    main_process: the started process alone, largest_child: its largest descendant, both without the prepared images.
    """
    net = [[size - images for size, images in sample] for sample in samples]
    return {
        "peak_mib": max(sum(sizes) for sizes in net),
        "peak_with_data_mib": max(sum(size for size, _ in sample) for sample in samples),
        "main_process_mib": max(sizes[0] for sizes in net),
        "largest_child_mib": max(max(sizes[1:], default=0.0) for sizes in net),
    }


def _watch(pid: int, samples: list[Sample], done: threading.Event) -> None:
    while not done.wait(SAMPLE_SECONDS):
        if found := _sample(pid):
            samples.append(found)


def _sample(pid: int) -> Sample:
    folder = Path(f"/proc/{pid}")
    try:
        found = [parse_smaps((folder / "smaps").read_bytes())]
        children = [child for file in folder.glob("task/*/children") for child in file.read_text().split()]
    except OSError:  # it has ended
        return []
    return found + [size for child in children for size in _sample(int(child))]


def parse_smaps(content: bytes) -> tuple[float, float]:
    """Add up the `Pss:` lines of /proc/<pid>/smaps: (all, those of mapped prepared images), in MiB."""
    total = images = mapped = 0
    for line in content.splitlines():
        if line.startswith(b"Pss:"):
            total += int(line.split()[1])
            images += mapped * int(line.split()[1])
        elif line[:1] in b"0123456789abcdef":  # the first line of a mapping: address, permissions, ..., file
            mapped = line.endswith(IMAGES_FILE)
    return total / 2**10, images / 2**10
