"""Runs that were made in two places, compared to the last bit."""

from pathlib import Path
from typing import Any

from conftest import untimed
from lives import differences

from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.training import checkpoint, hash_chain


def assert_same_runs(made: Path, expected: Path) -> None:
    """Compare all runs below two folders of outputs: rows, hashes, probes, logits, all weights. All are done."""
    these, those = find_runs(made), find_runs(expected)
    assert [run.name for run in these] == [run.name for run in those] and these
    for one, other in zip(these, those, strict=True):
        assert (one.status, other.status) == ("done", "done")
        assert list(differences(numbers(one), numbers(other))) == [], one.name


def numbers(run: RunRecord) -> dict[str, Any]:
    """Return what a run computed."""
    return {
        "rows": untimed(run),
        "hash chain": hash_chain.read(run.folder),
        "probes": run.probe_rows(),
        "predictions": run.predictions(),
        "weights": {
            file.name: checkpoint.read(file)["model"] for file in sorted((run.folder / "checkpoints").glob("*.pt"))
        },
    }
