"""`cnnexp verify`: a value that was changed in a run or in a table of its report is found."""

import csv
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from consistent_study import CELLS, change_a_cell, change_cells, make_consistent, tamper
from fake_records import write_run, write_study

from cnnexp import cli, report, storage
from cnnexp.commands.verify import SCOPE
from cnnexp.records.run_record import find_runs
from cnnexp.report.verify import Value, check

pytestmark = pytest.mark.counts("changes and agreements")

pytest_plugins = ["studies", "trained_runs"]

ALSO = {  # cells that follow from no logits: the command compares them too
    "claims": ["unit", "reported", "remark", "std"],
    "effects": ["formula", "points_std"],
    "reported": ["unit", "metric"],
    "runs": ["arm", "repeat", "shift_consistency_percent", "fingerprint"],
}


def places(values: list[Value]) -> list[tuple[str, str]]:
    """Return (name of the file without its ending, column) of each value."""
    return [(Path(value.where.partition(", line ")[0]).stem, value.name) for value in values]


@pytest.mark.integration
def test_all_agrees(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(demo)]) == 0
    done, files = check(demo, demo / "report"), list((demo / "report" / "tables").iterdir())
    assert capsys.readouterr().out == (
        f"{len(done.values)} values in 21 runs and {len(files)} tables agree with the stored logits and rows\n{SCOPE}\n"
    )
    assert {file.suffix for file in files} == {".csv", ".md", ".tex"}
    assert len(done.values) > 5000


