"""Which runs are in the table, which are beside it, and why."""

import shutil

import numpy as np
import pytest
from fake_records import predictions, write_run, write_study

from cnnexp.errors import UserError
from cnnexp.records import run_record as record
from cnnexp.records import study as study_file
from cnnexp.report.analysis.classes import class_results
from cnnexp.report.analysis.compare import sentences
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.render.comparison_tables import cost

TWO = {"baseline": (0.5, 0.3, 60.0), "dropout": (0.6, 0.1, 70.0)}


def study_of(folder, baseline=None):
    ((path, records),) = find_groups(folder)
    return collect(path, records, baseline)


def left_out(study):
    return {run.folder: (run.status, run.reason) for run in study.left_out}


def test_a_study_is_grouped_in_its_own_order(tmp_path):
    study = study_of(write_study(tmp_path, seeds=2))
    assert [a.label for a in study.arms][:3] == ["baseline", "batchnorm", "dropout"]
    assert all([r.seed for r in a.runs] == [0, 1] for a in study.arms)
    assert study.baseline is study.arms[0]
    assert (study.notes, study.left_out) == ([], [])


def test_every_status_has_its_place(tmp_path):
    folder = write_study(tmp_path, TWO)
    for status in ("failed", "oom", "interrupted", "skipped", "running"):
        write_run(tmp_path, "dropout", 10, status=status, fingerprint=f"{status}fp", error={"message": f"why {status}"})
    write_run(tmp_path, "dropout", 3, status="diverged", error={"message": "loss is nan at step 7"})
    (folder / "torn-s0-ff").mkdir()
    (folder / "torn-s0-ff" / "run.json").write_text("{")
    study = study_of(folder)
    found = left_out(study)
    statuses = {status for status, _ in found.values()}
    assert statuses == {"failed", "oom", "interrupted", "skipped", "diverged", "malformed"}
    assert found["dropout-s10-skippedfp"] == ("skipped", "why skipped")
    assert found["dropout-s10-runningfp"][0] == "interrupted"  # no live process holds it
    assert "loss is nan at step 7" in found[study.arms[1].diverged[0].name][1]
    assert "cannot be read" in found["torn-s0-ff"][1]
    assert [len(a.runs) for a in study.arms] == [3, 3]
    assert analyse(study).rows[1].verdict == "not decided (1 diverged)"


def test_older_configs_of_an_arm_are_superseded(tmp_path):
    folder = write_study(tmp_path, TWO)
    old = write_run(tmp_path, "dropout", 0, 0.99, fingerprint="0ld")
    study = study_of(folder)
    assert left_out(study)[old.folder.name][0] == "superseded"
    assert max(study.arms[1].accuracies().values()) < 0.7


def test_without_study_json_configs_of_one_arm_stay_apart(tmp_path):
    for seed, fingerprint, accuracy in ((0, "aaa", 0.5), (1, "aaa", 0.5), (0, "bbb", 0.7)):
        write_run(tmp_path, "dropout", seed, accuracy, fingerprint=fingerprint)
    study = study_of(tmp_path / "demo")
    assert {a.label: len(a.runs) for a in study.arms} == {"dropout (aaa)": 2, "dropout (bbb)": 1}
    assert len({a.key for a in study.arms}) == 2
    assert study_of(tmp_path / "demo", "bbb").baseline.label == "dropout (bbb)"
    with pytest.raises(UserError, match=r"several configs; choose one of dropout \(aaa\), dropout \(bbb\)"):
        study_of(tmp_path / "demo", "dropout")


def test_arms_of_one_name_are_told_apart_by_what_differs(tmp_path):
    for seed, epochs in ((0, "1ep"), (1, "1ep"), (0, "2ep")):
        run = write_run(tmp_path, "norm", seed, fingerprint=f"f{epochs}")
        run.write_config({"seed": seed, "epochs": epochs, "outputs": epochs})
        run.update(files={})
    study = study_of(tmp_path / "demo")
    assert {a.label: len(a.runs) for a in study.arms} == {"norm (epochs=1ep)": 2, "norm (epochs=2ep)": 1}
    assert study_of(tmp_path / "demo", "norm (epochs=2ep)").baseline.fingerprint == "f2ep"


