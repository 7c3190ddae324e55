"""The report of a search: what it says of trials whose values are known."""

import csv
import dataclasses
import math
import random
import re
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from fake_searches import SPACE, made

from cnnexp import cli
from cnnexp.records.run_record import RunRecord
from cnnexp.records.study import read_study, write_study
from cnnexp.report import write
from cnnexp.report.render import overview
from cnnexp.report.search.figures import line_of
from cnnexp.report.search.findings import importances, read_found
from cnnexp.search.space import read_space
from cnnexp.search.trials import SEARCH, Search, Trial, Trials, trial_name

pytestmark = pytest.mark.integration

pytest.importorskip("optuna")


def test_the_page_has_the_best_settings_as_a_command_and_all_figures(tmp_path: Path) -> None:
    folder = tmp_path / "lr & <b>"
    made(folder)
    report = write(folder)
    page = report.index.read_text()
    found = read_found(folder)
    assert found.best is not None and found.best.number == 5
    assert found.command in report.terminal and "optimizer.lr=0.01 model.norm=" in found.command
    assert "Best of 14 trials (13 complete, 1 pruned): optimizer.lr=0.01 model.norm=" in report.terminal
    assert "validation accuracy 80.00% (trial-005)" in report.terminal
    # sqrt(0.8 * 0.2 / 400) = 0.02: 1.96 of that, in points; others within 1.96 * sqrt(2) of it
    near = sum((trial.value or 0) >= 0.8 - 1.96 * math.sqrt(2) * 0.02 for trial in found.complete) - 1
    assert f"an accuracy is known to ± 3.9 points: {near} other trials cannot be distinguished" in report.terminal
    names = {file.stem for file in (folder / "report" / "figures").glob("*.png")}
    assert names == {"history", "importances", "settings", "parallel_coordinates", "curves"}
    assert "<b>" not in re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL) and "lr &amp; " in page
    rows = list(csv.DictReader((folder / "report" / "tables" / "trials.csv").read_text().splitlines()))
    values = [float(row["value"]) for row in rows[:-1]]
    assert values == sorted(values, reverse=True)
    assert rows[0]["optimizer.lr"] == "0.01" and rows[-1]["state"] == "pruned" and rows[-1]["value"] == ""


def test_a_trial_whose_settings_are_at_fault_is_named_by_its_end(tmp_path: Path) -> None:
    search = made(tmp_path / "s", 4)
    for number, status in ((0, "diverged"), (1, "oom")):
        RunRecord.read(tmp_path / "s" / f"{trial_name(number)}-s0-abc").update(status=status)
    Trials(search).add(4, {"optimizer.lr": 0.1, "model.norm": "none"}, error="too large")
    report = write(search.folder)
    assert "Best of 5 trials (1 complete, 1 pruned, 1 diverged, 1 oom, 1 refused):" in report.terminal
    assert "unfit" not in report.index.read_text()
    found = read_found(search.folder)
    assert [line_of(trial, found)[1] for trial in found.trials[:4]] == ["diverged", "oom", "best", "pruned"]


def test_a_lower_loss_is_better(tmp_path: Path) -> None:
    made(tmp_path / "s", monitor="loss", value=lambda lr: 0.8 - 0.1 * abs(math.log10(lr) + 2))
    report = write(tmp_path / "s")
    assert "validation loss 0.2000 (trial-005)" in report.terminal and "an accuracy is known" not in report.terminal


def test_a_search_of_one_trial_and_of_none(tmp_path: Path) -> None:
    made(tmp_path / "one", 1)
    assert "Best of 1 trial (1 complete)" in write(tmp_path / "one").terminal
    made(tmp_path / "none", 1)
    (tmp_path / "none" / "trial-000-s0-abc" / "run.json").unlink()
    assert "No trial is complete yet: 1 trial (1 open)." in write(tmp_path / "none").terminal


def retrained(folder: Path, seed: int, accuracy: float | None, config: str = "abc", norm: str = "") -> RunRecord:
    """Record a run of the best settings, called for by study.json; accuracy: None if it diverged."""
    best = read_found(folder).best
    assert best is not None
    study = folder.with_name(f"{folder.name}-best")
    run = RunRecord(study / f"best-s{seed}-{config}")
    run.folder.mkdir(parents=True)
    end = {"status": "diverged"} if accuracy is None else {"status": "done", "result": {"test_accuracy": accuracy}}
    run.update(**end, seed=seed, changes=["optimizer.lr=0.01", f"model.norm={norm or best.params['model.norm']}"])
    called = (read_study(study) or {"runs": []})["runs"]
    entry = {"folder": run.folder.name, "arm": "best", "seed": seed, "fingerprint": config}
    write_study(study, {"runs": [*called, entry], "arms": ["best"]})
    return run


