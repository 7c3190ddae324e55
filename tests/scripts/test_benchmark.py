"""The benchmark: the order of measuring, the arithmetic of repeats, the file that is merged, the page."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from bench import cgroup, page, process, result, trees
from bench.lab import CNNEXP, Lab
from bench.result import Case, Check, Failed, NotMeasured, Result
from bench.rows import ROWS
from bench.rows_costs import add_shares
from bench.runs import slots_of

REPOSITORY = Path(__file__).resolve().parents[2]
ABOUT: dict[str, Any] = {
    "date": "2025-01-01",
    "machine": {"processor": "Example CPU", "cores": 2, "memory_gib": 24, "gpu": None, "load_before": 0.1},
    "versions": {"python": "3.11", "torch": "2.15.0"},
    "commit": "abc1234",
    "repeats": 2,
    "quick": False,
    "not_measured": None,
}
SERIES = {"cnnexp": {"images_per_second": [300.0, 360.0]}, "plain": {"images_per_second": [100.0, 200.0]}}
TWICE = Check("training", "rate", 2.0, "images_per_second", "cnnexp", "plain")


def entry(checks: list[Check], series: result.Series = SERIES, **more: Any) -> dict[str, Any]:
    """Return an entry of performance.json."""
    return result.entry(Result(series, checks, **more), **ABOUT)


def test_the_order_is_reversed_at_every_repeat() -> None:
    assert result.orders(["a", "b", "c"], 3) == [["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c"]]


def test_cases_take_turns_and_one_that_fails_is_left_out() -> None:
    calls: list[str] = []

    def case(name: str, fails: bool = False) -> Case:
        def run(repeat: int) -> dict[str, float]:
            calls.append(f"{name}{repeat}")
            if fails:
                raise Failed("no such module")
            return {"seconds": float(repeat)}

        return Case(name, name, run)

    series, problems = result.measure([case("a"), case("b", fails=True), case("c")], 3, lambda line: None)
    assert calls == ["a0", "b0", "c0", "c1", "a1", "a2", "c2"]
    assert series == {"a": {"seconds": [0.0, 1.0, 2.0]}, "c": {"seconds": [0.0, 1.0, 2.0]}}
    assert problems == {"b": "no such module"}


@pytest.mark.parametrize(
    ("kind", "target", "value", "low", "high", "met"),
    [
        ("rate", 2.0, 2.2, 1.8, 3.0, True),
        ("rate", 2.3, 2.2, 1.8, 3.0, False),
        ("seconds", 2.0, 1 / 2.2, 1 / 3, 1 / 1.8, False),
        ("share", 1.2, 2.2, 1.8, 3.0, False),
        ("limit", 330.0, 330.0, 300.0, 360.0, True),
        ("percent", 3.0, 140.0, 80.0, 200.0, False),
        ("rate", None, 2.2, 1.8, 3.0, None),
    ],
)
def test_ratios_are_of_medians_percents_of_repeats_and_ranges_too(
    kind: Any, target: float | None, value: float, low: float, high: float, met: bool | None
) -> None:
    check = Check("x", kind, target, "images_per_second", "cnnexp", "plain")
    found = result.outcome(check, SERIES)
    assert found is not None
    assert found["met"] is met
    assert (found["value"], found["low"], found["high"]) == pytest.approx((value, low, high))


def test_a_check_without_one_of_its_cases_has_no_outcome() -> None:
    assert result.outcome(Check("x", "rate", 1.0, "images_per_second", "cnnexp", "fastai"), SERIES) is None
    assert result.outcome(Check("x", "rate", 1.0, "seconds", "cnnexp", "plain"), SERIES) is None


def test_medians_and_ranges_are_kept_beside_the_repeats() -> None:
    made = entry([TWICE])
    assert made["series"] == SERIES
    assert made["summary"]["plain"]["images_per_second"] == {"median": 150.0, "low": 100.0, "high": 200.0, "n": 2}
    assert json.loads(json.dumps(made)) == made


def test_what_a_probe_or_a_checkpoint_takes_is_told_by_its_own_clock() -> None:
    none = {"loop_seconds": [10.0, 8.0], "checkpoint_seconds": [0.1, 0.2]}
    series = {
        "shapes: none of them": none,
        "shapes: checkpoint every epoch": {"loop_seconds": [20.0, 10.0], "checkpoint_seconds": [0.5, 0.4]},
        "shapes: probes=all": {**none, "probes_seconds": [1.0, 0.4]},
        "shapes: a row for every step": none.copy(),
        "textures: probes=all": {**none, "probes_seconds": [1.0, 0.4]},
    }
    add_shares(series, "shapes: none of them")
    shares = {case: own["own_share_percent"] for case, own in series.items() if "own_share_percent" in own}
    assert list(shares) == ["shapes: checkpoint every epoch", "shapes: probes=all"]
    assert [*shares.values()] == [pytest.approx([2.0, 2.0]), pytest.approx([10.0, 5.0])]


def test_rows_are_merged() -> None:
    old = {"C1": entry([TWICE]), "C2": entry([TWICE])}
    new = entry([TWICE], {"cnnexp": {"images_per_second": [50.0]}, "plain": {"images_per_second": [100.0]}})
    rows = result.merged(old, {"C2": new, "C5": new})
    assert list(rows) == ["C1", "C2", "C5"]
    assert rows["C1"] == old["C1"]
    assert rows["C2"]["checks"][0]["outcome"]["value"] == 0.5


def test_repeats_can_be_added() -> None:
    more = entry([TWICE], {"cnnexp": {"images_per_second": [900.0]}, "plain": {"images_per_second": [100.0]}})
    row = result.merged({"C1": entry([TWICE])}, {"C1": more}, append=True)["C1"]
    assert row["series"]["cnnexp"]["images_per_second"] == [300.0, 360.0, 900.0]
    assert row["summary"]["cnnexp"]["images_per_second"]["median"] == 360.0
    assert (row["checks"][0]["outcome"]["high"], row["repeats"]) == (9.0, 4)
    other = {**more, "commands": {"cnnexp": "with other settings"}}
    assert result.merged({"C1": entry([TWICE])}, {"C1": other}, append=True)["C1"] == other


def test_what_was_measured_stays_where_it_cannot_be_measured_again() -> None:
    missing = {**entry([], {}), "not_measured": "no CUDA device"}
    old = {"G1": entry([TWICE])}
    assert result.merged(old, {"G1": missing}) == old
    assert result.merged({}, {"G1": missing}) == {"G1": missing}


def test_the_page() -> None:
    checks = [TWICE, Check("against fastai", "rate", 1.0, "images_per_second", "cnnexp", "fastai")]
    rows = {
        "C1": entry(checks, problems={"fastai": "no module | named fastai"}, facts={"epochs": 2, "torch": False}),
        "C2": entry([Check("training", "rate", 2.5, "images_per_second", "cnnexp", "plain")]),
        "G1": {**entry([], {}), "not_measured": "no CUDA device"},
    }  # fmt: skip
    text = page.render(rows)
    assert "| at least 2x | 2.2x (1.8 to 3) | met |" in text
    assert "| against fastai | at least 1x | - | not measured: no module \\| named fastai |" in text
    assert "| at least 2.5x | 2.2x (1.8 to 3) | missed |" in text
    assert "- **Missed** (C2: training): no reason is known yet" in text
    assert "| 5x | - | not measured: no CUDA device |" in text
    assert "| cnnexp | 330 (300 to 360) |" in text
    assert "- epochs: 2" in text
    assert "- torch: no" in text
    assert "Example CPU, 2 cores" in text
    for row in ROWS.values():
        assert f"| {row.id} | {row.title}" in text, "every row is in the overview, measured or not"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.0812, "0.0812"), (4.567, "4.57"), (99.96, "100"), (1234.5, "1,234"), (1e-5, "1.0e-05"), (2.0, "2")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert page.number(value) == text


def test_growth_is_drawn_only_if_there_is_some(tmp_path: Path) -> None:
    series = {
        "growth-runs": {"1": {"sweep_seconds": [3.0], "report_mib": [90.0]}, "10": {"sweep_seconds": [5.0, 6.0]}},
    }
    page.write(tmp_path / "none", {"C1": entry([TWICE])})
    assert not (tmp_path / "none" / "performance-growth.png").exists()
    rows = {name: entry([], numbers) for name, numbers in series.items()}
    page.write(tmp_path, rows)
    assert (tmp_path / "performance-growth.png").read_bytes().startswith(b"\x89PNG")
    assert page.read(tmp_path) == rows


def test_a_subset_has_its_share_of_every_class(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in ("bird", "cat"):
            folder = tmp_path / "data" / "cifar10-jpeg" / part / label
            folder.mkdir(parents=True)
            for number in range(9):
                (folder / f"{number}.jpg").write_text(f"{part} {label} {number}")
    lab = Lab(tmp_path / "work", tmp_path / "data")
    tree = trees.subset(lab, "cifar10", 7, 2)
    counts = {folder.name: len(list(folder.iterdir())) for folder in (tree / "train").iterdir()}
    assert counts == {"bird": 4, "cat": 3}
    file = next((tree / "test" / "cat").iterdir())
    assert file.read_text() == f"test cat {file.stem}"
    with pytest.raises(NotMeasured, match="no data: there is no imagenette2-160 in --data"):
        trees.subset(lab, "imagenette", 7, 2)
    with pytest.raises(NotMeasured, match="no data"):
        trees.subset(Lab(tmp_path / "work"), "cifar10", 7, 2)


def test_commands_are_told_without_this_machines_folders(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "scratch", tmp_path / "data")
    told = lab.readable([*CNNEXP, "train", f"data.root={lab.work}/trees", f"x={lab.data}"])
    assert told == "cnnexp train data.root=WORK/trees x=DATA"
    assert lab.readable([sys.executable, REPOSITORY / "scripts" / "x.py"]) == "python scripts/x.py"


def test_memory_of_mapped_images_is_told_apart() -> None:
    smaps = (
        b"5600-5700 rw-p 00000000 00:00 0    [heap]\nPss:    2048 kB\n"
        b"7f00-7f10 r--s 00000000 fe:00 1    /cache/shapes/images.npy\nPss:    1024 kB\nPss_Dirty: 8 kB\n"
        b"7f10-7f20 r-xp 00000000 fe:00 2    /lib/libtorch.so\nPss:    512 kB\n"
    )
    assert process.parse_smaps(smaps) == (3.5, 1.0)


def test_a_process_is_timed_and_watched(tmp_path: Path) -> None:
    child = "x = b'1' * 2**25; import time; time.sleep(0.6)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('done')"
    finished = process.run([sys.executable, "-c", parent], dict(os.environ), tmp_path, watch=True)
    assert finished.last_line() == "done"
    assert finished.seconds > 0.5
    if finished.memory.samples:
        assert finished.memory.tree > finished.memory.child > 32
    with pytest.raises(Failed, match="it went wrong"):
        process.run([sys.executable, "-c", "raise SystemExit('it went wrong')"], dict(os.environ), tmp_path)
    with pytest.raises(Failed, match="killed by SIGKILL"):
        process.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], dict(os.environ), tmp_path)


def test_what_would_tilt_a_comparison_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CNNEXP_DATA", "/somewhere")
    environment = Lab(tmp_path).environment()
    assert not {"OMP_NUM_THREADS", "CNNEXP_DATA"} & set(environment)
    assert (environment["CNNEXP_CACHE"], environment["CUDA_VISIBLE_DEVICES"]) == (str(tmp_path / "cache"), "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert Lab(tmp_path).environment(gpu=True)["CUDA_VISIBLE_DEVICES"] == "3"


def test_the_slots_of_a_sweep_are_read_from_what_it_says() -> None:
    assert slots_of("6 runs, 0 done before, on 2 slot(s) (cpu; 1 thread(s) each)\n...") == 2
    assert slots_of("test accuracy 12 %") == 1


def test_a_command_enters_its_group_first(tmp_path: Path) -> None:
    group = cgroup.Group(tmp_path, "memory.max", "memory.peak")
    done = subprocess.run(group.entering(["echo", "two words"]), capture_output=True, text=True, check=True)
    assert done.stdout == "two words\n"
    assert int((tmp_path / "cgroup.procs").read_text()) > 0
    assert group.peak_mib() is None


@pytest.mark.slow
def test_the_script_measures_a_row_and_renders_the_page_again(tmp_path: Path) -> None:
    script = [sys.executable, "-W", "error", str(REPOSITORY / "scripts" / "benchmark.py"), "--out", str(tmp_path)]
    measure = [*script, "C6", "--quick", "--work", str(tmp_path / "work")]
    done = subprocess.run(measure, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    row = page.read(tmp_path)["C6"]
    assert row["facts"]["torch is imported for it"] is False
    assert all(check["outcome"]["n"] == 1 for check in row["checks"])
    text = (tmp_path / "performance.md").read_text()
    assert str(REPOSITORY) not in text
    (tmp_path / "performance.md").unlink()
    subprocess.run([*script, "--page"], check=True, capture_output=True, timeout=60)
    assert (tmp_path / "performance.md").read_text() == text


def test_a_wrong_request_is_told_in_one_line(tmp_path: Path) -> None:
    script = [sys.executable, str(REPOSITORY / "scripts" / "benchmark.py")]
    for words, message in ((["C0"], "no row C0; choose from C1"), (["C6", "--quick"], "say with --out")):
        done = subprocess.run([*script, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert message in done.stderr
