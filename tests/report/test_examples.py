"""Mistakes and disagreements: which images, by hand; their pictures, or one line that says why there are none."""

import csv
import itertools
import math

import numpy as np
import pytest
from fake_records import write_run
from pages import HOSTILE, Page

from cnnexp import report
from cnnexp.data.prepare import Listing, prepare
from cnnexp.pages.style import style
from cnnexp.report.analysis import examples
from cnnexp.report.analysis.disagreement import between_seeds
from cnnexp.report.analysis.findings import analyse
from cnnexp.report.figures import draw
from cnnexp.report.figures.grids import grids
from cnnexp.report.figures.images import MAX_SIDE_PIXELS, Missing, fetch, open_test_split, shrink
from cnnexp.report.figures.looks import looks
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.read.predictions import predictions_of, rows_of
from cnnexp.report.read.runs import MAX_CLASSES
from cnnexp.report.render.class_tables import frequent_confusions

IDS = [f"test/{i}.png" for i in range(6)]
LABELS = np.array([0, 0, 1, 1, 2, 2])
NAMES = ["cat", "dog", "owl"]


def answer(folder, arm, seed, answers, confidence=0.8, classes=NAMES, ids=IDS, labels=LABELS, **fields):
    """Write a run that answers each image with a class, surer of the later ones."""
    run = write_run(folder, arm, seed, float(np.mean(np.array(answers) == labels)), classes=classes, images=len(ids))
    sure = confidence + 0.01 * np.arange(len(ids))
    probabilities = np.repeat(((1 - sure) / (len(classes) - 1))[:, None], len(classes), 1)
    probabilities[np.arange(len(ids)), answers] = sure
    run.write_predictions(np.log(probabilities), labels, ids)
    run.update(**fields)
    return run


def two_arms(folder, **fields):
    """Write two arms of two seeds. Image 0: only better, always; 4: only baseline, always; 5: a seed of each."""
    answer(folder, "baseline", 0, [1, 0, 1, 1, 2, 2], **fields)
    answer(folder, "baseline", 1, [1, 0, 1, 0, 2, 0], **fields)
    answer(folder, "better", 0, [0, 0, 1, 1, 0, 0], **fields)
    answer(folder, "better", 1, [0, 0, 1, 0, 0, 2], **fields)
    return folder / "demo"


def study_of(folder):
    return collect(*find_groups(folder)[0])


def table_of(written, name):
    return list(csv.DictReader((written.index.parent / "tables" / name).read_text().splitlines()))


def pixels(id, size=8, channels=3):
    return np.random.default_rng(sum(map(ord, id))).integers(0, 256, (size, size, channels), np.uint8)


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Return a function that prepares the six images in a cache of this test's own, and gives their fingerprint."""
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "cache"))

    def make(ids=IDS, channels=3):
        whole = [*(f"train/{k}.png" for k in range(3)), *ids]
        listing = Listing(NAMES, [0, 1, 2, *LABELS], [0] * 3 + [2] * 6, whole, lambda i: pixels(whole[i], 8, channels))
        return prepare("postcards", [*ids, channels], None, lambda: listing).fingerprint

    return make


def test_disagreement_by_hand(tmp_path):
    findings = analyse(study_of(two_arms(tmp_path)))
    (d,), found = findings.disagreements, findings.examples
    # seed 0: baseline right on 1-5, better on 0-3; seed 1: baseline on 1, 2, 4, better on 0, 1, 2, 5
    assert [d.both.mean, d.only_arm.mean] == pytest.approx([(3 + 2) / 12, (1 + 2) / 12])
    assert [d.only_base.mean, d.neither.mean] == pytest.approx([(2 + 1) / 12, (0 + 1) / 12])
    assert (d.always_arm.tolist(), d.always_base.tolist(), d.both.n) == ([0], [4], 2)
    assert [d.within_base, d.within_arm] == pytest.approx([2 / 6, 2 / 6])
    ((_, by_arm, by_base),) = found.never_agreed
    assert [(e.id, e.true, e.predicted, e.wrong, e.seeds) for e in (*by_arm, *by_base)] == [
        ("test/0.png", "cat", "dog", 2, 2),
        ("test/4.png", "owl", "cat", 2, 2),
    ]
    assert by_base[0].confidence == pytest.approx(0.84)