def test_a_copied_folder_is_counted_once(tmp_path):
    folder = write_study(tmp_path, TWO)
    run = next(folder.glob("dropout-s0-*"))
    shutil.copytree(run, folder / f"{run.name}-copy")
    study = study_of(folder)
    assert left_out(study)[f"{run.name}-copy"] == ("copy", f"the same arm, config and seed as {run.name}")
    assert len(study.arms[1].runs) == 3


def test_planned_and_not_run(tmp_path):
    folder = write_study(tmp_path, TWO)
    run = next(folder.glob("dropout-s2-*"))
    shutil.rmtree(run)
    assert left_out(study_of(folder))[run.name][0] == "not run"


@pytest.mark.parametrize("value", [None, "high", True, float("nan"), 1.5])
def test_done_without_a_usable_test_accuracy_is_malformed(tmp_path, value):
    run = write_run(tmp_path, "dropout", 0)
    run.update(result={**run.info["result"], "test_accuracy": value})
    study = study_of(tmp_path / "demo")
    assert study.arms == []
    assert "result.test_accuracy" in left_out(study)[run.folder.name][1]
    assert sentences(study, analyse(study).rows) == ["No run is done yet, so there is nothing to compare."]


@pytest.mark.parametrize(
    ("result", "status"), [(None, "malformed"), ({}, "malformed"), ({"val_accuracy": 0.5}, "untested")]
)
def test_a_done_run_without_test_accuracy_is_untested_only_if_it_was_validated(tmp_path, result, status):
    write_run(tmp_path, "dropout", 0).update(result=result)
    assert study_of(tmp_path / "demo").left_out[0].status == status


@pytest.mark.parametrize("fields", [{"seed": "0"}, {"arm": None}, {"fingerprint": 3}, {"seed": True}])
def test_identity_of_the_wrong_type_is_malformed(tmp_path, fields):
    write_run(tmp_path, "dropout", 0).update(**fields)
    assert study_of(tmp_path / "demo").left_out[0].status == "malformed"


def test_sections_of_the_wrong_type_are_survived(tmp_path):
    write_run(tmp_path, "dropout", 0).update(data=[1], seconds="long", model=None, device=3, changes={}, code=False)
    study = study_of(tmp_path / "demo")
    row = analyse(study).rows[0]
    assert row.test.n == 1 and row.train_seconds.n == 0
    assert study.notes == ["dropout, seed 0: no training time is recorded."]


def test_mixed_data_code_and_devices_are_said(tmp_path):
    write_run(tmp_path, "baseline", 0)
    run = write_run(tmp_path, "dropout", 0)
    run.update(
        data={**run.info["data"], "fingerprint": "data02"},
        code={"digest": "eeee"},
        device={"name": "Other CPU"},
    )
    notes = " ".join(study_of(tmp_path / "demo").notes)
    assert "not trained and tested on the same data (data01: baseline; data02: dropout)" in notes
    assert "different versions of the code" in notes
    assert "different devices" in notes


def test_predictions_that_disagree_are_said(tmp_path):
    run = write_run(tmp_path, "dropout", 0, 0.6)
    run.write_predictions(*predictions(0.55, 0))
    (note,) = study_of(tmp_path / "demo").notes
    assert "60.00 %" in note and "55.00 %" in note


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_damaged_predictions_leave_the_accuracy(tmp_path, content):
    run = write_run(tmp_path, "dropout", 0, 0.6)
    (run.folder / "predictions.npz").unlink()
    if content is not None:
        (run.folder / "predictions.npz").write_bytes(content)
    study = study_of(tmp_path / "demo")
    assert analyse(study).rows[0].test.mean == 0.6
    assert class_results(study.arms[0]) is None
    assert "predictions are missing or malformed" in study.notes[0]


def test_what_is_the_same_for_several_runs_is_one_note(tmp_path):
    def notes():
        return study_of(tmp_path / "demo").notes

    for arm, seed in (("baseline", 0), ("baseline", 1), ("dropout", 0)):
        run = write_run(tmp_path, arm, seed, 0.6)
        if (arm, seed) != ("baseline", 1):
            (run.folder / "predictions.npz").unlink()
    missing = "its predictions are missing or malformed, so it is in no confusion matrix."
    assert notes() == [f"baseline, seed 0; dropout, seed 0: {missing}"]
    next((tmp_path / "demo").glob("baseline-s1*")).joinpath("predictions.npz").unlink()
    assert notes() == [f"each of the 3 runs: {missing}"]


