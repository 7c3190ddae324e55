"""Files that were damaged: never taken for whole, no traceback; the checkpoint before the last one steps in."""

import errno
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from crash import difference
from tiny import TINY

from cnnexp import cli, storage
from cnnexp.config import checks
from cnnexp.config import compose as config
from cnnexp.data import cache
from cnnexp.errors import UserError
from cnnexp.models.weights import from_file
from cnnexp.records import study as study_file
from cnnexp.records.fields import TIMING
from cnnexp.records.run_record import RunRecord
from cnnexp.storage import checksums
from cnnexp.training import bf16, build, checkpoint, hash_chain
from cnnexp.training import run as runner
from cnnexp.training.checkpoint import Checkpoints
from cnnexp.training.plan import Plan, plan
from cnnexp.training.progress import Progress

WORDS = [
    *(*TINY, "checkpoint.every=4st", "log.steps=5st", "log.hash_chain=true", "probes=gradients", "study.name=demo"),
    "optimizer.lr=0.02",
]


class Cut(Progress):
    """Ends the run after 13 steps: last.pt is of step 12, previous.pt of step 8."""

    def step(self, state: Any) -> None:
        if state.step == 13:
            raise KeyboardInterrupt


def planned(outputs: Path, arm: str, seed: int = 0, *more: str) -> Plan:
    """Plan a run."""
    words = [word for word in WORDS if word.partition("=")[0] not in {m.partition("=")[0] for m in more}]
    plain = config.resolve(config.compose([*words, *more, f"study.arm={arm}", f"seed={seed}", f"outputs={outputs}"]))
    checks.check(plain)
    return plan(plain, [*WORDS, f"study.arm={arm}", f"seed={seed}"], [], "cnnexp train")


def half(outputs: Path, arm: str = "half", seed: int = 0, *more: str) -> Plan:
    """Make a run that was interrupted."""
    own = planned(outputs, arm, seed, *more)
    with pytest.raises(KeyboardInterrupt):
        runner.run(own, Cut())
    return own


def results(run: RunRecord) -> dict[str, Any]:
    """Return what a run came to."""
    rows = [*run.rows("epoch"), *run.rows("step")]
    best = checkpoint.read(run.folder / "checkpoints" / "best.pt")
    return {
        "best": {key: value for key, value in best.items() if key != "run"},
        "rows": [{key: value for key, value in row.items() if key not in TIMING} for row in rows],
        "predictions": run.predictions(),
        "test": run.info["result"]["test_loss"],
    }


@dataclass
class Target:
    """A file to be damaged: another one to put in its place, and how it is read (raising UserError if it is not whole).

    harmless: tells whether what was damaged is of no consequence, for nothing reads it.
    """

    name: str
    file: Path
    other: Path | None
    read: Callable[[], Any]
    harmless: Callable[[bytes], bool] = lambda damaged: False


def missing(value: Any) -> Any:
    """Raise UserError if a reader says by None, or by nothing, that a file is not whole."""
    if not value:
        raise UserError("not whole")
    return value


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> list[Target]:
    """Make runs, done and interrupted, and return every kind of file that they and the cache have."""
    root = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNEXP_CACHE", str(root / "cache"))
        build._remembered_data.cache_clear()  # it may lie in another test's cache
        done = [runner.run(planned(root / "outputs", "done", seed), Progress()).folder for seed in (0, 1)]
        halves = [half(root / "outputs", seed=seed) for seed in (0, 1)]
        for size in ("8", "10"):
            build.build_data(config.resolve(config.compose([*WORDS, f"data.size={size}"])))
    study_file.write_study(root / "outputs" / "demo", {"name": "demo", "arms": ["done"], "runs": []})
    storage.write_json(root / "bf16.json", {"a machine": {"a layer": vars(bf16.Measurement(1.0, 2.0, 0.01))}})
    return [*of_a_done_run(*done), *of_an_interrupted_run(*halves), *of_the_rest(root)]


