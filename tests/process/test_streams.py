"""Standard streams that are full, closed or gone: the command goes on, and says so where there is a stream."""

import subprocess
import sys
from pathlib import Path

import pytest
from fake_records import write_run

from cnnexp.records.run_record import find_runs

RUN = 'exec "$0" -m cnnexp "$@"'
GONE = "> >(exec true)"  # a pipe whose reader has ended by the time that Python has started
FULL = "cannot be written (No space left on device)"


def shell(redirection: str, *words: str) -> tuple[int, str, str]:
    """Return the exit code, standard output and standard error of a command whose streams a shell redirects."""
    done = subprocess.run(
        ["bash", "-c", f"{RUN} {redirection}", sys.executable, *words], capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("redirection", "found"),
    [
        (">/dev/full", (3, "", f"cnnexp: standard output: {FULL}\n")),
        (">&-", (0, "", "")),
        (">&- 2>&- <&-", (0, "", "")),
        (GONE, (141, "", "")),
        (">/dev/full 2>&1", (3, "", "")),
    ],
)
def test_output_that_goes_nowhere(tmp_path: Path, redirection: str, found: tuple[int, str, str]) -> None:
    write_run(tmp_path, "baseline", 0)
    assert shell(redirection, "runs", str(tmp_path)) == found


def test_an_error_is_printed_on_the_other_stream(tmp_path: Path) -> None:
    code, out, _ = shell("2>/dev/full", "runs", str(tmp_path / "nope"))
    assert (code, out) == (2, f"cnnexp: standard error: {FULL}\n")
    assert shell("2>&-", "runs", str(tmp_path / "nope")) == (2, "", "")


BOTH_FULL, BOTH_GONE = ">/dev/full 2>&1", f"{GONE} 2>&1"


@pytest.mark.integration
@pytest.mark.parametrize("redirection", [">/dev/full", "2>/dev/full", ">&-", "2>&-", GONE, BOTH_FULL, BOTH_GONE])
@pytest.mark.parametrize("sweep", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_training_goes_on(tiny: list[str], outputs: Path, redirection: str, sweep: bool) -> None:
    words = ["train", *(["-m", "seed=0,1"] if sweep else []), *tiny, "slots=cpu:1"]
    code, _, err = shell(redirection, *words)
    assert [run.status for run in find_runs(outputs)] == ["done"] * (1 + sweep)
    assert "Traceback" not in err
    lost = {">/dev/full": 3, BOTH_FULL: 3, GONE: 141, BOTH_GONE: 141}
    assert code == lost.get(redirection, 0)
    assert err.count("standard output: cannot be written") == (redirection in (">/dev/full", GONE))