@pytest.mark.parametrize("labels", [[-1, 0], [0, 3], [0.5, 1.0]])
def test_labels_out_of_range_are_unusable(tmp_path, labels):
    run = write_run(tmp_path, "dropout", 0, 0.6)
    np.savez(run.folder / "predictions.npz", logits=np.eye(2, 3), labels=np.array(labels), ids=np.array(["a", "b"]))
    assert class_results(study_of(tmp_path / "demo").arms[0]) is None


def test_confusion_is_true_by_predicted_and_summed_over_seeds(tmp_path):
    for seed in (0, 1):
        run = write_run(tmp_path, "dropout", seed, 0.5, classes=["a", "b"], images=4)
        logits = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], float)  # says a, b, b, b
        run.write_predictions(logits, [0, 0, 1, 1 - seed], list("wxyz"))
    found = class_results(study_of(tmp_path / "demo").arms[0])
    counts, seeds = found.counts, found.seeds
    # seed 0: true 0 -> a, b; true 1 -> b, b.   seed 1: true 0 -> a, b, b; true 1 -> b.
    assert counts.tolist() == [[2, 3], [0, 3]] and seeds == 2
    shares = found.accuracies
    assert [s.mean for s in shares] == [pytest.approx((1 / 2 + 1 / 3) / 2), 1.0]


def test_epochs_to_plateau(tmp_path):
    run = write_run(tmp_path, "dropout", 0, epochs=1)
    run.keep_rows(0)
    for epoch, accuracy in enumerate([0.5, 0.689, 0.69, 0.70, 0.60], start=1):
        run.append(kind="epoch", epoch=epoch, split="val", loss=1.0, accuracy=accuracy)
    run.sync()
    assert analyse(study_of(tmp_path / "demo")).rows[0].epochs_to_plateau == 3


def test_unequal_seeds_compare_on_those_shared(tmp_path):
    for seed in range(4):
        write_run(tmp_path, "baseline", seed, 0.5 + 0.01 * seed)
    for seed in (2, 3, 7):
        write_run(tmp_path, "dropout", seed, 0.6 + 0.02 * seed)
    row = analyse(study_of(tmp_path / "demo")).rows[1]
    assert (row.test.n, row.difference.n) == (3, 2)
    assert row.difference.mean == pytest.approx(((0.64 - 0.52) + (0.66 - 0.53)) / 2)


def test_baseline_missing(tmp_path):
    folder = write_study(tmp_path, TWO)
    for run in folder.glob("baseline-*"):
        shutil.rmtree(run)
    study = study_of(folder)
    rows = analyse(study).rows
    assert study.baseline is None and rows[0].difference is None and rows[0].verdict == ""
    assert any("'baseline' has no finished run" in note for note in study.notes)
    with pytest.raises(UserError, match=r"--baseline: unknown arm 'dropuot'.*did you mean 'dropout'"):
        study_of(folder, "dropuot")


def test_another_baseline_than_the_study_s_is_remarked_on(tmp_path):
    folder = write_study(tmp_path, TWO, 3)
    arm = next(name for name in TWO if name != "baseline")
    note = f"The study's own baseline is baseline; {arm} was chosen for this report. Its verdicts are right in 95 %"
    assert any(n.startswith(note) for n in study_of(folder, arm).notes)
    for own in (None, "baseline"):
        assert not any("own baseline" in n for n in study_of(folder, own).notes)


@pytest.mark.parametrize("typed", ["lr=1e-3,size=16", "lr=0.0010,size=16.0", "lr=0.001,size=16"])
def test_a_baseline_may_write_its_numbers_otherwise(tmp_path, typed):
    study = study_of(
        write_study(tmp_path, {"lr=0.01,size=16": (0.5, 0.3, 60.0), "lr=0.001,size=16": (0.6, 0.1, 70.0)}), typed
    )
    assert study.baseline.name == "lr=0.001,size=16"
    with pytest.raises(UserError, match="unknown arm"):
        study_of(tmp_path / "demo", "lr=2e-3,size=16")