def test_the_order_of_images_does_not_matter(tmp_path):
    study = two_arms(tmp_path)
    before = analyse(study_of(study)).disagreements[0]
    order = np.array([3, 0, 5, 1, 2, 4])
    ids = [IDS[i] for i in order]
    answer(tmp_path, "better", 1, np.array([0, 0, 1, 0, 0, 2])[order], ids=ids, labels=LABELS[order])
    after = analyse(study_of(study)).disagreements[0]
    assert (after.both, after.only_base, list(after.always_arm)) == (before.both, before.only_base, [0])
    assert rows_of(np.array(IDS), np.array(ids)).tolist() == [1, 3, 4, 0, 5, 2]
    assert rows_of(np.array(IDS), np.array([*IDS[:5], "another"])) is None


def test_other_images_are_not_compared(tmp_path):
    answer(tmp_path, "baseline", 0, [1, 0, 1, 1, 2, 2])
    answer(tmp_path, "better", 0, LABELS, ids=[f"other/{i}" for i in range(6)])
    findings = analyse(study_of(tmp_path / "demo"))
    assert not findings.disagreements and len(findings.examples.mistakes) == 2


def test_two_seeds_of_an_arm():
    right = np.random.default_rng(0).random((5, 40)) < 0.6
    pairs = [(a != b).mean() for a, b in itertools.combinations(right, 2)]
    assert between_seeds(right) == pytest.approx(np.mean(pairs))
    assert math.isnan(between_seeds(right[:1]))


def test_most_confident_mistakes_are_of_the_mean_over_seeds(tmp_path):
    answer(tmp_path, "net", 0, [1, 1, 1, 1, 2, 0], confidence=0.9)
    answer(tmp_path, "net", 1, [1, 0, 1, 1, 0, 0], confidence=0.5)
    ((_, found),) = analyse(study_of(tmp_path / "demo")).examples.mistakes
    # image 1: dog at 0.91 and cat at 0.51; image 4: owl, right, at 0.94 outweighs cat at 0.54; images 0 and 5: both
    assert [(e.id, e.true, e.predicted, e.wrong) for e in found] == [
        ("test/5.png", "owl", "cat", 2),
        ("test/0.png", "cat", "dog", 2),
        ("test/1.png", "cat", "dog", 1),
    ]
    assert [e.confidence for e in found] == pytest.approx([0.75, 0.70, (0.91 + 0.49 / 2) / 2])


def test_classes_against_the_baseline(tmp_path):
    study = study_of(two_arms(tmp_path))
    found = analyse(study).class_differences["better"]
    assert [d.mean for d in found] == pytest.approx([0.5, 0, (-1 + 0) / 2])  # cat, dog, owl
    assert found[2].n == 2 and found[2].low < -0.5 < found[2].high


def test_tables_of_a_report(tmp_path):
    written = report.write(two_arms(tmp_path), figures=False)
    (row,) = table_of(written, "disagreement.csv")
    assert (row["arm"], row["baseline"], row["images"], row["n"]) == ("better", "baseline", "6", "2")
    assert (row["only_arm_at_every_seed_images"], float(row["both_mean_percent"])) == ("1", pytest.approx(500 / 12))
    assert [r["right_at_every_seed"] for r in table_of(written, "never_agreed.csv")] == ["better", "baseline"]
    assert {r["arm"] for r in table_of(written, "mistakes.csv")} == {"baseline", "better"}
    assert [float(r["difference_mean_points"]) for r in table_of(written, "per_class_difference.csv")] == [50, 0, -50]
    assert "accuracy_low95_percent" in table_of(written, "per_class.csv")[0]
    top = table_of(written, "confusions.csv")[0]
    assert (top["true_class"], top["predicted_class"], top["count"]) == ("cat", "dog", "2")
    page = Page(written.index.read_text())
    assert {"mistakes", "disagreement", "calibration"} <= set(page.ids) and not page.sources


def test_pictures_are_those_of_the_prepared_data(tmp_path, prepared):
    data = {"name": "postcards", "fingerprint": prepared(), "classes": NAMES}
    found = analyse(study_of(two_arms(tmp_path, data=data))).examples
    images = fetch(found)
    assert not images.missing
    for arm, mistakes in found.mistakes:
        assert mistakes
        for e in mistakes:
            np.testing.assert_array_equal(images.get(arm, e), pixels(e.id))


