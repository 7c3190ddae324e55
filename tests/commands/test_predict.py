"""`cnnexp predict`: classes and probabilities of image files, and wrong requests."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from cnnexp import load
from cnnexp.training.inference import TrainedModel, Transform

pytest_plugins = ["trained_runs"]


@pytest.fixture
def pictures(tmp_path):
    """Return a folder with two images, a file that is none, and one that is no image inside."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    Image.new("RGB", (20, 30), "red").save(folder / "a.png")
    Image.new("L", (9, 9), 40).save(folder / "more" / "b.JPG", "JPEG")
    (folder / "notes.txt").write_text("no image")
    (folder / "torn.png").write_bytes(b"\x89PNG")
    return folder


def test_predict_reads_folders_and_goes_on_after_a_damaged_file(cnnexp, trained_run, pictures):
    code, out, err = cnnexp("predict", trained_run, pictures, "--format", "json", "--top", "99", "--batch-size", "1")
    answers = json.loads(out)
    assert code == 3 and [a["path"] for a in answers] == [str(pictures / "a.png"), str(pictures / "more" / "b.JPG")]
    assert [line for line in err.splitlines() if "torn.png: cannot be read as an image" in line]
    expected = load(trained_run).predict([a["path"] for a in answers])
    for answer, probabilities in zip(answers, expected, strict=True):
        given = [p["probability"] for p in answer["predictions"]]
        assert given == sorted(given, reverse=True) and sum(given) == pytest.approx(1)
        np.testing.assert_allclose(given, np.sort(probabilities)[::-1], rtol=1e-5)


def test_a_bad_file_among_those_named_leaves_the_answers_for_the_others(cnnexp, trained_run, pictures):
    code, out, err = cnnexp("predict", trained_run, pictures / "a.png", pictures / "notes.txt", pictures / "more/b.JPG")
    assert code == 3 and [line.split()[0] for line in out.splitlines()] == [
        str(pictures / "a.png"),
        str(pictures / "more/b.JPG"),
    ]
    assert "notes.txt: cannot be read as an image" in err and err.count("\n") == 1


def test_camera_files_in_a_folder_are_named_and_other_files_counted(cnnexp, trained_run, pictures):
    (pictures / "torn.png").unlink()
    code, out, err = cnnexp("predict", trained_run, pictures)
    assert code == 0 and out.count("\n") == 2 and f"cnnexp: {pictures}: 1 file left out: 1 .txt\n" in err
    (pictures / "more/c.dng").write_bytes(b"raw")
    code, out, err = cnnexp("predict", trained_run, pictures)
    left_out = "2 files left out: 1 .dng: convert these camera files to JPEG, 1 .txt"
    assert code == 3 and out.count("\n") == 2 and f"cnnexp: {pictures}: {left_out}\n" in err


def test_predict_computes_as_it_was_recorded(cnnexp, trained_run, pictures, monkeypatch):
    """With the threads and the arithmetic of the run's device, as `evaluate` does."""
    steps = []
    monkeypatch.setattr("cnnexp.training.device.set_up", lambda device: steps.append(device.threads))
    monkeypatch.setattr(TrainedModel, "logits", lambda *given, own=TrainedModel.logits: steps.append("") or own(*given))
    assert cnnexp("predict", trained_run, pictures / "a.png", "--device", "cpu")[0] == 0
    assert steps == [1, ""]


def test_predict_as_table_and_csv(cnnexp, trained_run, pictures):
    image = pictures / "a.png"
    code, out, _ = cnnexp("predict", trained_run, image, "--top", "2")
    assert code == 0 and out.split()[0] == str(image) and out.count("%") == 2 and out.count("\n") == 1
    rows = list(csv.reader(io.StringIO(cnnexp("predict", trained_run, image, image, "--format", "csv")[1])))
    assert rows[0] == ["path", *(f"{what}_{k}" for k in (1, 2, 3) for what in ("class", "probability"))]
    batches = cnnexp("predict", trained_run, image, image, "--format", "csv", "--batch-size", "1")[1]
    assert list(csv.reader(io.StringIO(batches))) == rows
    assert rows[1] == rows[2] and rows[1][1] == out.split()[1] and 0 < float(rows[1][2]) < 1


def test_answers_are_written_while_images_are_read(trained_run, pictures, monkeypatch, capsys):
    """The first answer is there before the last image is read, whatever the number of images."""
    from cnnexp.commands import predict

    read, shown = [], []
    monkeypatch.setattr(Transform, "decoded", lambda *given, own=Transform.decoded: read.append("") or own(*given))
    monkeypatch.setattr(predict, "as_csv", lambda *given, **first: shown.append(len(read)) or "")
    images = [str(pictures / "a.png")] * 40
    assert predict.main([str(trained_run), *images, "--format", "csv", "--batch-size", "2"]) == 0
    assert len(shown) == 20 and shown[0] <= 8 and len(read) == 40


def test_predict_reports_mistakes(cnnexp, trained_run, pictures):
    for given, message in (
        ([pictures / "notes.txt"], "notes.txt: cannot be read as an image"),
        ([pictures / "gone.png"], "gone.png: no such file or folder"),
        ([pictures / "a.png", "--top", "0"], "--top: given 0; allowed: a whole number >= 1"),
    ):
        code, out, err = cnnexp("predict", trained_run, *given)
        assert code == 2 and out == "" and message in err and err.count("\n") == 1
    (pictures / "empty").mkdir()
    assert "has no images" in cnnexp("predict", trained_run, pictures / "empty")[2]