def test_another_baseline_comes_first(tmp_path):
    study = study_of(write_study(tmp_path, TWO), "dropout")
    rows = analyse(study).rows
    assert [r.arm.label for r in rows] == ["dropout", "baseline"]
    assert rows[1].verdict == "worse"


def test_single_seeds_give_mcnemar_and_no_verdict(tmp_path):
    write_run(tmp_path, "baseline", 0, 0.5)
    write_run(tmp_path, "dropout", 0, 0.7)
    study = study_of(tmp_path / "demo")
    row = analyse(study).rows[1]
    assert row.verdict == "one seed: no verdict"
    assert row.mcnemar.only_first - row.mcnemar.only_second == 200  # of 1000 images
    assert "only this one has right" in sentences(study, analyse(study).rows)[1]


def test_mcnemar_needs_the_same_images(tmp_path):
    write_run(tmp_path, "baseline", 0, 0.5)
    run = write_run(tmp_path, "dropout", 0, 0.7)
    logits, labels, ids = predictions(0.7, 0)
    run.write_predictions(logits[::-1], labels[::-1], ids[::-1])
    assert analyse(study_of(tmp_path / "demo")).rows[1].mcnemar is not None  # the same images in another order
    run.write_predictions(logits, labels, np.char.add("other/", ids))
    assert analyse(study_of(tmp_path / "demo")).rows[1].mcnemar is None


