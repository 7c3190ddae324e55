"""`cnnexp diff`: how two runs differ in configs, results, test images and rows."""

import re

import numpy as np
import pytest
from fake_records import predictions, write_run
from scipy import stats

from cnnexp import storage
from cnnexp.commands import diff
from cnnexp.records.run_record import RunRecord

pytest_plugins = ["trained_runs"]


def test_diff_of_runs_of_different_studies(cnnexp, trained_run, other_run):
    code, out, _ = cnnexp("diff", trained_run, other_run)
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and ["optimizer.lr", "0.001", "0.01"] in lines and ["seed", "0", "1"] in lines
    assert not [line for line in lines if line[:1] == ["model.norm"]]
    first, second = (RunRecord.read(r) for r in (trained_run, other_run))
    points = 100 * (second.info["result"]["test_accuracy"] - first.info["result"]["test_accuracy"])
    assert next(line for line in lines if line[:1] == ["test_accuracy"])[-2:] == [f"{points:+.2f}", "points"]
    right = [(p["logits"].argmax(1) == p["labels"]) for p in (first.predictions(), second.predictions())]
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert f"50 shared: {only[0]} only a has right, {only[1]} only b; b - a: {points:+.2f} points" in out
    assert "differ first in row 1 (epoch 1, train): loss " in out


def test_no_difference_is_a_negative_zero(tmp_path):
    first, second = write_run(tmp_path, "a", 0, 0.9), write_run(tmp_path, "b", 0, 0.9)
    for run, speed, accuracy in ((first, 9000.4, 0.900001), (second, 9000.1, 0.9)):
        run.update(result={**run.info["result"], "images_per_second": speed, "test_accuracy": accuracy})
    rows = {name: difference for name, _, _, difference in diff.result_rows(first, second)}
    assert rows["images_per_second"] == "+0" and rows["test_accuracy"] == "+0.00 points"


def test_diff_tests_the_shared_images_exactly(tmp_path):
    first, second = write_run(tmp_path, "a", 0, 0.9, images=100), write_run(tmp_path, "b", 0, 0.8, images=60)
    logits, labels, ids = predictions(0.8, 3, images=60)
    turned = np.arange(60)[::-1]  # the same images in another order
    second.write_predictions(logits[turned], labels[turned], ids[turned])
    mine = first.predictions()["logits"].argmax(1)[:60] == labels
    theirs = logits.argmax(1) == labels
    only = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
    p = stats.binomtest(only[0], sum(only)).pvalue
    said = diff.same_images(first, second)
    assert f"60 shared: {only[0]} only a has right, {only[1]} only b" in said
    assert f"exact p = {p:.2g}" in said or f"exact p = {p:.4f}" in said
    second.update(data={**second.info["data"], "classes": ["x"] * 10})
    assert diff.same_images(first, second) == "no comparison: the runs were tested on different data"
    (second.folder / "predictions.npz").unlink()
    assert diff.same_images(first, second).startswith("no comparison: a run has no predictions")


def test_diff_finds_where_two_runs_part(cnnexp, tmp_path):
    first, second = (RunRecord(tmp_path / name) for name in "ab")
    for run, third, count in ((first, 0.3, 3), (second, 0.4, 4)):
        storage.make_folder(run.folder)
        for epoch, loss in list(enumerate((0.1, 0.2, third, 0.5), 1))[:count]:
            run.append(kind="epoch", epoch=epoch, split="train", loss=loss, seconds=epoch * third)
    assert diff.metric_rows(first, second) == "differ first in row 3 (epoch 3, train): loss 0.3 and 0.4"
    second.keep_rows(2)
    assert diff.metric_rows(first, second) == "the same for 2 rows; only a has more"
    assert diff.metric_rows(second, second) == "all 2 are the same"
    code, _, err = cnnexp("diff", first.folder, second.folder)
    assert code == 2 and "is not a run directory" in err


@pytest.mark.parametrize(
    ("a", "b", "shown"),
    [
        (f"/data/{'x' * 60}/one/{'y' * 60}", f"/data/{'x' * 60}/two/{'y' * 60}", ["", ""]),
        (1, "1", ["1", "'1'"]),
        ("a b", "a\tb", ["a b", "a\\tb"]),
    ],
)
def test_values_that_differ_look_different(tmp_path, capsys, a, b, shown):
    runs = [write_run(tmp_path, name, 0) for name in "ab"]
    for run, value in zip(runs, (a, b), strict=True):
        run.write_config({"seed": 0, "data": {"folder": value}})
    diff._print("config", diff.config_rows(*runs), "the same")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "data.folder" in line)
    cells = re.split(r"  +", line.strip())[1:]
    assert len(cells) == 2 and cells[0] != cells[1]
    assert all(words in cell for words, cell in zip(shown, cells, strict=True))