def of_a_done_run(mine: Path, other: Path) -> list[Target]:
    """Return the files of a run that is done."""
    identity = RunRecord.read(mine).identity

    def target(name: str, read: Callable[[], Any]) -> Target:
        return Target(f"{name} of a run that is done", mine / name, other / name, read)

    return [
        target("run.json", lambda: missing(RunRecord.read(mine).problem is None)),
        target("config.yaml", lambda: RunRecord.read(mine).check_file("config.yaml")),
        target("metrics.jsonl", lambda: RunRecord.read(mine).rows()),
        target("probes.jsonl", lambda: RunRecord.read(mine).probe_rows()),
        target("predictions.npz", lambda: RunRecord.read(mine).predictions()),
        target("checkpoints/best.pt", lambda: checkpoint.read(mine / "checkpoints" / "best.pt", identity)),
        target("checkpoints/best.pt", lambda: from_file(mine)),
    ]


def of_an_interrupted_run(mine: Plan, other: Plan) -> list[Target]:
    """Return the files that an interrupted run goes on from."""
    here, there = mine.folder / "checkpoints", other.folder / "checkpoints"
    last = checkpoint.read(here / "last.pt")
    rows = mine.folder / "metrics.jsonl"
    kept = b"".join(rows.read_bytes().splitlines(keepends=True)[: last["rows"]])
    best = f"best-{last['best']['epoch']}.pt"
    other_best = next(there.glob("best-*.pt"))

    def target(name: str, file: Path, other: Path, **more: Any) -> Target:
        reads = lambda: checkpoint.read(file, mine.identity)  # noqa: E731
        return Target(f"{name} of an interrupted run", file, other, **{"read": reads, **more})

    digest = lambda: missing(RunRecord(mine.folder).digest(last["rows"]) == last["rows_digest"])  # noqa: E731
    return [
        target("last.pt", here / "last.pt", there / "last.pt"),
        target("previous.pt", here / "previous.pt", there / "previous.pt"),
        target("best-<e>.pt", here / best, other_best),
        target("metrics.jsonl", rows, other.folder / rows.name, read=digest, harmless=lambda now: now.startswith(kept)),
    ]


def of_the_rest(root: Path) -> list[Target]:
    """Return the files of the cache, and study.json, whose runs alone say which study it is of."""
    study = root / "outputs" / "demo" / "study.json"
    mine, other = sorted((root / "cache").glob("postcards-*"))
    found = [Target("study.json", study, None, lambda: study_file.read_study(study.parent))]
    found.append(Target("bf16.json", root / "bf16.json", None, lambda: missing(bf16._read(root / "bf16.json"))))
    for name in (*cache.ARRAYS, "meta.json"):
        found.append(Target(f"{name} of the cache", mine / name, other / name, lambda: missing(cache.load(mine))))
    return found