def test_all_runs_of_an_arm_diverged(tmp_path):
    write_run(tmp_path, "baseline", 0, 0.5)
    write_run(tmp_path, "dropout", 0, status="diverged")
    study = study_of(tmp_path / "demo")
    row = analyse(study).rows[1]
    assert (row.test.n, row.diverged, row.verdict) == (0, 1, "all runs diverged")


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="holds no runs"):
        find_groups(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        find_groups(tmp_path / "nowhere")


def test_unreadable_study_json_is_said(tmp_path):
    folder = write_study(tmp_path, TWO)
    (folder / "study.json").write_text("{")
    study = study_of(folder)
    assert [a.label for a in study.arms] == ["baseline", "dropout"]
    assert any("study.json cannot be read" in note for note in study.notes)
    with pytest.raises(UserError, match="put a copy back, or delete it"):
        study_file.read_study(folder)


def test_an_arm_that_was_made_otherwise_is_noted(tmp_path):
    folder = write_study(tmp_path, TWO, seeds=2)
    for run in record.find_runs(folder):
        epochs = "12ep" if run.info["arm"] == "dropout" else "1ep"
        dropout = 0.3 if run.info["arm"] == "dropout" else 0.0
        run.write_config({"epochs": epochs, "model": {"dropout": dropout}, "data": {"root": f"/{epochs}"}})
        run.update(changes=["model.dropout=0.3"] if run.info["arm"] == "dropout" else [])
    (note,) = study_of(folder).notes
    assert note.startswith("Not compared with baseline: dropout (epochs 12ep and 1ep). No arm sets what differs here,")
    for run in record.find_runs(folder):
        run.update(changes=["model.dropout=0.3", "epochs=12ep"] if run.info["arm"] == "dropout" else [])
    assert study_of(folder).notes == []
    for run in record.find_runs(folder):
        run.update(changes=["model.dropout=0.3"] if run.info["arm"] == "dropout" else ["epochs=1ep"])
    (note,) = study_of(folder).notes
    assert note == (
        "dropout differs from baseline in more than its own changes: also in epochs, which baseline changes."
    )


def test_arms_that_were_made_otherwise_are_one_note(tmp_path):
    epochs = {"baseline": "1ep", "a": "2ep", "b": "2ep", "c": "2ep"}
    folder = write_study(tmp_path, {name: (0.5 + 0.1 * n, 0.3, 60.0) for n, name in enumerate(epochs)}, seeds=2)
    for run in record.find_runs(folder):
        run.write_config({"epochs": epochs[run.info["arm"]]})
        run.update(changes=[])
    (note,) = study_of(folder).notes
    assert note.startswith("Not compared with baseline: a, b, c (epochs 2ep and 1ep). ")
    for run in record.find_runs(folder):
        if run.info["arm"] == "c":
            run.write_config({"epochs": "1ep", "clip_norm": 1.0})
    (note,) = study_of(folder).notes
    assert note.startswith("Not compared with baseline: a, b (epochs 2ep and 1ep); c (clip_norm 1.0 and none). ")
    for run in record.find_runs(folder):  # of what changes no number
        other = {"c": {"data": {"file": "c.csv"}}, "baseline": {}}.get(run.info["arm"], {"eval_batch_size": 8})
        run.write_config({"epochs": "1ep", **other})
    (note,) = study_of(folder).notes
    assert note == "3 arms differ from baseline in more than their own changes: a, b: eval_batch_size; c: data.file."


def test_settings_that_change_no_number_do_not_bar_a_comparison(tmp_path):
    folder = write_study(tmp_path, TWO, seeds=3)
    for run in record.find_runs(folder):
        other = run.info["arm"] == "dropout"
        run.write_config({"eval_batch_size": 8 if other else 64, "data": {"file": "a.csv" if other else "b.csv"}})
        run.update(changes=[])
    study = study_of(folder)
    assert analyse(study).rows[1].verdict == "better"
    assert study.notes == [
        "dropout differs from baseline in more than its own changes: also in eval_batch_size, data.file."
    ]


def test_few_test_images_and_contradictory_labels_are_noted_once(tmp_path):
    folder = write_study(tmp_path, TWO, seeds=2)
    for run in record.find_runs(folder):
        run.update(data={**run.info["data"], "name": "photos", "test": 20, "contradictory": 4})
    few, odd = study_of(folder).notes
    assert few == (
        "photos: only 20 test images: one of them is 5.0 points of accuracy, which no interval here accounts for."
    )
    assert odd == "photos: 4 images equal one of another class: no network gets both right."


def test_a_run_of_two_versions_is_noted(tmp_path):
    folder = write_study(tmp_path, TWO, seeds=2)
    run = record.find_runs(folder)[0]
    run.update(earlier=[{"code": {"digest": "old"}, "environment": {}}])
    (note,) = study_of(folder).notes
    assert note.endswith("was resumed under another version of the code or its packages.")


def test_what_quickened_a_run_is_noted(tmp_path):
    folder = write_study(tmp_path, TWO, seeds=2)
    device = {"kind": "cpu", "name": "x", "precision": "bf16", "threads": 1}
    for run in record.find_runs(folder):
        if run.info["arm"] == "baseline":
            run.update(device={**device, "fp32_layers": ["conv1", "fc1"]})
        else:
            run.update(device={**device, "fp32_layers": [], "compile": True}, features="computed once")
    assert study_of(folder).notes == [
        "baseline: layers that bf16 would slow down or make inaccurate computed in fp32: conv1, fc1.",
        "dropout: the frozen backbone's features were computed once, and images/s are those of the head alone.",
        "dropout: the training steps were compiled (torch.compile): times are without compiling, memory is with it.",
    ]


def test_weights_that_all_runs_of_an_arm_start_from_are_noted(tmp_path):
    folder = write_study(tmp_path, TWO, seeds=2)
    for run in record.find_runs(folder):
        run.update(model={**run.info["model"], "weights": "first-s0-00" if run.info["arm"] == "dropout" else "none"})
    assert study_of(folder).notes == [
        "dropout: every run starts from the same pretrained weights (first-s0-00). How much results vary with another "
        "pretraining, no interval says."
    ]


def test_features_are_a_column_of_the_costs_where_they_were_computed(tmp_path):
    folder = write_study(tmp_path, TWO, seeds=2)
    table = cost(analyse(study_of(folder)).rows)
    headings = [column.heading for column in table.shown]
    assert "Features (s)" not in headings and len(headings) == len(table.cells[0])
    for run in record.find_runs(folder):
        run.update(seconds={**run.info["seconds"], "features": 7.5 if run.info["arm"] == "dropout" else 0.0})
    table = cost(analyse(study_of(folder)).rows)
    place = [column.heading for column in table.shown].index("Features (s)")
    assert [row[place] for row in table.cells] == ["0.0", "7.5"]
