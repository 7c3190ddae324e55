"""Where a setting is chosen among arms, validation accuracy comes first, and the report says why."""

import pytest
from fake_records import write_run, write_study
from pages import Page

from cnnexp import report
from cnnexp.records.study import ADVICE, is_choice


@pytest.mark.parametrize(
    ("study", "arms", "expected"),
    [
        (None, ["optimizer.lr=0.1", "optimizer.lr=1"], True),
        ({"baseline": None, "claims": None}, ["a", "b"], True),
        ({"baseline": None}, ["a", "a"], False),
        ({"baseline": "a"}, ["a", "b"], False),
        ({"baseline": None, "claims": ["a > b"]}, ["a", "b"], False),
        (None, ["baseline", "b"], False),
    ],
)
def test_when_a_setting_is_chosen(study, arms, expected):
    assert is_choice(study, arms) is expected


def test_a_sweep_over_settings_shows_validation_first(tmp_path):
    for seed in range(2):
        for arm, accuracy in (("optimizer.lr=0.1", 0.5), ("optimizer.lr=1", 0.6)):
            write_run(tmp_path, arm, seed, accuracy, study="sweep")
    written = report.write(tmp_path / "sweep", figures=False)
    heading = next(line for line in written.terminal.splitlines() if line.startswith("Arm"))
    assert heading.split()[1:5] == ["Validation", "(%)", "Test", "(%)"]
    text = Page(written.index.read_text()).text
    assert ADVICE in written.terminal and ADVICE in text
    assert text.index("Validation accuracy (%)") < text.index("Test accuracy (%)")
    compared = report.write(tmp_path / "sweep", baseline="optimizer.lr=1", figures=False)
    assert ADVICE not in compared.terminal and "Validation (%)" not in compared.terminal


def test_a_study_with_a_baseline_shows_the_test_accuracy_alone(tmp_path):
    written = report.write(write_study(tmp_path, {"baseline": (0.5, 0.3, 60.0), "b": (0.6, 0.1, 70.0)}), figures=False)
    assert "Validation (%)" not in written.terminal and ADVICE not in written.terminal
