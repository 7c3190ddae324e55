"""Arms that are in no comparison are named where the result is read first, with the reason."""

from pathlib import Path
from typing import Any

import pytest
from fake_records import write_run, write_study

from cnnexp import report, storage
from cnnexp.report.analysis.findings import Findings, analyse
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.render.answer import answer

ARMS = {"baseline": (0.5, 0.3, 60.0), "better": (0.6, 0.1, 70.0)}


def study_with(outputs: Path, **ended: dict[str, Any]) -> Path:
    """Write a study of three seeds, and arms that all ended without a result; ended: {arm: fields of its runs}."""
    folder = write_study(outputs, ARMS)
    runs = [write_run(outputs, arm, seed, **fields) for arm, fields in ended.items() for seed in range(3)]
    content = storage.read_json(folder / "study.json")
    entries = [{"folder": r.folder.name, **{k: r.info[k] for k in ("arm", "seed", "fingerprint")}} for r in runs]
    content |= {"runs": [*content["runs"], *entries], "arms": [*content["arms"], *ended]}
    storage.write_json(folder / "study.json", content)
    return folder


def found_of(folder: Path) -> Findings:
    ((_, records),) = find_groups(folder)
    return analyse(collect(folder, records))


FAILED: dict[str, Any] = {"status": "failed", "error": {"type": "ValueError", "message": "no such layer"}}
LONG: dict[str, Any] = {
    "status": "skipped",
    "error": {"type": "UserError", "message": "it starts from " + "x" * 90 + ", which is failed"},
}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ({"dropout": FAILED}, "No result: dropout (failed: ValueError: no such layer (epoch 3 of 15))."),
        (
            {"dropout": FAILED, "frozen": FAILED},
            "No result: dropout, frozen (failed: ValueError: no such layer (epoch 3 of 15)).",
        ),
        ({"frozen": LONG}, "…xx, which is failed)."),
        ({"dropout": {"status": "diverged"}}, "Not decided: dropout (all runs diverged)."),
    ],
)
def test_an_arm_without_a_result_is_named_first_with_the_reason(
    tmp_path: Path, ended: dict[str, dict[str, Any]], said: str
) -> None:
    folder = study_with(tmp_path, **ended)
    verdict = answer(found_of(folder)).verdict
    assert verdict.startswith("Better than baseline: better. ") and verdict.endswith(said) and len(verdict) < 130
    made = report.write(folder, figures=False)
    assert verdict in made.terminal and verdict in made.index.read_text()


def test_it_is_named_where_only_one_arm_has_a_result(tmp_path: Path) -> None:
    write_run(tmp_path, "baseline", 0)
    write_run(tmp_path, "dropout", 0, **FAILED)
    verdict = answer(found_of(tmp_path / "demo")).verdict
    assert "nothing to compare it with. No result: dropout (failed" in verdict


@pytest.mark.integration
def test_many_arms_and_reasons_are_counted(tmp_path: Path) -> None:
    ended: dict[str, Any] = {f"a{n}": FAILED for n in range(8)}
    ended |= {f"b{n}": {"status": "oom", "error": {"type": "OOM", "message": str(n)}} for n in range(4)}
    verdict = answer(found_of(study_with(tmp_path, **ended))).verdict
    assert "No result: a0, a1, a2, a3, a4, a5 and 2 more (failed: " in verdict
    assert "; b1 (oom: OOM: 1 (epoch 3 of 15)) and 2 more." in verdict


def test_an_arm_with_some_results_or_runs_under_way_is_not(tmp_path: Path) -> None:
    folder = write_study(tmp_path, ARMS)
    write_run(tmp_path, "better", 2, **FAILED)
    write_run(tmp_path, "waits", 0, status="interrupted")
    assert "No result" not in answer(found_of(folder)).verdict
