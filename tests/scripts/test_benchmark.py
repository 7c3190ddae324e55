"""The benchmark: its table of rows, the order of measuring, the arithmetic of repeats, their file, the page."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from bench import cases, measure, page, process, results, table
from bench.images import Images
from bench.lab import CNNEXP, Lab
from bench.process import NotMeasured
from bench.table import ROWS

REPOSITORY = Path(__file__).resolve().parents[2]
ABOUT: dict[str, Any] = {
    "date": "2025-01-01",
    "machine": {"processor": "Example CPU", "cores": 2, "memory_gib": 24, "gpu": None, "load_before": 0.1},
    "versions": {"python": "3.11", "torch": "2.15.0"},
    "commit": "abc1234",
    "quick": False,
    "not_measured": None,
    "commands": {},
    "facts": {},
    "problems": {},
}
SERIES = {"cnnexp fp32": {"images_per_second": [300.0, 360.0]}, "plain fp32": {"images_per_second": [100.0, 200.0]}}


def entry(series: results.Series, **more: Any) -> dict[str, Any]:
    """Return a row of performance.jsonl."""
    row = {**ABOUT, "facts": {}, **more, "repeats": []}
    for case, metrics in series.items():
        for number in range(len(next(iter(metrics.values())))):
            results.add(row, case, number + 1, {metric: values[number] for metric, values in metrics.items()})
    return row


def check(
    kind: str, target: float | None, metric: str = "images_per_second", theirs: str = "plain fp32"
) -> results.Check:
    """Return a check of the series above."""
    return {"label": "x", "kind": kind, "target": target, "metric": metric, "ours": "cnnexp fp32", "theirs": theirs}


def test_the_table_names_only_keys_kinds_and_cases_that_exist() -> None:
    defaults = set(ROWS["C1"])
    for name, row in ROWS.items():
        assert set(row) == defaults, name
        for part in table.sets_of(row, Lab()):
            assert set(part) - {"name"} == defaults, f"{name}: {part['name']}"
            kinds = {next(iter(case)) for case in [*part["cases"].values(), *part["before"].values()]}
            assert kinds <= {*cases.KINDS, "by_hand"}, name
            assert all(isinstance(case, str) for case in part["cases"]), name
            named = {case for made in part["checks"] for case in (made["ours"], made["theirs"])}
            assert {case for case in named if not case.endswith(", minus its saves")} <= set(part["cases"]), name
            assert not [word for word in part["words"] if "$" in word], name


def test_quick_measures_little() -> None:
    part, _ = table.sets_of(ROWS["C8"], Lab(quick=True))
    assert "epochs=1ep" in part["words"]
    (part,) = table.sets_of(ROWS["C1"], Lab(quick=True, work=Path("/w")))
    assert part["images"] == Images("imagenette", 300, 50, 64)
    assert part["words"][:3] == ["data=folder", "data.root=/w/trees", "data.path=imagenette-300-50"]


def test_placeholders_are_filled_in_and_lists_flattened() -> None:
    names = {"epochs": 2, "arms": ["a", "b"]}
    assert table.fill(["epochs=${epochs}ep", ["+arm=${arms}"], "${seed}"], names) == [
        "epochs=2ep",
        "+arm=a,b",
        "${seed}",
    ]
    assert table.fill({"${epochs}": "${arms}"}, names) == {"2": ["a", "b"]}


def test_the_order_is_reversed_at_every_repeat() -> None:
    assert [measure.order(["a", "b", "c"], n) for n in range(3)] == [["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c"]]


def test_cases_take_turns_and_one_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []

    def run(lab: Lab, part: table.Set, case: table.Case, repeat: int) -> results.Numbers:
        (name,) = case["command"]
        calls.append(f"{name}{repeat}")
        if name == "b":
            raise NotMeasured("no such module")
        return {"seconds": float(repeat), "version": "1.2"}

    monkeypatch.setattr(cases, "measure", run)
    (part,) = table.sets_of(ROWS["C6"] | {"cases": {name: {"command": [name]} for name in "abc"}, "checks": []}, Lab())
    found = entry({})
    measure.measure_set(part, Lab(tmp_path, repeats=3), found)
    assert calls == ["a0", "b0", "c0", "c1", "a1", "a2", "c2"]
    assert results.series_of(found) == {"a": {"seconds": [0.0, 1.0, 2.0]}, "c": {"seconds": [0.0, 1.0, 2.0]}}
    assert found["problems"] == {"b": "no such module"}
    assert found["facts"] == {"a: version": "1.2", "c: version": "1.2"}
    assert found["commands"]["a"] == "cnnexp a"


@pytest.mark.parametrize(
    ("kind", "target", "value", "low", "high", "met"),
    [
        ("rate", 2.0, 2.2, 1.8, 3.0, True),
        ("rate", 2.3, 2.2, 1.8, 3.0, False),
        ("seconds", 2.0, 1 / 2.2, 1 / 3, 1 / 1.8, False),
        ("share", 1.2, 2.2, 1.8, 3.0, False),
        ("limit", 330.0, 330.0, 300.0, 360.0, True),
        ("percent", 3.0, 140.0, 80.0, 200.0, False),
        ("difference", 0.0, 200.0, 160.0, 200.0, False),
        ("rate", None, 2.2, 1.8, 3.0, None),
    ],
)
def test_ratios_are_of_medians_percents_of_repeats_and_ranges_too(
    kind: str, target: float | None, value: float, low: float, high: float, met: bool | None
) -> None:
    found = results.outcome(check(kind, target), SERIES)
    assert found is not None
    assert found["met"] is met
    assert (found["value"], found["low"], found["high"]) == pytest.approx((value, low, high))


def test_a_difference_is_the_largest_of_all_metrics_that_end_so() -> None:
    ours = {"test_accuracy": [0.5], "seed_0_test_accuracy": [0.4], "seed_1_test_accuracy": [0.6]}
    theirs = {**ours, "seed_1_test_accuracy": [0.5]}
    found = results.outcome(check("difference", None, "test_accuracy"), {"cnnexp fp32": ours, "plain fp32": theirs})
    assert found is not None
    assert found["value"] == pytest.approx(0.1)


def test_a_check_without_one_of_its_cases_has_no_outcome() -> None:
    assert results.outcome(check("rate", 1.0, theirs="fastai"), SERIES) is None
    assert results.outcome(check("rate", 1.0, "seconds"), SERIES) is None


def test_runs_are_combined() -> None:
    parts: list[results.Numbers] = [
        {"train_seconds": 1.0, "peak_mib": 5.0, "accuracy": 0.5, "kept": "head"},
        {"train_seconds": 2.0, "peak_mib": 4.0, "accuracy": 1.0, "kept": "none"},
    ]
    assert results.combined(parts) == {"train_seconds": 3.0, "peak_mib": 5.0, "accuracy": 0.75, "kept": "none"}


def test_every_repeat_is_kept_in_a_line(tmp_path: Path) -> None:
    rows = {"C1": entry(SERIES, facts={"epochs": 2}), "G1": entry({}, not_measured="no CUDA device")}
    results.write(tmp_path, rows)
    lines = [json.loads(line) for line in (tmp_path / results.FILE).read_text().splitlines()]
    assert [line["row"] for line in lines] == ["C1"] * 5 + ["G1"]
    assert lines[2] == {"row": "C1", "case": "cnnexp fp32", "repeat": 2, "images_per_second": 360.0}
    assert results.read(tmp_path) == rows
    assert results.series_of(rows["C1"]) == SERIES
    assert results.read(tmp_path / "none") == {}


def test_what_a_probe_or_a_checkpoint_takes_is_measured_by_its_own_clock() -> None:
    none = {"loop_seconds": 10.0, "checkpoint_seconds": 0.1}
    repeat = {
        "embedded: none": none,
        "embedded: checkpoint every epoch": {"loop_seconds": 20.0, "checkpoint_seconds": 0.5},
        "embedded: probes=all": {**none, "probes_seconds": 1.0},
        "embedded: a hash chain": {**none, "hash_chain_seconds": 2.0},
        "embedded: a row for every step": none.copy(),
    }
    measure.derive(repeat, "embedded")
    shares = {case: own["own_share_percent"] for case, own in repeat.items() if "own_share_percent" in own}
    assert list(shares) == ["embedded: checkpoint every epoch", "embedded: probes=all", "embedded: a hash chain"]
    assert [*shares.values()] == pytest.approx([2.0, 10.0, 20.0])


def test_the_time_that_a_loop_waits_for_its_saves_leaves_out_the_last() -> None:
    repeat = {
        "study: by default": {"loop_seconds": 10.0, "checkpoint_seconds": 0.5},
        "study: only at the end": {"loop_seconds": 9.8, "checkpoint_seconds": 0.1},
    }
    measure.derive(repeat, "study")
    assert repeat["study: by default, minus its saves"] == {"loop_seconds": pytest.approx(9.6)}


def test_rows_are_merged() -> None:
    old = {"C1": entry(SERIES), "C2": entry(SERIES)}
    new = entry({"cnnexp fp32": {"images_per_second": [50.0]}, "plain fp32": {"images_per_second": [100.0]}})
    rows = results.merged(old, {"C2": new, "C5": new})
    assert list(rows) == ["C1", "C2", "C5"]
    assert rows["C1"] == old["C1"]
    assert rows["C2"] == new


def test_repeats_can_be_added() -> None:
    more = entry({"cnnexp fp32": {"images_per_second": [900.0]}, "plain fp32": {"images_per_second": [100.0]}})
    row = results.merged({"C1": entry(SERIES)}, {"C1": more}, append=True)["C1"]
    assert results.series_of(row)["cnnexp fp32"]["images_per_second"] == [300.0, 360.0, 900.0]
    assert [line["repeat"] for line in row["repeats"]] == [1, 2, 1, 2, 3, 3]
    other = {**more, "commands": {"cnnexp fp32": "with other settings"}}
    assert results.merged({"C1": entry(SERIES)}, {"C1": other}, append=True)["C1"] == other


def test_what_was_measured_stays_where_it_cannot_be_measured_again() -> None:
    missing = entry({}, not_measured="no CUDA device")
    old = {"G1": entry(SERIES)}
    assert results.merged(old, {"G1": missing}) == old
    assert results.merged({}, {"G1": missing}) == {"G1": missing}


def test_the_page() -> None:
    slower = {"cnnexp fp32": {"images_per_second": [300.0]}, "plain fp32": {"images_per_second": [200.0]}}
    rows = {
        "C1": entry(SERIES, problems={"plain bf16": "no module | named fastai"}, facts={"epochs": 2, "torch": False}),
        "C2": entry(slower),
        "limit": entry({"C7's baseline, fp32, one thread": {"images_per_second": [604.2]}}),
        "C7": entry({name: {"wall_seconds": [9.0]} for name in ("cnnexp, one sweep", "plain, run by run")}),
        "G1": entry({}, not_measured="no CUDA device"),
    }
    text = page.render(rows)
    assert text.count("\n") < 150, "it fits on three screens"
    details = page.render(rows, "performance-details.md")
    assert "| C1 | Compact network, Imagenette 64 px: training, fp32 | at least 1.8x | 2.2x (1.8 to 3) | met |" in text
    assert "reach | at least 0.95x | - | not measured |" in text
    assert "training, fp32 | at least 1.7x | 1.5x (once) | missed |" in text
    assert "- C2, training, fp32: no reason is known yet" in text
    assert "Two slots of one thread train at most at 604 images/s each (row *limit*)" in text
    assert "| at least 8x | - | not measured: no CUDA device |" in text
    assert "| cnnexp fp32 | 330 (300 to 360) |" in details
    assert "2 repeats; medians" in details
    assert "- epochs: 2" in details
    assert "- torch: no" in details
    assert "- plain bf16: not measured: no module | named fastai" in details
    assert "Example CPU, 2 cores" in details
    for name, row in ROWS.items():
        assert f"| {name} | {row['title']}" in text, "every row is in the overview, measured or not"


@pytest.mark.integration
def test_the_page_of_the_repository_is_that_of_its_numbers() -> None:
    """Whoever changes the numbers, the table or the template renders the page again."""
    found = results.read(REPOSITORY / "docs")
    for name in page.PAGES:
        assert page.render(found, name) == (REPOSITORY / "docs" / name).read_text()


def test_commands_of_the_page_have_no_setting_that_is_gone() -> None:
    """A row that was measured with other names is measured again, or its numbers go."""
    for name, row in results.read(REPOSITORY / "docs").items():
        for command in row["commands"].values():
            overrides = re.findall(r"(?<![-.\w])(data|model|augmentation|optimizer|scheduler)=([a-z]\w*)", command)
            for group, choice in overrides:
                assert (REPOSITORY / "configs" / group / f"{choice}.yaml").exists(), (name, group, choice)


def test_what_is_measured_in_one_go_has_few_repeats() -> None:
    short = {name: row["short"] for name, row in ROWS.items() if row["short"]}
    assert {"C1", "C3", "C7", "start", "sweep", "photographs"} <= set(short)


def test_a_table_without_named_columns_has_a_line_for_each_metric() -> None:
    found = entry({"one run": {"compose": [0.5], "plan_seconds": [2.0]}, "report": {"report_seconds": [3.0]}})
    lines = [["", "seconds"], ["one run: compose", "0.5"], ["one run: plan", "2"], ["report: report", "3"]]
    assert page.table(ROWS["breakdown"], found) == lines


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.0812, "0.0812"), (4.567, "4.57"), (99.96, "100"), (1234.5, "1,234"), (1e-5, "1.0e-05"), (2.0, "2")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert page.number(value) == text


def test_headings_have_their_unit() -> None:
    names = ("images_per_second", "start_seconds_per_run", "peak_with_data_mib", "own_share_percent", "test_accuracy")
    assert [page.heading(name) for name in names] == [
        *("images/s", "start per run (s)", "peak with data (MiB)", "own share (%)", "test accuracy"),
    ]


@pytest.mark.integration
def test_growth_is_drawn_only_if_there_is_some(tmp_path: Path) -> None:
    page.write(tmp_path / "none", {"C1": entry(SERIES)})
    assert not (tmp_path / "none" / "performance-growth.png").exists()
    series = {"1": {"sweep_seconds": [3.0], "report_mib": [90.0]}, "10": {"sweep_seconds": [5.0, 6.0]}}
    rows = {"growth-runs": entry(series)}
    page.write(tmp_path, rows)
    assert (tmp_path / "performance-growth.png").read_bytes().startswith(b"\x89PNG")
    assert results.read(tmp_path) == rows


def test_a_subset_has_its_share_of_every_class(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in ("bird", "cat"):
            folder = tmp_path / "data" / "cifar10-jpeg" / part / label
            folder.mkdir(parents=True)
            for number in range(9):
                (folder / f"{number}.jpg").write_text(f"{part} {label} {number}")
    lab = Lab(tmp_path / "work", tmp_path / "data")
    tree = Images("cifar10", 7, 2).make(lab)
    counts = {folder.name: len(list(folder.iterdir())) for folder in (tree / "train").iterdir()}
    assert counts == {"bird": 4, "cat": 3}
    file = next((tree / "test" / "cat").iterdir())
    assert file.read_text() == f"test cat {file.stem}"
    with pytest.raises(NotMeasured, match="no data: there is no imagenette2-160 in --data"):
        Images("imagenette", 7, 2).make(lab)
    with pytest.raises(NotMeasured, match="no data"):
        Images("cifar10", 7, 2).make(Lab(tmp_path / "other"))


def test_copies_are_names_of_a_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.images.MAX_LINKS", 3)
    tree = Images("copies", 50, 10, 8).make(Lab(tmp_path))
    names = [file for folder in (tree / "train").iterdir() for file in folder.iterdir()]
    assert (len(names), len({file.stat().st_ino for file in names})) == (50, 20)
    assert len(list((tree / "test").rglob("*.jpg"))) == 10


def test_commands_are_shown_without_this_machines_folders(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "scratch", tmp_path / "data")
    text = lab.readable([*CNNEXP, "train", f"data.root={lab.work}/trees", f"x={lab.data}"])
    assert text == "cnnexp train data.root=WORK/trees x=DATA"
    assert lab.readable([sys.executable, REPOSITORY / "scripts" / "x.py"]) == "python scripts/x.py"


def test_a_case_may_be_several_commands(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    (part,) = table.sets_of(ROWS["C7"], lab)
    sweep, single, _ = part["cases"].values()
    images = "data=postcards data.num_train=1000 data.num_test=1000 data.size=32 data.val_fraction=0.1 batch_size=32"
    images += " scheduler=constant"
    assert cases.readable(lab, part, sweep) == (
        f"cnnexp train {images} device=cpu epochs=5ep +study=ablation "
        "+arm=baseline,batchnorm,dropout,augmentation,combined seed=0,1,2"
    )
    words = "device=cpu epochs=5ep +study=ablation hydra.mode=RUN +arm=ARM seed=SEED     # 15 times"
    assert cases.readable(lab, part, single) == f"cnnexp train {images} {words}"
    assert cases.each_command(single, {"repeat": 0})[4] == {"repeat": 0, "arm": "batchnorm", "seed": 1}


def test_memory_of_mapped_images_is_counted_separately() -> None:
    smaps = (
        b"5600-5700 rw-p 00000000 00:00 0    [heap]\nPss:    2048 kB\n"
        b"7f00-7f10 r--s 00000000 fe:00 1    /cache/postcards/images.npy\nPss:    1024 kB\nPss_Dirty: 8 kB\n"
        b"7f10-7f20 r-xp 00000000 fe:00 2    /lib/libtorch.so\nPss:    512 kB\n"
    )
    assert process.parse_smaps(smaps) == (3.5, 1.0)
    peaks = process.peaks_of([[(5.0, 1.0)], [(4.0, 1.0), (3.0, 2.0), (2.0, 0.0)]])
    assert peaks == {"peak_mib": 6.0, "peak_with_data_mib": 9.0, "main_process_mib": 4.0, "largest_child_mib": 2.0}


@pytest.mark.integration
def test_a_process_is_timed_and_watched(tmp_path: Path) -> None:
    child = "x = b'1' * 2**25; import time; time.sleep(0.6)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('[1]')"
    finished = process.run([sys.executable, "-c", parent], dict(os.environ), tmp_path, sample=True)
    assert finished.result() == [1]
    assert finished.seconds > 0.5
    if finished.peaks:
        assert finished.peaks["peak_mib"] > finished.peaks["largest_child_mib"] > 32
    with pytest.raises(NotMeasured, match="it went wrong"):
        process.run([sys.executable, "-c", "raise SystemExit('it went wrong')"], dict(os.environ), tmp_path)
    with pytest.raises(NotMeasured, match="killed by SIGKILL"):
        process.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], dict(os.environ), tmp_path)


def test_variables_that_favour_one_side_are_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CNNEXP_DATA", "/somewhere")
    environment = Lab(tmp_path).environment()
    assert not {"OMP_NUM_THREADS", "CNNEXP_DATA"} & set(environment)
    assert (environment["CNNEXP_CACHE"], environment["CUDA_VISIBLE_DEVICES"]) == (str(tmp_path / "cache"), "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert Lab(tmp_path, gpu=True).environment()["CUDA_VISIBLE_DEVICES"] == "3"


def test_the_numbers_of_a_sweep_are_those_of_its_runs() -> None:
    def record(seed: int, arm: str, accuracy: float) -> dict[str, Any]:
        seconds = {"train": 4.0, "total": 6.0}
        return {"seed": seed, "arm": arm, "result": {"test_accuracy": accuracy}, "seconds": seconds, "device": {}}

    output = "2 runs, 0 done before, on 2 slot(s) (cpu; 1 thread(s) each)\n..."
    finished = process.Finished(9.0, output, "", {})
    numbers = cases.of_runs(finished, [record(0, "baseline", 0.25), record(0, "dropout", 0.75)])
    times = {"wall_seconds": 9.0, "recorded_seconds": 12.0, "start_seconds": 3.0, "train_seconds": 8.0}
    assert {name: numbers[name] for name in times} == times
    assert (numbers["test_accuracy"], numbers["dropout_test_accuracy"]) == (0.5, 0.75)
    assert "later_epoch_seconds" not in numbers
    one = cases.of_runs(process.Finished(9.0, "", "", {"peak_mib": 5.0}), [record(0, "baseline", 0.25)])
    assert (one["start_seconds"], one["peak_mib"]) == (3.0, 5.0)


def test_an_epoch_after_the_first_is_training_and_validation() -> None:
    times = [(1, 9.0, 5.0), (2, 2.0, 0.5), (3, 3.0, 0.5)]
    rows = [
        {"kind": "epoch", "epoch": epoch, "split": split, "seconds": seconds}
        for epoch, train, val in times
        for split, seconds in (("train", train), ("val", val))
    ]
    rows.append({"kind": "step", "epoch": 3, "split": "train", "loss": 1.0})
    assert cases.later_epoch(rows) == {"later_epoch_seconds": 3.0}
    assert cases.later_epoch(rows[:2]) == {}
    info = {"seed": 0, "result": {}, "seconds": {"total": 20.0}, "device": {}, "rows": rows}
    two = cases.of_runs(process.Finished(25.0, "", "", {}), [info | {"result": {"test_accuracy": 0.5}}] * 2)
    assert two["later_epoch_seconds"] == 6.0  # the sum, as of other times


@pytest.mark.integration
def test_the_plain_loop_prints_the_times_of_each_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "scripts" / "bench" / "rivals")
    import plain  # type: ignore[import-not-found]

    for part, label, number in itertools.product(("train", "test"), "ab", range(10)):
        (tmp_path / part / label).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / part / label / f"{number}.png")
    settings = plain.DEFAULTS | {"root": tmp_path, "size": 8, "epochs": 3, "batch_size": 4, "workers": 0}
    found = plain.main(plain.Settings(**settings))
    assert [(row["epoch"], row["split"]) for row in found["rows"]] == list(
        itertools.product((1, 2, 3), ("train", "val"))
    )
    trained = sum(row["seconds"] for row in found["rows"] if row["split"] == "train")
    assert trained == pytest.approx(found["train_seconds"])

    def printed(*_: object) -> process.Finished:
        return process.Finished(9.0, json.dumps({**found, "recorded_seconds": 8.0}), "", {})

    monkeypatch.setattr(Lab, "run", printed)
    numbers = cases.program(Lab(tmp_path), ["python", "plain.py"], {"plain": {}}, tmp_path)
    assert numbers["later_epoch_seconds"] == pytest.approx(sum(row["seconds"] for row in found["rows"][2:]) / 2)


def test_weights_that_a_machine_lacks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = "model.weights=imagenet: the weights of resnet18 are not available (no network); give model.weights=PATH"

    skipped = SimpleNamespace(info={"status": "skipped", "error": {"message": message}}, rows=lambda: [])
    monkeypatch.setattr(Lab, "run", lambda *_: process.Finished(1.0, "", "2 runs are not done", {}))
    monkeypatch.setattr(cases, "find_runs", lambda _: [skipped])
    with pytest.raises(NotMeasured, match=r"^needs ImageNet weights"):
        cases.run_train(Lab(tmp_path), [], tmp_path, sample=False)


def test_the_slots_of_a_sweep_are_read_from_what_it_says() -> None:
    assert cases.slots_of("6 runs, 0 done before, on 2 slot(s) (cpu; 1 thread(s) each)\n...") == 2
    assert cases.slots_of("test accuracy 12 %") == 1


def test_a_command_enters_its_group_first(tmp_path: Path) -> None:
    command = cases.limited(tmp_path / "group", "memory.max", 2**30, ["sh", "-c", "pwd; echo 'two words'"])
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}\ntwo words\n"
    assert (tmp_path / "group" / "memory.max").read_text() == f"{2**30}\n"
    assert int((tmp_path / "group" / "cgroup.procs").read_text()) > 0


@pytest.mark.slow
def test_the_script_measures_a_row_and_renders_the_page_again(tmp_path: Path) -> None:
    script = [sys.executable, "-W", "error", str(REPOSITORY / "scripts" / "benchmark.py"), "--out", str(tmp_path)]
    measured = [*script, "C6", "--quick", "--work", str(tmp_path / "work")]
    done = subprocess.run(measured, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    row = results.read(tmp_path)["C6"]
    assert row["facts"]["cnnexp train model.nrom=batch: torch is imported"] is False
    assert [(line["case"], line["repeat"]) for line in row["repeats"]] == [
        *(("cnnexp --help", 1), ("cnnexp train model.nrom=batch", 1)),
    ]
    text = (tmp_path / "performance.md").read_text()
    assert str(REPOSITORY) not in text
    (tmp_path / "performance.md").unlink()
    subprocess.run([*script, "--page"], check=True, capture_output=True, timeout=60)
    assert (tmp_path / "performance.md").read_text() == text


@pytest.mark.integration
def test_a_wrong_request_is_reported_in_one_line(tmp_path: Path) -> None:
    script = [sys.executable, str(REPOSITORY / "scripts" / "benchmark.py")]
    for words, message in ((["C0"], "no row C0; choose from C1"), (["C6", "--quick"], "add --out DIR")):
        done = subprocess.run([*script, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert message in done.stderr
