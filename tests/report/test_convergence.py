"""Arms that have not converged are named in the terminal and on the page; runs at chance mark an arm's interval."""

import json

import pytest
from fake_records import write_run, write_study
from pages import Page

from cnnexp import report
from cnnexp.records.run_record import find_runs
from cnnexp.report.analysis.compare import NOTHING_LEARNED
from cnnexp.report.analysis.convergence import sentences
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.read.collect import collect
from cnnexp.report.render.answer import answer

pytestmark = pytest.mark.integration

LEARNS = {"baseline": (0.5, 0.3, 60.0), "dropout": (0.6, 0.1, 70.0)}


def said(folder):
    return sentences(collect(folder, find_runs(folder)).arms)


def test_a_converged_study_gets_no_sentence(tmp_path):
    folder = write_study(tmp_path, LEARNS)
    for run in find_runs(folder):
        run.keep_rows(0)
        for epoch in range(1, 61):
            accuracy = 0.6 + 0.01 * (epoch % 3)
            run.append(kind="epoch", epoch=epoch, step=epoch, split="val", loss=1.0, accuracy=accuracy)
        run.update(files=run.seal())
    assert said(folder) == []
    assert "still improving" not in report.write(folder, figures=False).terminal


def test_arms_that_still_improve_are_named_in_terminal_and_page(tmp_path):
    for seed in range(3):
        write_run(tmp_path, "baseline", seed, 0.5, epochs=6)
        write_run(tmp_path, "dropout", seed, 0.6, epochs=6)
        write_run(tmp_path, "early", seed, 0.6, epochs=6)
    for run in find_runs(tmp_path):
        if run.info["arm"] == "early":
            run.update(result={**run.info["result"], "stopped": "early"})
    written = report.write(tmp_path / "demo", figures=False)
    line = "baseline, dropout: still improving at the last epoch; train longer."
    assert f"Read with care: {line}" in written.terminal and line in Page(written.index.read_text()).text


@pytest.mark.parametrize("learned", [0.1, 0.6])
def test_a_study_in_which_nothing_learned_has_no_verdict_at_the_top(tmp_path, learned):
    for seed in range(5):
        write_run(tmp_path, "baseline", seed, 0.1, epochs=60)
        write_run(tmp_path, "dropout", seed, 0.1 if seed else learned, epochs=60)
    (tmp_path / "demo" / "study.json").write_text(json.dumps({"baseline": "baseline"}))
    found = analyse(collect(tmp_path / "demo", find_runs(tmp_path)))
    said = answer(found)
    nothing = learned == 0.1
    assert said.verdict.startswith(NOTHING_LEARNED) == nothing == (said.status[1] == "Nothing learned")
    assert (said.next is None) == nothing
    assert (NOTHING_LEARNED in report.write(tmp_path / "demo", figures=False).terminal) == nothing


def test_runs_at_chance_mark_the_interval(tmp_path):
    for seed, accuracy in enumerate((0.6, 0.1, 0.1)):
        write_run(tmp_path, "baseline", seed, accuracy, epochs=60)
        write_run(tmp_path, "dropout", seed, 0.1, epochs=60)
    written = report.write(tmp_path / "demo", figures=False)
    text = Page(written.index.read_text()).text
    for line in (
        "baseline: 2 of 3 runs at chance (seeds 1, 2): mean and interval mix runs that learned with runs that did not.",
        "dropout: at chance: not significantly better than one answer for all images.",
    ):
        assert line in written.terminal and line in text
    row = next(line for line in written.terminal.splitlines() if line.startswith("baseline  "))
    assert "], 2 at chance" in row