def test_the_retrained_winner_is_named(tmp_path: Path) -> None:
    search = made(tmp_path / "s", 11)
    for seed, accuracy in ((1, 0.70), (2, 0.74)):
        run = retrained(search.folder, seed, accuracy)
    report = write(search.folder)
    assert "Retrained on 2 new seeds: test accuracy 72.00 ± 2.83 %." in report.terminal
    for text in (report.terminal, report.index.read_text()):
        assert "rain the best settings on new seeds, and test once" not in text
    run.update(changes=["optimizer.lr=0.5"])  # of an earlier winner: only seed 1 counts
    assert "Retrained on 1 new seed: test accuracy 70.00 %." in write(search.folder).terminal
    RunRecord.read(run.folder.with_name("best-s1-abc")).update(changes=["optimizer.lr=0.5"])
    assert "Retrained" not in write(search.folder).terminal


def test_a_search_is_found_in_its_own_folder(tmp_path: Path) -> None:
    folder = made(tmp_path / "s", 11).folder
    with chdir(folder):
        assert " study.name=s-best name=best" in write(Path(), figures=False).terminal
        retrained(folder, 1, 0.70)
        assert "Retrained on 1 new seed: test accuracy 70.00 %." in write(Path(), figures=False).terminal


def test_retrained_runs_of_another_config_are_another_experiment(tmp_path: Path) -> None:
    folder = made(tmp_path / "s", 11).folder
    for seed, accuracy in ((1, 0.10), (2, 0.14)):
        retrained(folder, seed, accuracy, "one epoch")
    for seed, accuracy in ((1, 0.70), (2, 0.74)):
        retrained(folder, seed, accuracy, "three epochs")
    assert "Retrained on 2 new seeds: test accuracy 72.00 ± 2.83 %." in write(folder, figures=False).terminal
    study = folder.with_name("s-best")
    called = (read_study(study) or {})["runs"]
    write_study(study, {"runs": called[2:], "arms": ["best"]})  # the others are superseded
    assert "Retrained on 2 new seeds: test accuracy 72.00 ± 2.83 %." in write(folder, figures=False).terminal
    write_study(study, {"runs": [*called[2:], *called[:2]], "arms": ["best"]})  # one epoch was asked for again
    assert "Retrained on 2 new seeds: test accuracy 12.00 ± 2.83 %." in write(folder, figures=False).terminal


def test_a_seed_counts_once_and_that_of_the_trials_is_not_new(tmp_path: Path) -> None:
    folder = made(tmp_path / "s", 11).folder
    retrained(folder, 0, 0.99)
    retrained(folder, 1, 0.70)
    copy = retrained(folder, 1, 0.90, "copy")
    study = folder.with_name("s-best")
    write_study(study, {"runs": (read_study(study) or {})["runs"][:2], "arms": ["best"]})
    assert copy.folder.exists()
    assert "Retrained on 1 new seed: test accuracy 70.00 %." in write(folder, figures=False).terminal


def test_retrained_runs_that_diverged_are_counted(tmp_path: Path) -> None:
    folder = made(tmp_path / "s", 11).folder
    retrained(folder, 1, None)
    report = write(folder, figures=False)
    assert "Retrained on 1 new seed: it diverged." in report.terminal
    assert "rain the best settings on new seeds, and test once" not in report.terminal + report.index.read_text()
    retrained(folder, 2, None)
    assert "Retrained on 2 new seeds: all diverged." in write(folder, figures=False).terminal
    for seed, accuracy in ((3, 0.70), (4, 0.74)):
        retrained(folder, seed, accuracy)
    said = "Retrained on 4 new seeds, 2 of which diverged: test accuracy of the others 72.00 ± 2.83 %."
    assert said in write(folder, figures=False).terminal


