"""Run the tests of what can go wrong in full, and write what they counted into docs/reliability.md.

Run: python scripts/reliability.py [PART OF A SET'S NAME ...]      (all sets; minutes)

A set is a file of tests. A test counts with pytest's `record_property("kill points", 156)`; of several tests that count
the same the largest number is taken, and of those marked `counts("requests", 50)` the sum. A set that fails is written
down as such, and the exit code is 1.
"""

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SETS = {
    "Kills, full disks and power losses": "tests/guarantees/test_crash.py",
    "Damaged files": "tests/guarantees/test_damage.py",
    "File operations in one package": "tests/storage/test_one_place.py",
    "Replacing files": "tests/storage/test_files.py",
    "Files of rows": "tests/storage/test_rows.py",
    "Free space": "tests/storage/test_space.py",
    "Temporary folders": "tests/storage/test_scratch.py",
    "Unreadable files": "tests/guarantees/test_unreadable.py",
    "Limits of a process": "tests/process/test_limits.py",
    "Standard streams": "tests/process/test_streams.py",
    "Locks": "tests/storage/test_locks.py",
    "Resumed at every step": "tests/guarantees/test_resume_boundaries.py",
    "Missing fields of a checkpoint": "tests/guarantees/test_resume_mutations.py",
    "Signals": "tests/guarantees/test_signals.py",
    "Sweeps": "tests/sweep/test_sweep.py",
    "Concurrent commands": "tests/guarantees/test_concurrency.py",
    "Repeating a run from its record": "tests/commands/test_rerun.py",
    "Verifying numbers": "tests/commands/test_verify.py",
    "Numbers computed twice": "tests/report/test_oracle.py",
    "Faults in the arithmetic": "tests/report/test_oracle_mutants.py",
    "Bad requests": "tests/guarantees/test_fuzz.py",
    "Bad images": "tests/guarantees/test_hostile_images.py",
    "Trees of images": "tests/data/test_folders.py",
    "Values of pixels": "tests/data/test_pixels.py",
    "Caches of images": "tests/data/test_digests.py",
    "Dry run of own parts": "tests/training/test_dry_run.py",
    "Downloads": "tests/data/test_download.py",
    "Archives": "tests/data/test_archive.py",
    "Hostile checkpoints": "tests/guarantees/test_hostile_checkpoints.py",
    "Hostile configs": "tests/guarantees/test_hostile_configs.py",
    "Hostile folders": "tests/guarantees/test_hostile_folders.py",
    "Hostile texts": "tests/guarantees/test_hostile_text.py",
    "Calls that can run code": "tests/guarantees/test_hostile_lint.py",
}


@dataclass
class Outcome:
    """What a set came to: {what was counted: how many}."""

    name: str
    file: str
    tests: int
    failed: int
    seconds: float
    counts: dict[str, int]

    def row(self) -> str:
        """Return the set as a row of the table."""
        counts = ", ".join(f"{count:,} {what}" for what, count in self.counts.items()) or "-"
        passed = "all passed" if not self.failed else f"**{self.failed} failed**"
        return f"| {self.name} (`{self.file}`) | {self.tests} | {counts} | {passed} | {self.seconds:.0f} |"


def run(name: str, file: str) -> Outcome:
    """Run a set in full, one test at a time."""
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", file, "-m", "slow or not slow", "--timeout=3600"]
        command += ["-o", "junit_family=xunit1", f"--junitxml={xml}"]
        ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "CNNEXP_ALL_FAULTS": "1"}, check=False)
        if not xml.exists():
            sys.exit(f"{file}: pytest ended with code {ended.returncode} and wrote no results")
        return read(name, file, ET.parse(xml).getroot())


def read(name: str, file: str, tree: "ET.Element") -> Outcome:
    """Read what pytest wrote down of a set."""
    (suite,) = tree.iter("testsuite")
    counts: dict[str, int] = {}
    for noted in tree.iter("property"):
        what, count = noted.attrib["name"], int(noted.attrib["value"])
        before = counts.get(what.removeprefix("+"), 0)
        counts[what.removeprefix("+")] = before + count if what.startswith("+") else max(count, before)
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    return Outcome(name, file, int(suite.attrib["tests"]), failed, float(suite.attrib["time"]), counts)


def write(outcome: Outcome) -> None:
    """Put a set's row into the table of the page; the others stay."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = {match[1]: match[0] for match in re.finditer(r"^\| ([^|(]+) \(`.*$", table, re.M)}
    rows[outcome.name] = outcome.row()
    order = [name for name in SETS if name in rows]
    lines = ["| Set | Tests | Counted | | Seconds |", "|---|---|---|---|---|", *(rows[name] for name in order)]
    PAGE.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}", encoding="utf-8")


def main(words: list[str]) -> int:
    """Run the sets whose names hold one of the words, or all."""
    chosen = {name: file for name, file in SETS.items() if not words or any(w.lower() in name.lower() for w in words)}
    failed = 0
    for name, file in chosen.items():
        outcome = run(name, file)
        write(outcome)
        failed += outcome.failed
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
