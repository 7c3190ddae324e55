"""A run is found by what a person types, and by nothing that could mean two."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_records import write_run

from cnnexp.errors import UserError
from cnnexp.records.find import find_place, find_run, typed_names, weights_path
from cnnexp.records.run_record import RunRecord, find_runs
from cnnexp.records.study import write_study


@pytest.fixture(autouse=True)
def inside(tmp_path: Path) -> Iterator[None]:
    """Be in an empty folder."""
    with contextlib.chdir(tmp_path):
        yield


@pytest.fixture
def made() -> dict[str, RunRecord]:
    """Return runs below outputs/, by name; `last` was started last."""
    cats = {"study": "my cats", "fingerprint": "ffff000011"}
    lr = {"study": "runs", "fingerprint": "1a2b3c4d5e"}
    first = write_run(Path("outputs"), "optimizer.lr=0.001,model.norm=none", 0, started="2025-01-01", **lr)
    return {
        "first": first,
        "second": write_run(Path("outputs"), "optimizer.lr=0.001,model.norm=none", 1, started="2025-01-02", **lr),
        "last": write_run(Path("outputs"), "猫 wide", 0, started="2025-03-01", **cats),
        "other": write_run(Path("elsewhere"), "wide", 2, study="a", fingerprint="9999aaaabb", started="2025-02-01"),
    }


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("runs/lr_0.001-norm_none/0", "first"),
        ("runs/lr_0.001-norm_none/s1", "second"),
        ("runs/optimizer.lr=1e-3,model.norm=none/0", "first"),
        ("outputs/runs/lr_0.001-norm_none-s1-1a2b3c4d5e", "second"),
        ("outputs/runs/lr_0.001-norm_none/1", "second"),
        ("lr_0.001-norm_none-s1", "second"),
        ("runs/lr_0.001-norm_none-s1-1a2b", "second"),
        ("1a2b-s0", "first"),
        ("ffff", "last"),
        ("my cats/猫 wide/0", "last"),
        ("latest", "last"),
        ("elsewhere/latest", "other"),
        ("elsewhere/a/wide/2", "other"),
        ("elsewhere/9999aa", "other"),
        ("猫 wide", "last"),
    ],
)
def test_a_run_is_found_by_folder_fingerprint_place_and_time(made, typed, name):
    assert find_run(typed).folder.resolve() == made[name].folder.resolve()


def test_a_name_finds_its_run_beside_a_folder_of_that_name(made):
    Path("猫 wide").mkdir()
    assert find_run("猫 wide").folder.resolve() == made["last"].folder.resolve()
    Path("photos").mkdir()
    with pytest.raises(UserError, match=r"^photos: is not a run directory \(it has no run.json\)$"):
        find_run("photos")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("1a2b", "2 runs are called so; choose one of runs/lr_0.001-norm_none/0, runs/lr_0.001-norm_none/1"),
        (
            "runs/lr_0.01-norm_none/0",
            "no such run; a run is named by its folder, its name=, study/arm/seed, the first ",
        ),
        ("1a2", "no such run"),
        ("runs/lr_0.001-norm_none/2", "there are runs/lr_0.001-norm_none/1, runs/lr_0.001-norm_none/0"),
    ],
)
def test_what_names_no_run_or_several_lists_candidates(made, typed, line):
    with pytest.raises(UserError) as raised:
        find_run(typed)
    assert line in str(raised.value) and str(raised.value).startswith(f"{typed}: ")


def test_few_runs_are_all_listed_the_closest_first():
    for arm in ("default", "wide"):
        write_run(Path("outputs"), arm, 0, study="s1")
    with pytest.raises(UserError, match=r"there are s1/wide/0, s1/default/0$"):
        find_run("wide/1")


def test_the_only_study_is_called_a_study():
    write_run(Path("outputs"), "wide", 0, study="runs")
    with pytest.raises(UserError, match=r"; the only study is runs$"):
        find_place("nowhere")


def test_weights_come_from_the_latest_run_that_is_done(made):
    write_run(
        Path("outputs"), "failed", 0, study="runs", started="2025-04-01", status="failed", fingerprint="abcdabcd01"
    )
    assert find_run("latest").info["status"] == "failed"
    assert weights_path("latest").resolve() == made["last"].folder.resolve()


def test_the_latest_run_is_not_one_that_was_skipped(made):
    new = {"study": "runs", "started": "2025-05-01", "fingerprint": "abcdabcd02"}
    write_run(Path("outputs"), "skipped", 0, status="skipped", **new)
    assert find_run("latest").folder == made["last"].folder
    write_run(Path("elsewhere") / "only", "skipped", 0, status="skipped", **new)
    assert find_run("elsewhere/only/latest").status == "skipped", "none other is there"


def test_a_name_of_several_runs_lists_them(made):
    with pytest.raises(UserError, match=r"2 runs are called so; choose one of runs/lr_0\.001-norm_none/0, runs/"):
        find_run("lr_0.001-norm_none")


def test_without_any_run_it_says_so():
    with pytest.raises(UserError, match="latest: no such run; there are no runs below outputs"):
        find_run("latest")


def test_every_listed_name_finds_its_run(made):
    found = {folder: name for place in ("outputs", "elsewhere") for folder, name in
             typed_names(find_runs(Path(place))).items()}  # fmt: skip
    assert len(found) == 4 and all(str(find_run(name).folder) == folder for folder, name in found.items())


def test_the_present_run_of_an_arm_is_meant_not_a_superseded_one():
    old, new = (write_run(Path("outputs"), "wide", 0, study="a", fingerprint=digit * 10) for digit in "12")
    with pytest.raises(UserError, match="2 runs are called so; choose one of a/wide-s0-1111111111, a/wide-s0-22222"):
        find_run("a/wide/0")
    entry = {"folder": new.name, "arm": "wide", "seed": 0, "fingerprint": "2" * 10}
    write_study(new.folder.parent, {"name": "a", "runs": [entry], "arms": ["wide"]})
    assert find_run("a/wide/0").folder == new.folder and find_run("a/wide-s0-1").folder == old.folder


def test_a_run_that_repeats_another_is_meant_only_by_a_name_of_its_own(made):
    of_last = {"fingerprint": "ffff000011", "started": "2025-04-01", "command": "cnnexp rerun latest"}
    again = write_run(Path("outputs"), "猫 wide", 0, study="rerun", **of_last)
    for name in ("latest", "ffff", "猫-wide/0", made["last"].folder.name):
        assert find_run(name).folder == made["last"].folder
    assert find_run("rerun/猫-wide/0").folder == again.folder
    own = write_run(Path("outputs"), "mine", 0, study="rerun", started="2025-05-01", command="cnnexp train")
    assert find_run("latest").folder == own.folder


def test_a_study_is_found_by_its_name(made):
    assert find_place("my cats") == made["last"].folder.parent and find_place("elsewhere") == Path("elsewhere")
    assert find_place("latest") == made["last"].folder
    with pytest.raises(UserError, match=r"gone: no such folder, study or run; .*; the studies are my-cats-\w+, runs$"):
        find_place("gone")
    with pytest.raises(UserError) as raised:
        find_place("outputs/run")
    listed = str(raised.value).partition("the studies are ")[2].split(", ")
    assert listed[0] == "runs" and len(listed) == len(set(listed)), "each once, though outputs/ is looked in twice"
