"""Limits of a process (ulimit) that are too low for torch or for a sweep are reported in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from cnnexp.errors import UserError
from cnnexp.process import limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def limited(limit: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run cnnexp in a shell with a limit."""
    command = ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", sys.executable, "-m", "cnnexp", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("limit", "sweep", "message"),
    [
        ("-n 5", True, "cnnexp: ulimit -n: the limit of 5 open files is too low for this sweep; allow more"),
        ("-n 20", True, "cnnexp: ulimit -n: the limit of 20 open files is too low for this sweep; allow more"),
        ("-v 600000", False, "cnnexp: ulimit -v: the limit of 585 MiB of address space is too low to import torch; "),
        ("-v 600000", True, "cnnexp: ulimit -v: the limit of 585 MiB of address space is too low to import torch; "),
    ],
)
def test_a_limit_that_is_too_low_is_one_line(tiny: list[str], limit: str, sweep: bool, message: str) -> None:
    done = limited(limit, "train", *tiny, *(["-m", "seed=0,1", "slots=cpu:2"] if sweep else []))
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("postcards: prepar")]
    assert done.returncode == 2 and line.startswith(message), done.stderr


@pytest.mark.parametrize(
    ("kib", "command", "message"),
    [
        (600000, "evaluate", "585 MiB of address space is too low to import torch; allow more"),
        (600000, "predict", "585 MiB of address space is too low to import torch; allow more"),
        (100000, "report", "97 MiB of address space is too low to import numpy; allow more"),
        (100000, "verify", "97 MiB of address space is too low to import numpy; allow more"),
    ],
)
def test_every_command_says_that_address_space_is_too_low(tmp_path: Path, kib: int, command: str, message: str) -> None:
    done = limited(f"-v {kib}", command, str(tmp_path), *["x.png"] * (command == "predict"))
    assert done.returncode == 2 and done.stderr.startswith(f"cnnexp: ulimit -v: the limit of {message}"), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_sweep_at_the_lowest_limit_of_open_files_works(tiny: list[str], outputs: Path) -> None:
    words = [*tiny, "-m", "seed=0,1", "slots=cpu:2", "epochs=1st"]
    codes = []
    for limit in range(20, 33):
        done = limited(f"-n {limit}", "train", *words, f"outputs={outputs / str(limit)}")
        assert "Traceback" not in done.stdout + done.stderr
        codes.append(done.returncode)
    assert set(codes) == {0, 2} and codes == sorted(codes, reverse=True)


def test_open_files_are_counted_with_the_slots() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    limits.check_open_files(3)
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "what was opened is closed"
    with pytest.raises(UserError, match=r"open files is too low for this sweep; .*, or give fewer slots$"):
        limits.check_open_files(10**7)


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        ({"cpu.max": "250000 100000\n"}, 2.5),
        ({"cpu.max": "max 100000\n"}, float("inf")),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_a_quota_of_a_container_limits_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], allowed: float
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert limits.cpu_quota(tmp_path) == allowed
    monkeypatch.setattr(limits, "cpu_quota", lambda: allowed)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # as a launcher sets it: the same study has the same numbers
    assert limits.cores() == {2.5: 2, 0.5: 1, float("inf"): 64}[allowed]