@pytest.mark.integration
def test_the_same_pictures_give_the_same_files(tmp_path, prepared):
    data = {"name": "postcards", "fingerprint": prepared(channels=1), "classes": NAMES}
    study = study_of(two_arms(tmp_path, data=data))
    found = analyse(study).examples
    with style():
        first, second = (list(grids(found, fetch(found), looks(study.arms, study.baseline))) for _ in range(2))
    assert [(f.name, f.png, f.svg) for f in first] == [(f.name, f.png, f.svg) for f in second]
    assert [f.name for f in first] == ["mistakes_baseline", "mistakes_better", "disagreement_better"]
    assert [f.svg.count(b"<image") for f in first] == [3, 3, 2]
    assert "its mean over the 2 seeds" in first[0].caption and "baseline (n = 2) never agree" in first[2].caption


@pytest.mark.parametrize("there", ["nothing", "another fingerprint", "other names"])
def test_without_pictures_one_line_says_what_to_run(tmp_path, prepared, there, monkeypatch):
    drawn = []
    monkeypatch.setattr(draw, "draw", lambda findings, images: drawn.append(images) or [])
    fingerprint = "f00d" if there != "other names" else prepared(ids=[f"test/x{i}.png" for i in range(6)])
    if there == "another fingerprint":
        other = prepared()
    run = answer(tmp_path, "net", 0, 1 - LABELS // 2, data={"name": "postcards", "fingerprint": fingerprint})
    run.update(repeat="cnnexp train +study=demo seed=0")
    before = sorted((tmp_path / "cache").glob("*"))
    lines = []
    written = report.write(tmp_path / "demo", progress=lines.append)
    (line,) = [line for line in lines if "left out" in line]
    assert "\n" not in line and line.removeprefix("demo: ") in Page(written.index.read_text()).text
    if there == "other names":
        assert "other names" in line
    else:
        assert line.endswith("cnnexp train --plan +study=demo seed=0") and str(tmp_path / "cache") in line
        assert (other[:8] if there == "another fingerprint" else "f00d") in line
    assert sorted((tmp_path / "cache").glob("*")) == before  # nothing is prepared
    assert drawn[0].missing and not drawn[0].images
    assert table_of(written, "mistakes.csv")


@pytest.mark.integration
def test_a_page_says_in_each_section_why_it_has_no_pictures(tmp_path, prepared):
    folder = two_arms(tmp_path, data={"name": "postcards", "fingerprint": "f00d", "classes": NAMES})
    text = Page(report.write(folder).index.read_text()).text
    assert text.count("Pictures are left out: ") == 2, "under the mistakes, and where arms disagree"
    text = Page(report.write(folder, figures=False).index.read_text()).text
    assert text.count("No pictures: the report was made without figures (--no-figures).") == 2


def test_pictures_of_an_own_data_set_are_said_to_be_nowhere(tmp_path):
    run = answer(tmp_path, "net", 0, 1 - LABELS // 2, data={"name": "Two", "fingerprint": "f00d"})
    run.write_config({"data": {"_target_": "my_data.Two"}})
    (arm,) = study_of(tmp_path / "demo").arms
    with pytest.raises(Missing, match=r"my_data.Two is a data set of your own, whose images are not kept on disk"):
        open_test_split(arm.first)


def test_the_cache_of_the_config_is_looked_in(tmp_path, prepared, monkeypatch):
    fingerprint = prepared()
    run = answer(tmp_path, "net", 0, LABELS, data={"name": "postcards", "fingerprint": fingerprint})
    monkeypatch.setenv("CNNEXP_CACHE", str(tmp_path / "elsewhere"))
    (arm,) = study_of(tmp_path / "demo").arms
    with pytest.raises(Missing, match="elsewhere does not hold"):
        open_test_split(arm.first)
    run.write_config({"data": {"cache": str(tmp_path / "cache")}})
    pictures = open_test_split(arm.first)
    assert pictures.get(IDS[0], 0) is not None
    assert pictures.get(IDS[0], 1) is None and pictures.get("train/0.png", 0) is None  # another label; no test image


def test_a_damaged_cache_is_as_good_as_none(tmp_path, prepared):
    fingerprint = prepared()
    answer(tmp_path, "net", 0, LABELS, data={"name": "postcards", "fingerprint": fingerprint})
    (arm,) = study_of(tmp_path / "demo").arms
    (folder,) = (f for f in (tmp_path / "cache").glob("postcards-*") if f.is_dir())
    (folder / "images.npy").write_bytes(b"")
    with pytest.raises(Missing, match="does not hold"):
        open_test_split(arm.first)
    (folder / "meta.json").write_text("[]")
    with pytest.raises(Missing, match="does not hold"):
        open_test_split(arm.first)


def test_large_pictures_are_averaged_down():
    image = np.zeros((2 * MAX_SIDE_PIXELS, 2 * MAX_SIDE_PIXELS + 2, 3), np.uint8)
    image[::2, ::2] = 100
    small = shrink(image)
    assert small.shape == (85, 86, 3)  # by 3: 2 would leave 129 pixels
    assert shrink(image[:, :-2]).shape == (MAX_SIDE_PIXELS, MAX_SIDE_PIXELS, 3) and (shrink(image[:, :-2]) == 25).all()
    assert shrink(image[:5, :MAX_SIDE_PIXELS]) is not None and shrink(image[:1, :300]).shape[1] <= MAX_SIDE_PIXELS


@pytest.mark.integration
def test_only_the_first_arms_are_looked_at(tmp_path):
    for number in range(14):
        answer(tmp_path, f"arm{number:02d}", 0, [1, 0, 1, 1, 2, 2])
    written = report.write(tmp_path / "demo", figures=False)
    assert {r["arm"] for r in table_of(written, "mistakes.csv")} == {f"arm{n:02d}" for n in range(examples.MAX_ARMS)}
    assert "The first 12 arms are shown; 2 more are left out." in Page(written.index.read_text()).text
    assert len(table_of(written, "calibration.csv")) == 14


@pytest.mark.integration
def test_many_classes_have_a_table_in_place_of_a_matrix(tmp_path):
    classes = [f"class {i}" for i in range(60)]
    for arm in ("baseline", "other"):
        write_run(tmp_path, arm, 0, 0.6, classes=classes).keep_rows(0)
    written = report.write(tmp_path / "demo")
    assert not list((written.index.parent / "figures").glob("confusion_*"))
    text = Page(written.index.read_text()).text
    assert "Most frequent confusions" in text and "60 classes are too many for a matrix" in text
    rows = frequent_confusions(list(analyse(study_of(tmp_path / "demo")).classes.values())).cells
    mean = [(float(r[2]) + float(r[3])) / 2 for r in rows]
    assert len(rows) == 20 and mean == sorted(mean, reverse=True)


def test_more_classes_than_a_confusion_matrix_may_have(tmp_path):
    names = [f"class {i}" for i in range(MAX_CLASSES + 1)]
    answer(tmp_path, "net", 0, [MAX_CLASSES, 0, 1, 1, 2, 2], classes=names)
    written = report.write(tmp_path / "demo", figures=False)
    (mistake,) = table_of(written, "mistakes.csv")
    assert (mistake["true_class"], mistake["predicted_class"]) == ("class 0", f"class {MAX_CLASSES}")
    assert not table_of(written, "confusions.csv") and "malformed" not in written.terminal


@pytest.mark.integration
def test_hostile_ids_and_classes(tmp_path, prepared):
    ids, classes = HOSTILE[:6], [*HOSTILE[:2], HOSTILE[6]]
    data = {"name": HOSTILE[0], "fingerprint": prepared(ids=ids), "classes": classes}
    for arm, answers in ((HOSTILE[0], [1, 0, 1, 1, 0, 0]), (HOSTILE[1], [0, 1, 0, 1, 2, 2])):
        answer(tmp_path, arm, 0, answers, classes=classes, ids=ids, data=data).keep_rows(0)
    written = report.write(tmp_path / "demo", baseline=HOSTILE[0])
    page, out = Page(written.index.read_text()), written.index.parent
    assert not page.strange and "iframe" not in page.tags and not [a for a in page.attributes if a.startswith("on")]
    assert len(list((out / "figures").glob("mistakes_*.svg"))) == 2
    for name in ("mistakes.csv", "never_agreed.csv", "confusions.csv", "per_class_difference.csv", "calibration.csv"):
        content = (out / "tables" / name).read_text()
        assert "\x1b" not in content
        cells = [cell for row in csv.reader(content.splitlines()) for cell in row]
        assert not [c for c in cells if c[:1] in ("=", "@") or (c[:1] in "+-" and not c[1:2].isdigit() and c)], name
    assert "<script" not in (out / "tables" / "disagreement.md").read_text()
    assert any(row["image"] == "'" + HOSTILE[1] for row in table_of(written, "mistakes.csv"))


def test_an_arm_without_predictions_is_passed_over(tmp_path):
    write_run(tmp_path, "baseline", 0, 0.5, with_predictions=False)
    answer(tmp_path, "other", 0, LABELS)
    study = study_of(tmp_path / "demo")
    assert predictions_of(study.arms[0]) is None
    found = analyse(study)
    assert not found.disagreements and [arm.label for arm, _ in found.examples.mistakes] == ["other"]