def test_folds_of_a_retrained_seed_are_one_result(tmp_path: Path) -> None:
    folder = made(tmp_path / "s", 11).folder
    retrained(folder, 1, 0.70, "fold-0")
    retrained(folder, 1, 0.74, "fold-1")
    study = folder.with_name("s-best")
    called = (read_study(study) or {})["runs"]
    of_both = [{**run, "group": "both"} for run in called]
    write_study(study, {"runs": of_both, "arms": ["best"]})
    assert "Retrained on 1 new seed: test accuracy 72.00 %." in write(folder, figures=False).terminal
    waits = {**of_both[0], "folder": "best-s1-fold-2", "fingerprint": "fold-2"}
    write_study(study, {"runs": [*of_both, waits], "arms": ["best"]})
    assert "Retrained" not in write(folder, figures=False).terminal, "a fold that has not begun is missing"


def test_searches_and_studies_have_one_index(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "a", 3)
    made(tmp_path / "b", 3)
    assert cli.main(["report", str(tmp_path), "--no-figures"]) == 0
    index = (tmp_path / "report" / "index.html").read_text()
    assert 'href="a/index.html"' in index and 'href="b/index.html"' in index


def test_the_overview_reads_a_search_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is damaged after it was read does no harm."""
    searches, real = [made(tmp_path / name, 3).folder for name in "ab"], overview.line
    assert cli.main(["report", str(tmp_path), "--no-figures"]) == 0
    before = (tmp_path / "report" / "index.html").read_text()

    def line(*given: Any) -> overview.Line:
        (searches[0] / SEARCH).write_text("{")
        return real(*given)

    monkeypatch.setattr(overview, "line", line)
    assert cli.main(["report", str(tmp_path), "--no-figures"]) == 0
    after = (tmp_path / "report" / "index.html").read_text()
    assert before.count("Search") == after.count("Search") and "Damaged" not in after


def test_the_page_of_a_search_is_made_again_when_its_trials_or_its_retrained_runs_change(tmp_path: Path) -> None:
    search = made(tmp_path / "a", 3)
    made(tmp_path / "b", 3)

    def is_made_again() -> list[str]:
        pages = {name: tmp_path / "report" / name / "index.html" for name in "ab"}
        before = {name: page.stat().st_mtime_ns for name, page in pages.items() if page.exists()}
        write(tmp_path, figures=False)
        return [name for name, page in pages.items() if page.stat().st_mtime_ns != before.get(name)]

    assert is_made_again() == ["a", "b"] and is_made_again() == []
    dataclasses.replace(search, trials=31).write()
    assert is_made_again() == ["a"]
    Trials(search).add(3, {"optimizer.lr": 0.1, "model.norm": "none"}, error="refused")
    assert is_made_again() == ["a"]
    run = tmp_path / "a-best" / "best-s1-abc"
    run.mkdir(parents=True)
    RunRecord.read(run).update(status="running")
    assert "a" in is_made_again() and "a" not in is_made_again()
    write_study(tmp_path / "a-best", {"runs": [], "arms": []})
    assert "a" in is_made_again()


def test_a_setting_that_decides_has_the_importance_and_noise_has_none() -> None:
    drawn = random.Random(1)
    search = Search(Path("s"), "tpe", read_space(SPACE), "accuracy", "best", 30, 0)

    def trials(value: Callable[[dict[str, Any]], float]) -> list[Trial]:
        found = []
        for number in range(40):
            params = {"optimizer.lr": 10 ** drawn.uniform(-4, -1), "model.norm": drawn.choice(["none", "batch"])}
            found.append(Trial(number, params, Path("s"), "complete", value(params), {1: 0.1}))
        return found

    first, second = importances(search, trials(lambda params: -abs(math.log10(params["optimizer.lr"]) + 2)))
    assert first.key == "optimizer.lr" and first.share > 0.8 and first.low > second.high
    assert first.share + second.share == pytest.approx(1)
    noise = importances(search, trials(lambda params: drawn.random()))
    assert noise[0].low < noise[1].high  # the intervals say that it is not known


def test_verify_recomputes_the_tables_of_a_search(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "s")
    write(tmp_path / "s", figures=False)
    assert cli.main(["verify", str(tmp_path / "s")]) == 0
    table = tmp_path / "s" / "report" / "tables" / "trials.csv"
    table.write_text(table.read_text().replace("0.8,", "0.9,"))
    assert cli.main(["verify", str(tmp_path / "s")]) == 3
    assert "trials.csv" in capfd.readouterr().out


def test_without_optuna_a_search_is_shown_without_importances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "s")
    monkeypatch.setattr("cnnexp.report.search.findings.is_installed", lambda: False)
    page = write(tmp_path / "s", figures=False).index.read_text()
    assert "Importances need Optuna: pip install &#39;cnnexp[search]&#39;." in page
