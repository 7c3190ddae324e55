"""`cnnexp mistakes`: every wrong test image, by file, with probabilities; names that do harm; the page."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_folders import picture
from pages import Page
from scipy.special import softmax

from cnnexp import cli
from cnnexp.records.run_record import RunRecord, find_runs

pytest_plugins = ["trained_runs"]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_it_lists_every_wrong_image(cnnexp, trained_run: Path) -> None:
    code, out, err = cnnexp("mistakes", trained_run)
    stored = np.load(trained_run / "predictions.npz")
    classes = json.loads((trained_run / "run.json").read_text())["data"]["classes"]
    probabilities = softmax(stored["logits"].astype(float), axis=1)
    wrong = {
        str(id): (classes[label], classes[p.argmax()], p.max(), p[label])
        for id, label, p in zip(stored["ids"], stored["labels"], probabilities, strict=True)
        if p.argmax() != label
    }
    found = rows(out)
    assert code == 0 and 0 < len(wrong) < 50 and {row["file"] for row in found} == wrong.keys()
    for row in found:
        label, predicted, probability, of_label = wrong[row["file"]]
        assert (row["label"], row["predicted"]) == (label, predicted)
        assert float(row["probability"]) == pytest.approx(probability, abs=1e-6)
        assert float(row["probability_of_label"]) == pytest.approx(of_label, abs=1e-6)
    sure = [float(row["probability"]) for row in found]
    assert sure == sorted(sure, reverse=True)
    assert err == f"cnnexp: {len(wrong)} of 50 test images are wrong\n"


def test_a_class_and_a_limit(cnnexp, trained_run: Path) -> None:
    every = rows(cnnexp("mistakes", trained_run)[1])
    name = every[0]["label"]
    assert rows(cnnexp("mistakes", trained_run, "--class", name)[1]) == [r for r in every if r["label"] == name]
    assert rows(cnnexp("mistakes", trained_run, "--limit", "3")[1]) == every[:3]
    assert "of 5 test images of" in cnnexp("mistakes", trained_run, "--class", name)[2]


def test_wrong_requests_are_one_line(cnnexp, trained_run: Path, copy: Path) -> None:
    (copy / "predictions.npz").unlink()
    for words, message in (
        ([trained_run, "--class", "unicorn"], "--class: unknown class 'unicorn'"),
        ([trained_run, "--limit", "0"], "--limit: given 0; allowed: a whole number >= 1"),
        ([copy], "predictions.npz"),
    ):
        code, out, err = cnnexp("mistakes", *words)
        assert code == 2 and out == "" and message in err and err.count("\n") == 1, err


@pytest.mark.integration
def test_the_page_shows_them(cnnexp, trained_run: Path, tmp_path: Path) -> None:
    code, out, _ = cnnexp("mistakes", trained_run, "--to", tmp_path / "page")
    page = (tmp_path / "page" / "index.html").read_text()
    listed = rows((tmp_path / "page" / "tables" / "mistakes.csv").read_text())
    assert code == 0 and out.endswith(f"wrong: {tmp_path / 'page' / 'index.html'}\n")
    assert page.count("data:image/png;base64") == len(listed) > 0
    assert {f.name for f in (tmp_path / "page" / "figures").glob("*.png")} == {"gradcam.png", "filters.png"}


@pytest.fixture(scope="module")
def own_images(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> tuple[Path, Path]:
    """Return a folder with images in classes with names that do harm, and a run on them."""
    root, outputs = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("outputs")
    for k, name in enumerate(['<script>alert(1)</script>"'.replace("/", "-"), "=cmd|calc", "red <b>"]):
        (root / name).mkdir()
        for i in range(12):
            picture(100 * k + i, size=(24, 24)).save(root / name / f"=1+{i}\n.png")
    small = ["data.size=8", "epochs=1", "batch_size=8", "device=cpu", "device.threads=1", "model=conv2_norm"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNEXP_CACHE", str(session_cache))
        assert cli.main(["train", "data=folder", f"data.root={root}", *small, f"outputs={outputs}"]) == 0
    return root, find_runs(outputs)[0].folder


@pytest.mark.integration
def test_own_images_are_named_by_their_path(cnnexp, own_images: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = own_images
    code, out, _ = cnnexp("mistakes", run, "--to", tmp_path / "page")
    listed = rows(cnnexp("mistakes", run)[1])
    assert code == 0 and listed
    for row in listed:
        assert not row["file"].startswith("=") and not row["label"].startswith("=")
        assert "\x1b" not in "".join(row.values()) and "\n" not in "".join(row.values())
        assert Path(row["file"].encode().decode("unicode_escape")).exists(), "control characters are escaped"
    page = (tmp_path / "page" / "index.html").read_text()
    assert not Page(page).strange and "<script>alert" not in page and "\x1b" not in page and "\x1b" not in out
    assert page.count("data:image/png;base64") == len(listed)


@pytest.mark.integration
def test_without_its_prepared_images_the_page_says_so(
    cnnexp, own_images: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "empty"))
    code, _, err = cnnexp("mistakes", own_images[1], "--to", tmp_path / "page")
    page = (tmp_path / "page" / "index.html").read_text()
    assert code == 0 and "Pictures are left out" in page and "data:image/png" not in page
    assert "without gradcam: Pictures are left out" in err


@pytest.mark.integration
def test_a_network_that_may_not_be_built_leaves_out_its_figures(cnnexp, own_run: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(own_run, tmp_path / "study" / own_run.name))
    code, _, err = cnnexp("mistakes", place, "--to", tmp_path / "page")
    assert code == 0 and "own_network.OwnNetwork is not built from a run directory" in err
    assert (tmp_path / "page" / "index.html").exists()
    code, _, err = cnnexp("mistakes", place, "--to", tmp_path / "page", "--allow", "own_network.OwnNetwork")
    assert code == 0 and err == "" and (tmp_path / "page" / "figures" / "filters.png").exists()


def test_a_run_that_has_not_ended_says_so(cnnexp, copy: Path) -> None:
    (copy / "predictions.npz").unlink()
    RunRecord.read(copy).update(status="interrupted")
    code, _, err = cnnexp("mistakes", copy)
    assert (code, err) == (2, f"cnnexp: {copy}: has no predictions of test images (the run is interrupted)\n")