def test_runs_that_were_trained_agree(trained_run: Path, other_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in (trained_run, other_run):
        assert cli.main(["verify", str(run)]) == 0
        printed = capsys.readouterr()
        assert printed.out == f"9 values in 1 run and 0 tables agree with the stored logits and rows\n{SCOPE}\n"
        assert printed.err == f"cnnexp: no report in {run / 'report'}: run.json alone is compared\n"


@pytest.mark.integration
def test_a_study_that_was_trained_agrees(trained_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (trained_study / "report" / "tables" / "diagnostics.md").exists()
    assert cli.main(["verify", str(trained_study)]) == 0
    assert " values in 8 runs and 34 tables agree" in capsys.readouterr().out


@pytest.mark.integration
def test_every_changed_cell_is_found_and_no_other(
    study: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    tables = study / "report" / "tables"
    changed = change_cells(tables, CELLS)
    wrong = check(study, study / "report").wrong
    assert sorted(places(wrong)) == sorted(changed) and len(wrong) == 73
    record_property("cells changed", len(changed))
    assert cli.main(["verify", str(study)]) == 3
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 13, "what may be the reason, ten of them, how many more, and how many in all"
    assert out[0] == "runs were added or removed since the report was made? `cnnexp report` makes it again"
    assert out[1].startswith(f"{tables / 'comparison.csv'}, line 3 (") and "), seeds: stored " in out[1]
    assert all(", recomputed " in line for line in out[1:11])
    assert out[-2] == "... and 63 more" and out[-1].startswith("73 of ")


@pytest.mark.integration
def test_a_changed_cell_that_follows_from_no_logits_is_found(study: Path) -> None:
    changed = change_cells(study / "report" / "tables", ALSO)
    wrong = check(study, study / "report").wrong
    assert sorted(places(wrong)) == sorted(changed)
    value = next(value for value in wrong if value.name == "unit" and value.stored == "changed")
    assert value.recomputed in ("points", "%", "ratio") and ", line 3 (" in value.where


def test_a_changed_cell_of_every_column_of_every_file_is_found(study: Path) -> None:
    """All cells of the last row of every table, in Markdown and LaTeX too."""
    changed = []
    for file in (study / "report" / "tables").iterdir():
        lines = file.read_text().split("\n")
        separator = {".md": " | ", ".tex": " & ", ".csv": ","}[file.suffix]
        number = next(i for i, line in reversed(list(enumerate(lines))) if separator in line)
        cells = next(csv.reader([lines[number]])) if file.suffix == ".csv" else lines[number].split(separator)
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="").writerow([f"7{cell}" for cell in cells])
        lines[number] = buffer.getvalue() if file.suffix == ".csv" else separator.join(f"7{cell}" for cell in cells)
        file.write_text("\n".join(lines))
        changed += [f"{file}, line {number + 1}"] * len(cells)
    wrong = check(study, study / "report").wrong
    assert sorted(value.where.partition(" (")[0] for value in wrong) == sorted(changed) and len(changed) > 200
    assert {value.name for value in wrong} >= {
        "remark",
        "Remark",
        "Test accuracy (\\%)",
        "verdict",
        "shift_consistency_percent",
    }


def test_a_changed_note_a_line_more_and_a_table_more_are_found(study: Path) -> None:
    tables = study / "report" / "tables"
    notes = (tables / "claims.md").read_text()
    (tables / "claims.md").write_text(notes.replace("two-sided", "one-sided"))
    (tables / "cost.md").write_text((tables / "cost.md").read_text() + "better\n")
    (tables / "more.tex").write_text("")
    (tables / "cost.tex").unlink()
    wrong = {Path(value.where.partition(", line ")[0]).name: value for value in check(study, study / "report").wrong}
    assert set(wrong) == {"claims.md", "cost.md", "more.tex", "cost.tex"}
    assert "one-sided" in wrong["claims.md"].stored and "two-sided" in wrong["claims.md"].recomputed
    assert wrong["cost.md"].stored == "better" and wrong["cost.md"].recomputed == ""
    assert wrong["more.tex"].recomputed == "no table of these runs" and wrong["cost.tex"].stored == "no such file"


@pytest.mark.parametrize("fingerprint", ["1234567890", "12e4567890", "0000000000"])
def test_a_fingerprint_that_reads_as_a_number_is_compared_as_text(fingerprint: str) -> None:
    assert Value("", "", fingerprint, fingerprint).agrees
    assert not Value("", "", fingerprint[:-1] + "1", fingerprint).agrees


def test_numbers_agree_up_to_rounding() -> None:
    assert Value("", "", 0.1 + 0.2, 0.3).agrees and Value("", "", repr(0.1 + 0.2), "0.3").agrees
    assert Value("", "", None, float("nan")).agrees and Value("", "", "1e-15", "0.0").agrees
    for stored, recomputed in (("", "0.3"), ("0.30000001", "0.3"), (None, 0.3), ("x", 0.3), (None, "")):
        assert not Value("", "", stored, recomputed).agrees, (stored, recomputed)


def test_a_changed_run_is_found(study: Path) -> None:
    changed, untouched = tamper(study)
    wrong = check(study, study / "report").wrong
    for run, name in changed:
        assert [v for v in wrong if (run in v.where) and v.name == name], (name, wrong)
    of_files = [v.where.partition("/")[0] for v in wrong if ", line " not in v.where]
    assert not untouched & set(of_files)


@pytest.mark.integration
def test_tables_are_rebuilt_from_the_logits_and_not_from_a_changed_record(study: Path) -> None:
    """A report that was made of the changed record agrees with it, but not with the logits."""
    run = next(run for run in find_runs(study) if run.info["status"] == "done")
    run.update(result={**run.info["result"], "test_accuracy": 0.9, "val_accuracy": 0.99})
    report.write(study, figures=False)
    found = places(check(study, study / "report").wrong)
    assert {("comparison", "test_accuracy_mean_percent"), ("runs", "val_accuracy_percent")} <= set(found)


@pytest.mark.integration
def test_a_run_that_is_gone_is_missed(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(find_runs(study)[0].folder)
    assert cli.main(["verify", str(study)]) == 3
    assert "runs were added or removed" in capsys.readouterr().out
    assert {"seeds", "rows"} <= {value.name for value in check(study, study / "report").wrong}


@pytest.mark.parametrize("content", ["{", "[]", '{"status": "done"}', "damaged", "of another run"])
def test_a_record_that_is_malformed_or_damaged_is_reported(study: Path, content: str) -> None:
    """And the numbers of the others are compared all the same."""
    first, second, *_ = find_runs(study)
    file, original = first.folder / "run.json", (first.folder / "run.json").read_text()
    text = {
        "damaged": original.replace('"seconds"', '"secnods"', 1),
        "of another run": (second.folder / "run.json").read_text(),
    }
    file.write_text(text.get(content, content))
    done = check(study, study / "report")
    (found,) = [value for value in done.wrong if value.where == f"{first.name}/run.json"]
    assert found.name == "record" and "run.json: " in found.stored
    assert done.runs == 20 and cli.main(["verify", str(first.folder)]) == 3


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "predictions.npz"])
def test_a_damaged_file_is_reported_and_stops_nothing(
    trained_run: Path, other_run: Path, tmp_path: Path, name: str
) -> None:
    runs = [Path(shutil.copytree(run, tmp_path / run.name)) for run in (trained_run, other_run)]
    damaged = bytearray((runs[0] / name).read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (runs[0] / name).write_bytes(damaged)
    done = check(tmp_path, tmp_path / "report")
    assert done.runs == 2 and f"{runs[0].name}/{name}" in {value.where for value in done.wrong}
    assert not [value for value in done.wrong if runs[1].name in value.where]


def test_nothing_to_recompute_is_no_agreement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "dropout", 8, status="failed", error={"type": "E", "message": "no"})
    assert cli.main(["verify", str(run.folder)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("holds no number to recompute: no run is done, and there is no report")


@pytest.mark.integration
def test_a_table_that_is_not_of_these_runs_is_reported(study: Path) -> None:
    plan = storage.read_json(study / "study.json")
    storage.write_json(study / "study.json", {**plan, "claims": [], "reported": {}})
    wrong = check(study, study / "report").wrong
    tables = study / "report" / "tables"
    files = [f"{name}.{ending}" for name in ("claims", "reported") for ending in ("csv", "md", "tex")]
    assert {v.where for v in wrong if v.name == "table"} == {str(tables / file) for file in files}
    (tables / "comparison.csv").unlink()
    assert [v for v in check(study, study / "report").wrong if v.where == str(tables / "comparison.csv")]


@pytest.mark.slow
def test_several_studies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        arms = {"baseline": (0.5, 0.3, 10.0), "other": (0.6, 0.3, 10.0)}
        write_study(tmp_path, arms, study=name, claims=["other > baseline"])
    write_run(tmp_path, "other", study="rerun", command="cnnexp rerun one/other/0")  # in no report, but recomputed
    make_consistent(tmp_path, {})
    report.write(tmp_path, figures=False)
    done = check(tmp_path, tmp_path / "report")
    files = [file for file in (tmp_path / "report").rglob("tables/*") if file.is_file()]
    assert (done.runs, done.tables, done.wrong, done.without_report) == (13, len(files), [], [])
    change_a_cell(tmp_path / "report" / "tables" / "claims.csv", "mean")
    assert [value.name for value in check(tmp_path, tmp_path / "report").wrong] == ["mean"]
    assert cli.main(["verify", str(tmp_path / "three")]) == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.slow
def test_no_torch(demo: Path) -> None:
    code = (
        f"import sys; from cnnexp.cli import main; assert main(['verify', {str(demo)!r}]) == 0\n"
        "assert not {'torch', 'hydra', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)
