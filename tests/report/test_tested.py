"""Accuracies on different test images: listed, never compared or judged, and said."""

import numpy as np
import pytest
from fake_records import predictions, write_run
from recomputed import of_tests

from cnnexp.records.run_record import RunRecord
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.read.collect import collect


def retest(record: RunRecord, change) -> None:
    """Change the test images of a run: change(ids) is the new ids."""
    found = record.predictions()
    with record.held():
        record.info.pop("files", None)
        record.write_predictions(found["logits"], found["labels"], change(found["ids"]))
        record.update(status=record.info["status"])


def study(tmp_path, change=None, **fields):
    """Write a baseline and an arm that is 10 points better, three seeds each; return the findings."""
    for arm, accuracy in (("baseline", 0.6), ("batchnorm", 0.7)):
        for seed in range(3):
            record = write_run(tmp_path, arm, seed, accuracy + 0.001 * seed * (arm == "batchnorm"), **fields)
            if change and arm == "batchnorm":
                retest(record, change)
    folder = tmp_path / "demo"
    return collect(folder, [RunRecord.read(run) for run in sorted(folder.iterdir()) if run.is_dir()])


def renamed(ids, count):
    return np.array([f"other/{i}" if i < count else name for i, name in enumerate(ids)])


def test_the_same_images_are_judged(tmp_path):
    found = analyse(study(tmp_path))
    assert found.rows[1].verdict == "better" and not any("same images" in note for note in found.study.notes)
    assert len(predictions(0.6, 0, 10, 1000)[2]) == 1000


@pytest.mark.parametrize("count", [1000, 1])
def test_other_images_get_no_verdict_and_a_note(tmp_path, count):
    read = study(tmp_path, lambda ids: renamed(ids, count))
    read.claims = ["batchnorm > baseline"]
    found = analyse(read)
    assert found.rows[1].verdict == "other test images: no verdict" and found.rows[1].difference is None
    shared = f"{1000 - count} images" if count != 999 else "1 image"
    assert read.notes[0] == (
        f"The arms were not tested on the same images (baseline: 1,000; batchnorm: 1,000; {shared} shared by all)."
    )
    assert found.judged[0].verdict == "not tested"
    assert found.judged[0].remark == "batchnorm and baseline were not tested on the same images"
    assert found.class_differences == {} and found.disagreements == []


def test_the_order_of_the_images_does_not_matter(tmp_path):
    record = write_run(tmp_path, "batchnorm", 0, 0.7)
    from cnnexp.report.read.runs import read_run

    before = read_run(record).tested
    found = record.predictions()
    turned = [found[key][::-1] for key in ("logits", "labels", "ids")]
    with record.held():
        record.info.pop("files", None)
        record.write_predictions(*turned)
    assert read_run(record).tested == before != ""


def test_without_predictions_the_recorded_numbers_tell(tmp_path):
    for arm, images in (("baseline", 1000), ("batchnorm", 500)):
        for seed in range(3):
            write_run(tmp_path, arm, seed, 0.6 + 0.01 * seed, images=images, with_predictions=False)
    folder = tmp_path / "demo"
    found = analyse(collect(folder, [RunRecord.read(run) for run in sorted(folder.iterdir()) if run.is_dir()]))
    assert found.rows[1].verdict == "other test images: no verdict"


VALIDATED = ("a.val_accuracy > b.val_accuracy", "a.val_loss < b.val_loss", "a > b at every epoch",
             "a converges faster than b", "a.epochs_to_plateau < b.epochs_to_plateau")  # fmt: skip


def validated(tmp_path, protocol=None, draws=None, **data):
    """Write two arms, three seeds each, the second with other fields; return the study, with claims about both."""
    for arm, accuracy in (("a", 0.7), ("b", 0.6)):
        for seed in range(3):
            other = arm == "b"
            record = write_run(tmp_path, arm, seed, accuracy + 0.001 * seed * other)
            with record.held():
                record.info.pop("files", None)
                record.write_config({"seed": seed, "data": {"split_seed": 0} | ((draws or {}) if other else {})})
                record.update(changes=[f"data.{key}={value}" for key, value in (draws or {}).items()] if other else [])
                record.update(
                    data={**record.info["data"], **(data if other else {})}, protocol=protocol if other else {}
                )
                record.update(status="done")
    folder = tmp_path / "demo"
    read = collect(folder, [RunRecord.read(run) for run in sorted(folder.iterdir()) if run.is_dir()])
    read.claims = [*VALIDATED, "a > b"]
    return read


@pytest.mark.parametrize(
    "fields",
    [
        {"val": 60},
        {"validation": "other"},
        {"draws": {"split_seed": 1}},
        {"draws": {"group": "folder"}},
        {"protocol": {"validate_on": "test"}},
    ],
)
def test_other_validation_images_get_no_verdict(tmp_path, fields):
    read = validated(tmp_path, **fields)
    *judged, of_test = analyse(read).judged
    assert of_test.verdict == "holds", "the test images are the same"
    for one in judged:
        assert one.verdict == "not tested" and one.remark == "a and b were not validated on the same images"
    assert [line["verdict"] for line in of_tests.Tested(read).claims()] == [one.verdict for one in (*judged, of_test)]


@pytest.mark.integration
@pytest.mark.parametrize("fields", [{}, {"validation": "of more training images", "train": 4500}])
def test_the_same_validation_images_are_judged(tmp_path, fields):
    read = validated(tmp_path, **fields)
    judged = analyse(read).judged
    assert {"not tested"}.isdisjoint(one.verdict for one in judged) and judged[0].verdict == "holds"
    assert [line["verdict"] for line in of_tests.Tested(read).claims()] == [one.verdict for one in judged]
