"""The repetitions of the ablation: their tables, and that the README shows the verdicts that come out every time."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cnnexp.records.run_record import find_runs
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.read.collect import collect

pytest_plugins = ["trained_runs"]
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def demonstration(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PROJECT / "scripts"))
    import demonstration

    return demonstration


def shown(text: str) -> dict[str, str]:
    """Return {arm or claim: verdict} of the tables in a terminal's output. A long name may have … in its middle."""
    lines, found = text.splitlines(), dict[str, str]()
    for number, rule in enumerate(lines):
        columns = [match.span() for match in re.finditer("-+", rule)]
        verdict = [(a, b) for a, b in columns if lines[number - 1][a:b].strip() == "Verdict"]
        if re.fullmatch("[- ]+", rule) and verdict:
            rows = lines[number + 1 :]
            for row in rows[: rows.index("")]:
                found[row[: columns[0][1]].strip()] = row[slice(*verdict[0])].strip().partition(" (")[0]
    return found


def steady(page: str) -> dict[str, str]:
    """Return {arm or claim: verdict} of the page's second table, where all repetitions have the same verdict."""
    table = page.partition("| Arm or claim |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:] if "|" in line]
    verdicts = {name: {count.split(" ", 1)[1] for cell in cells for count in cell.split(", ")} for name, *cells in rows}
    return {name: found.pop() for name, found in verdicts.items() if len(found) == 1}


def contradictions(readme: str, found: dict[str, str]) -> list[str]:
    """Name what the README does not show, or shows with another verdict."""
    said = shown(readme)
    patterns = {re.escape(name).replace("…", ".*"): verdict for name, verdict in said.items()}
    matched = {name: [v for pattern, v in patterns.items() if re.fullmatch(pattern, name)] for name in found}
    return [f"{name}: {matched[name]}, not {verdict}" for name, verdict in found.items() if matched[name] != [verdict]]


def test_the_readme_shows_the_verdicts_that_every_repetition_has() -> None:
    readme = (PROJECT / "README.md").read_text()
    found = steady((PROJECT / "docs" / "ablation" / "repetitions.md").read_text())
    assert len(found) >= 8 and {*found.values()} >= {"better", "worse", "within noise", "holds"}
    assert contradictions(readme, found) == []
    other = re.sub(r"(^augmentation .*) better ", r"\1 worse  ", readme, flags=re.M)
    assert contradictions(other, found) == ["augmentation: ['worse'], not better"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_readmes_verdicts_come_out_here(demonstration: Any, outputs: Path) -> None:
    """Runs the ablation of the README: three minutes on two free cores."""
    command = [sys.executable, "-m", "cnnexp", "train", "+study=ablation", f"outputs={outputs}"]
    subprocess.run(command, check=True)
    findings = analyse(collect(outputs / "ablation", find_runs(outputs / "ablation")))
    found = demonstration.Repetition("0-4", "", findings, 0.0).verdicts
    expected = steady(demonstration.PAGE.read_text())
    assert contradictions((PROJECT / "README.md").read_text(), {name: found[name] for name in expected}) == []


@pytest.mark.integration
def test_the_tables_count_verdicts(demonstration: Any, trained_study: Path) -> None:
    findings = analyse(collect(trained_study, find_runs(trained_study)))
    made = [demonstration.Repetition(seeds, kernels, findings, 3.25) for seeds, kernels in (("0-1", "A"), ("2-3", "B"))]
    first, second = demonstration.tables([made[0], *made]).split("\n\n")
    runs = findings.baseline.runs
    test = [100 * run.test_accuracy for run in runs]
    assert first.splitlines()[2].startswith(
        f"| 0-1 | A | {sum(test) / 2:.2f} ± {abs(test[0] - test[1]) / 2**0.5:.2f} |"
    )
    assert first.splitlines()[4].endswith(" | 3.2 |")
    (row,) = [row for row in findings.rows if row.arm.label == "dropout"]
    verdict = row.verdict.partition(" (")[0]
    assert f"| dropout | 2 {verdict} | 1 {verdict} |" in second
    assert (
        "| Arm or claim | Verdicts, A | Verdicts, B |" in second
        and "| combined > baseline at every epoch | 2 " in second
    )
