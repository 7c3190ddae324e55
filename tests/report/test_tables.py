"""The tables of a report: formats, full precision, and every table in every form from one list."""

import csv
import io
import math
from types import SimpleNamespace

import pytest
from fake_records import write_run, write_study

from cnnexp import report
from cnnexp.pages.tables import to_csv, to_terminal, to_texts
from cnnexp.report.analysis.decisions import Decision, compared_with
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.analysis.statistics import Estimate, beside_limit, p_value
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.render import claim_tables, formats
from cnnexp.report.render.comparison_tables import comparison
from cnnexp.report.render.formats import decision_columns
from cnnexp.report.render.tables import tables_of, tables_of_studies

pytest_plugins = ["studies"]

TWO = {"baseline": (0.5, 0.3, 60.0), "dropout": (0.6, 0.1, 70.0)}


def csv_cells(table):
    return list(csv.reader(io.StringIO(to_csv(table))))


def findings_of(folder):
    return analyse(collect(*find_groups(folder)[0]))


def test_formats():
    assert formats.percent(Estimate(3, 0.7567, 0.7, 0.8, std=0.0034)) == "75.67 ± 0.34"
    assert formats.percent(Estimate(1, 0.7567)) == "75.67"
    assert formats.percent(Estimate(0)) == "-"
    assert formats.score(Estimate(3, 0.75671, 0.7, 0.8, std=0.00341)) == "0.7567 ± 0.0034"
    one, three = Estimate(1, 0.012), Estimate(3, 0.012, -0.004, 0.02, 0.1)
    assert [formats.points(d) for d in (None, one, three)] == ["-", "+1.20", "+1.20 [-0.40, +2.00]"]
    assert [p_value(p, True) for p in (0.034, 0.00043, 1e-9, math.nan)] == ["= 0.034", "= 0.0004", "< 0.0001", "-"]


def test_csv_holds_full_precision(tmp_path):
    found = findings_of(write_study(tmp_path, TWO))
    (base, dropout) = csv.DictReader(io.StringIO(to_csv(comparison(found))))
    assert float(dropout["difference_mean_points"]) == 100 * found.rows[1].difference.mean
    assert float(dropout["p_limit"]) == found.rows[1].decision.limit == pytest.approx(0.04)
    assert (base["is_baseline"], base["p_limit"], base["seeds"]) == ("1", "", "0 1 2")


def test_terminal_fits(tmp_path):
    for seed in range(3):
        write_run(tmp_path, "baseline", seed + 1, 0.5)
        write_run(tmp_path, "an_arm_with_a_name_that_nobody_would_type_twice", seed, 0.61 + seed / 100, seconds=12345.6)
    printed = to_terminal(comparison(findings_of(tmp_path)))
    assert max(len(line) for line in printed.splitlines()) <= 120
    assert "…" in printed and ", 2 pairs" in printed


@pytest.mark.integration
@pytest.mark.parametrize("classes", [["a", "b"], [f"class {k}" for k in range(60)]])
def test_the_files_of_a_report_are_the_tables_of_its_findings(tmp_path, classes):
    for arm in TWO:
        for seed in range(2):
            write_run(tmp_path, arm, seed, TWO[arm][0] + seed / 100, classes=classes)
    found = findings_of(tmp_path)
    made = to_texts(tables_of(found))
    out = report.write(tmp_path / "demo", figures=False).index.parent
    assert {file.name: file.read_text() for file in (out / "tables").iterdir()} == made
    for name, table in tables_of(found).items():
        if name.endswith(".csv"):
            (names, *rows) = csv_cells(table)
            assert all(names) and len(set(names)) == len(names)
            assert all(len(row) == len(names) for row in rows)


@pytest.mark.integration
def test_the_tables_over_studies_are_of_the_same_columns(tmp_path):
    claims = {"claims": ["dropout > baseline"], "reported": {"dropout": 61.0}, "source": "a report"}
    studies = [findings_of(write_study(tmp_path, TWO, study=name, **claims)) for name in ("one", "two")]
    made = tables_of_studies(studies)
    assert list(made) == ["studies.md", "claims.md", "claims.csv", "reported.md"]
    (names, *rows) = csv_cells(made["claims.csv"])
    (of_one, first) = csv_cells(tables_of(studies[0])["claims.csv"])
    assert names == ["study", *of_one] and rows[0] == ["one", *first] and rows[1][0] == "two"
    assert made["reported.md"].notes[:2] == ("one: a report.", "two: a report.")


def test_a_p_value_and_its_limit_never_read_the_same_if_they_differ():
    shown = {
        (0.00804, 0.008): ("0.00804", "0.008"),
        (0.008, 0.00804): ("0.008", "0.00804"),
        (0.0498, 0.04): ("0.0498", "0.04"),
        (0.049999, math.nan): ("0.049999", "-"),
        (0.00003, 0.00008): ("3e-05", "8e-05"),
        (0.00003, 0.008): ("< 0.0001", "0.008"),
        (0.02, 0.02): ("0.02", "0.02"),
        (0.0123, 0.0083): ("0.012", "0.0083"),
        (math.nan, 0.02): ("-", "0.02"),
    }
    assert {given: beside_limit(*given) for given in shown} == shown
    row = Decision(p=0.00804, limit=0.008, n=5, rule="planned seeds"), 0.00804
    p, limit = (column.text(row) for column in decision_columns(lambda row: row) if column.heading)
    assert (p, limit) == ("0.00804", "0.008")
    assert compared_with(row[0]) == "; at 5 seeds p = 0.00804, and a verdict needs p < 0.008 (rule: planned seeds)"


@pytest.mark.parametrize(("unit", "shown"), [("nats", "0.004"), ("points", "0.00"), ("epochs", "0.0"), ("", "0.00")])
def test_what_would_have_been_detected_is_in_the_digits_of_its_unit(unit, shown):
    claim = SimpleNamespace(evidence=SimpleNamespace(claim=SimpleNamespace(unit=unit)), detectable=0.004)
    (column,) = (column for column in claim_tables.CLAIMS if column.heading == "Detectable")
    assert column.text(claim) == shown


@pytest.mark.integration
def test_the_table_for_papers_has_what_a_setting_is_chosen_by_and_no_empty_column(tmp_path):
    arms = ("optimizer.lr=0.1", "optimizer.lr=1")
    for arm in arms:
        for seed in range(3):
            write_run(tmp_path, arm, seed, 0.5 + seed / 100, changes=[arm])
    tables = report.write(tmp_path / "demo", figures=False).index.parent / "tables"
    lines = (tables / "comparison.tex").read_text().splitlines()
    heads = next(line for line in lines if line.startswith("Arm &")).removesuffix(r" \\").split(" & ")
    assert heads == ["Arm", r"Validation accuracy (\%)", r"Test accuracy (\%)", r"95 \% interval", "n"]
    notes = [line for line in lines if line.startswith("% ")]
    assert notes and not [line for line in notes if "Epochs to plateau" in line or "Training accuracy" in line]
    (first, *_) = csv.DictReader(io.StringIO((tables / "comparison.csv").read_text()))
    assert float(first["val_accuracy_std_percent"]) > 0 and float(first["train_accuracy_std_percent"]) > 0


@pytest.mark.integration
def test_claims_effects_and_reported_numbers_are_latex_too(study):
    report.write(study, figures=False)
    for name in ("claims", "effects", "reported", "comparison"):
        text = (study / "report" / "tables" / f"{name}.tex").read_text()
        assert r"\toprule" in text and "Remark" not in text
    assert r"Difference (points)" in (study / "report" / "tables" / "comparison.tex").read_text()