def damaged(whole: bytes, other: bytes | None, draw: random.Random) -> tuple[str, bytes]:
    """Return (what was done, the content after it); it is never the same content."""
    kinds = ["bits", "cut", "zeros", "noise", "longer", *(["swapped"] if other not in (None, whole) else [])]
    while True:
        kind, now = draw.choice(kinds), bytearray(whole)
        at, size = draw.randrange(len(whole)), draw.choice([1, 16, 512, 4096])
        if kind == "bits":
            for _ in range(draw.choice([1, 1, 2, 8])):
                now[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del now[at:]
        elif kind == "zeros":
            now[at : at + size] = bytes(len(now[at : at + size]))
        elif kind == "noise":
            now[at : at + size] = draw.randbytes(len(now[at : at + size]))
        elif kind == "longer":
            now += draw.randbytes(size)
        else:
            now = bytearray(other or b"")
        if now != whole:
            return kind, bytes(now)


@pytest.mark.integration
@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_no_damage_is_taken_for_whole(
    targets: list[Target], count: int, record_property: Callable[[str, object], None]
) -> None:
    draw, wrong, kinds, harmless = random.Random(count), [], Counter[str](), 0
    for target in targets:
        target.read()  # whole, it is taken
    for number in range(count):
        target = targets[number % len(targets)]
        whole = target.file.read_bytes()
        kind, now = damaged(whole, target.other.read_bytes() if target.other else None, draw)
        target.file.write_bytes(now)
        try:
            target.read()
            if target.harmless(now):
                harmless += 1
            else:
                wrong.append(f"{number}: {target.name}, {kind}: taken for whole")
        except UserError:
            kinds[kind] += 1
        except Exception as error:
            wrong.append(f"{number}: {target.name}, {kind}: {type(error).__name__}: {error}")
        target.file.write_bytes(whole)
    record_property("damaged files", count)
    record_property("reported", sum(kinds.values()))
    record_property("harmless", harmless)
    assert wrong == []
    assert len(kinds) == 6


@pytest.mark.parametrize("size", [1, 2])
def test_a_larger_sealed_file_is_held_to_its_checksum(tmp_path: Path, size: int) -> None:
    file = tmp_path / "it.pt"
    storage.publish(checkpoint.draft(file, {"model": {"weight": torch.ones(checksums.BLOCK // 4 * size + 3)}}), file)
    storage.verify_checksum(file)
    assert torch.equal(torch.load(file, weights_only=True, mmap=True)["model"]["weight"][:2], torch.ones(2))
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 16
    file.write_bytes(whole)
    with pytest.raises(storage.Damaged, match="does not match its checksum"):
        storage.verify_checksum(file)


def test_torch_keeps_its_own_checksums_elsewhere(tmp_path: Path) -> None:
    checkpoint.draft(tmp_path / "it.pt", {})
    assert torch.serialization.get_crc32_options()


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, Any]:
    """Return what the run comes to that nothing happens to."""
    return results(runner.run(planned(tmp_path / "undisturbed", "half"), Progress()))


def damage(file: Path) -> None:
    """Change a byte in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


@pytest.mark.integration
@pytest.mark.parametrize("what", ["last.pt", "last.pt, gone", "metrics.jsonl", "probes.jsonl"])
def test_the_checkpoint_before_steps_in(
    tmp_path: Path, expected: dict[str, Any], capsys: pytest.CaptureFixture[str], what: str
) -> None:
    own = half(tmp_path / "outputs")
    last, rows = own.folder / "checkpoints" / "last.pt", own.folder / "metrics.jsonl"
    if what == "last.pt":
        damage(last)
    elif what == "probes.jsonl":
        rows = rows.with_name(what)
        kept = checkpoint.read(last.with_name("previous.pt"))["probe_rows"]
        rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[: kept + 1]))
    elif what == "metrics.jsonl":  # rows that belong to last.pt, and not to previous.pt
        kept = checkpoint.read(last.with_name("previous.pt"))["rows"]
        rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[:kept]))
    else:
        last.unlink()  # as a kill leaves it between the two renames
    run = runner.run(own, Progress())
    told = capsys.readouterr().err
    assert ("continuing from previous.pt, after step 8" in told) is (what != "last.pt, gone")
    assert "resumed after step 8" in (own.folder / "train.log").read_text()
    assert difference(results(run), expected) is None
    assert sorted(file.name for file in last.parent.iterdir()) == ["best.pt", "final.pt"]


@pytest.mark.integration
def test_the_best_weights_that_the_checkpoint_before_names_are_kept(tmp_path: Path) -> None:
    last_is_best = "data.val_fraction=0"  # so each of the two names other weights
    undisturbed = results(runner.run(planned(tmp_path / "undisturbed", "half", 0, last_is_best), Progress()))
    own = half(tmp_path / "outputs", "half", 0, last_is_best)
    folder = own.folder / "checkpoints"
    assert sorted(file.name for file in folder.glob("best-*.pt")) == ["best-1.pt", "best-2.pt"]
    damage(folder / "last.pt")
    assert difference(results(runner.run(own, Progress())), undisturbed) is None


@pytest.mark.integration
def test_the_next_save_keeps_the_checkpoint_that_was_whole(tmp_path: Path, expected: dict[str, Any]) -> None:
    own = half(tmp_path / "outputs")
    folder = own.folder / "checkpoints"
    damage(folder / "last.pt")
    with pytest.raises(KeyboardInterrupt):
        runner.run(own, Cut())  # goes on from step 8, saves at 12
    assert [checkpoint.read(folder / name)["step"] for name in ("last.pt", "previous.pt")] == [12, 8]
    damage(folder / "last.pt")
    assert difference(results(runner.run(own, Progress())), expected) is None


@pytest.mark.integration
def test_no_checkpoint_is_whole(tmp_path: Path, train: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    own = half(tmp_path / "outputs")
    files = [own.folder / "checkpoints" / name for name in ("last.pt", "previous.pt")]
    for file in files:
        damage(file)
    before = [file.read_bytes() for file in files]
    assert cli.main(["train", *WORDS, "study.arm=half", "seed=0", f"outputs={tmp_path / 'outputs'}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("cnnexp: all checkpoints of this run are damaged: ") and told.count("\n") == 1
    assert all(str(file) in told for file in files) and f"delete {own.folder} to make the run" in told
    assert [file.read_bytes() for file in files] == before, "nothing is deleted, and nothing starts over"
    assert RunRecord.read(own.folder).status == "failed"


def test_a_disk_that_does_not_answer_says_nothing_of_what_is_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = half(tmp_path / "outputs")
    files = [own.folder / "checkpoints" / name for name in ("last.pt", "previous.pt")]
    before = [file.read_bytes() for file in files]

    def fail(path: Path, foreign: bool = False) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(storage, "verify_checksum", fail)
        with pytest.raises(UserError, match=r"last\.pt: cannot be read now \(Input/output error\); the same command"):
            runner.run(own, Progress())
    assert [file.read_bytes() for file in files] == before, "the one before has not taken the place of the last"
    assert runner.run(own, Progress()).status == "done"


def test_a_checkpoint_that_names_no_run_or_no_rows(tmp_path: Path) -> None:
    own = half(tmp_path / "outputs")
    last = own.folder / "checkpoints" / "last.pt"
    content = checkpoint.read(last)
    no_rows = "does not say which rows belong to it"
    for name, told in (("run", "is of another run (None"), ("rows_digest", no_rows), ("probes_digest", no_rows)):
        storage.publish(checkpoint.draft(last, {k: v for k, v in content.items() if k != name}), last)
        state: Any = SimpleNamespace(load_state_dict=lambda content: None, best={})
        with pytest.raises(storage.Damaged, match=re.escape(told)):
            Checkpoints(last.parent, None, 1, own.identity, 0)._load(last, state, own.record())


def test_a_damaged_study_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "-m", *WORDS, "study.name=demo", f"outputs={tmp_path / 'outputs'}", "epochs=1st", "slots=cpu:1"]
    study = tmp_path / "outputs" / "demo" / "study.json"
    study_file.write_study(study.parent, {"name": "demo", "arms": ["earlier"], "runs": []})
    damage(study)
    before = study.read_bytes()
    assert cli.main([*words, "seed=0,1"]) == 2
    told = capsys.readouterr().err
    assert f"cnnexp: {study}: " in told and "put a copy back, or delete it" in told
    assert study.read_bytes() == before and not list(study.parent.glob("*-s0-*"))


@pytest.mark.integration
def test_a_checkpoint_of_another_run(tmp_path: Path) -> None:
    own, other = half(tmp_path / "outputs"), half(tmp_path / "outputs", seed=1)
    for name in ("last.pt", "previous.pt"):
        shutil.copy(other.folder / "checkpoints" / name, own.folder / "checkpoints" / name)
    with pytest.raises(UserError, match=rf"last\.pt: is of another run \({other.identity}, expected {own.identity}"):
        runner.run(own, Progress())


@pytest.mark.parametrize("done", [True, False])
def test_a_damaged_record(tmp_path: Path, capsys: pytest.CaptureFixture[str], done: bool) -> None:
    own = planned(tmp_path / "outputs", "one") if done else half(tmp_path / "outputs", "one")
    if done:
        runner.run(own, Progress())
    damage(own.folder / "run.json")
    if done:
        with pytest.raises(UserError, match=r"run\.json: .* put a copy back, or delete .* to make the run again"):
            runner.run(own, Progress())
    else:
        assert runner.run(own, Progress()).status == "done"
        assert "changed by hand; it is written again" in capsys.readouterr().err
        assert "resumed after step 12" in (own.folder / "train.log").read_text()


@pytest.mark.integration
def test_a_file_without_its_checksum_is_damaged(tmp_path: Path, expected: dict[str, Any]) -> None:
    own = half(tmp_path / "outputs")
    last = own.folder / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[: -checksums.TRAILER_SIZE])
    with pytest.raises(storage.Damaged, match=r"last\.pt: .*is cut short or damaged"):
        checkpoint.read(last)
    rows = own.folder / "metrics.jsonl"
    lines = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(b"".join([*lines[:-1], json.dumps(checksums.decode(lines[-1])).encode() + b"\n"]))
    assert len(storage.read_rows(rows)) == len(lines) - 1
    assert difference(results(runner.run(own, Progress())), expected) is None, "it continues from previous.pt"
    file = own.folder / "run.json"
    file.write_text(json.dumps(storage.read_json(file)))
    assert "it has no checksum" in str(RunRecord.read(own.folder).problem)


def test_a_damaged_cache_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = config.resolve(config.compose([*WORDS, f"data.cache={tmp_path}"]))
    data = build.build_data(plain)
    folder = Path(data.cache)
    build._remembered_data.cache_clear()
    damage(folder / "images.npy")
    capsys.readouterr()
    build.build_data(plain)
    assert f"{folder}: is damaged, or of another version; preparing it again" in capsys.readouterr().err
    assert cache.load(folder) is not None


@pytest.mark.integration
def test_large_images_are_verified_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "data",
        "postcards",
        "data.num_train=20",
        "data.num_test=20",
        "data.size=8",
        f"data.cache={tmp_path}",
        "--verify",
    ]
    assert cli.main(words) == 0
    assert "MiB match their checksums" in capsys.readouterr().out
    monkeypatch.setattr(cache, "MAX_CHECKED_BYTES", 1000)
    (images,) = tmp_path.glob("*/images.npy")
    damage(images)
    assert cli.main(words) == 2
    assert f"{images}: does not match its checksum; delete {images.parent}, and it" in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.parametrize("name", ["hash_chain.jsonl", "probes.jsonl"])
@pytest.mark.parametrize(
    "spoil", ["missing", "empty", "cut", "without a row", "doubled", "last doubled", "swapped", "bit"]
)
def test_damaged_rows_are_reported_and_never_continued(
    tmp_path: Path, name: str, spoil: str, capsys: pytest.CaptureFixture[str]
) -> None:
    probes = ["probes=gradients", "probes.every=1st"]
    undisturbed = runner.run(planned(tmp_path / "a", "whole", 0, "log.hash_chain=true", *probes), Progress()).folder
    whole = storage.read_rows(undisturbed / name)
    own = half(tmp_path / "b", "whole", 0, "log.hash_chain=true", *probes)
    file = own.folder / name
    rows = {"hash_chain.jsonl": "chain_rows", "probes.jsonl": "probe_rows"}[name]
    count = checkpoint.read(own.folder / "checkpoints" / "last.pt")[rows]
    assert count >= 12
    lines = file.read_bytes().splitlines(keepends=True)[:count]  # later steps are taken again
    file.unlink()
    content = {
        "empty": [],
        "cut": [*lines[:-1], lines[-1][:20]],
        "without a row": [*lines[:2], *lines[3:]],
        "doubled": [*lines[:2], *lines[1:]],
        "last doubled": [*lines[:-2], lines[-2], lines[-2], lines[-1]],
        "swapped": [lines[1], lines[0], *lines[2:]],
        "bit": [lines[0].replace(b"1", b"3", 1), *lines[1:]],
    }
    if spoil != "missing":
        file.write_bytes(b"".join(content[spoil]))
    try:
        runner.run(own, Progress())
    except UserError as error:
        assert f"{file}: its first" in str(error) and "delete" in str(error)
    else:
        assert storage.read_rows(file) == whole
        assert f"{file}: its first" in capsys.readouterr().err


@pytest.mark.integration
def test_a_whole_hash_chain_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = hash_chain.read(runner.run(planned(tmp_path / "a", "whole", 0, "log.hash_chain=true"), Progress()).folder)
    own = half(tmp_path / "b", "whole", 0, "log.hash_chain=true")
    runner.run(own, Progress())
    assert hash_chain.read(own.folder) == whole and "hash_chain" not in capsys.readouterr().err
