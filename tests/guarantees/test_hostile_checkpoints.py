"""Checkpoints that would run code when they are unpickled: none does, by any way that reads one."""

import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from checksummed import add_trailer
from hostile import CONTAINERS, PAYLOADS, TORCH_PAYLOADS, Call, edit_record, untrained_run

import cnnexp
from cnnexp import cli, storage
from cnnexp.errors import UserError
from cnnexp.models.weights import from_file
from cnnexp.records.run_record import RunRecord
from cnnexp.training import checkpoint
from cnnexp.training.checkpoint import Checkpoints

pytestmark = pytest.mark.counts("fixtures")

EVERY = {**PAYLOADS, **TORCH_PAYLOADS}
# Runs in a process of its own what a person does who trusts the file.
TRUSTING = """
import io, pickle, sys, zipfile

class Trusting(pickle.Unpickler):
    def persistent_load(self, name):
        return None

for path in sys.argv[1:]:
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
        try:
            Trusting(io.BytesIO(archive.read(name))).load()
        except Exception as error:
            print(path, type(error).__name__, error)
"""


def touch(canary: Path) -> bytes:
    return f"touch {canary}".encode()


def raw(canary: Path) -> dict[str, bytes]:
    """Return pickles as an attacker writes them by hand, opcode by opcode."""
    command = touch(canary)
    text, short = b"S'" + command + b"'\n", b"\x8c" + bytes([len(command)]) + command
    name = lambda word: b"\x8c" + bytes([len(word)]) + word  # noqa: E731
    return {
        "GLOBAL": b"cos\nsystem\n(" + text + b"tR.",
        "INST": b"(" + text + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + text + b"o.",
        "STACK_GLOBAL": b"\x80\x04" + name(b"posix") + name(b"system") + b"\x93" + short + b"\x85R.",
        "a dotted path": b"\x80\x04" + name(b"shutil") + name(b"os.system") + b"\x93" + short + b"\x85R.",
        "by way of the memo": b"\x80\x04cos\nsystem\nq\x00h\x00" + short + b"\x85R.",
        "in a tuple of a set": b"\x80\x04\x8f(cos\nsystem\n" + short + b"\x85R\x90.",
        "before its end": b"\x80\x04cos\nsystem\n" + short + b"\x85R0}.",
    }


RAW = list(raw(Path("x")))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("payload", EVERY)
def test_no_payload_fires(tmp_path, payload, container):
    canary, file = tmp_path / "canary", tmp_path / "best.pt"
    CONTAINERS[container](file, {"model": {"weight": EVERY[payload](canary)}})
    add_trailer(file)
    for read in (checkpoint.read, checkpoint.weights_in, from_file):
        with pytest.raises(UserError, match=r"best\.pt"):
            read(file)
    assert not os.path.lexists(canary)


@pytest.mark.parametrize("name", RAW)
def test_no_pickle_written_by_hand_fires(tmp_path, name):
    canary, file = tmp_path / "canary", tmp_path / "best.pt"
    for prefix in (b"", _legacy_head()):
        file.write_bytes(prefix + raw(canary)[name])
        add_trailer(file)
        with pytest.raises(UserError, match=r"best\.pt: cannot be read as a checkpoint"):
            checkpoint.read(file)
    assert not canary.exists()


def _legacy_head() -> bytes:
    """Return what comes before the object in a legacy file of torch: its magic number, version, machine."""
    parts = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
    return b"".join(pickle.dumps(part, 2) for part in parts)


@pytest.mark.parametrize("place", ["key", "value", "list", "ordered", "optimizer", "beside", "top", "persistent"])
def test_no_place_in_a_checkpoint_fires(tmp_path, place):
    canary, file = tmp_path / "canary", tmp_path / "best.pt"
    payload = Call(os.system, touch(canary).decode())
    ordered = OrderedDict()
    ordered._metadata = {"": payload}
    content = {
        "key": {"model": {payload: torch.zeros(1)}},
        "value": {"model": {"weight": payload}},
        "list": {"model": {"weight": [[payload]]}},
        "ordered": {"model": ordered},
        "optimizer": {"model": {}, "optimizer": {"state": {0: payload}}},
        "beside": {"model": {"weight": torch.zeros(1)}, "note": payload},
        "top": payload,
        "persistent": {"model": {"weight": torch.zeros(3)}},
    }[place]
    torch.save(content, file)
    if place == "persistent":  # the storage's place in the file, which the pickle may name as it likes
        _replace_in_zip(file, b"storage", pickle.dumps(payload, 2))
    add_trailer(file)
    with pytest.raises(UserError):
        checkpoint.read(file)
    assert not canary.exists()


def _replace_in_zip(file: Path, old: bytes, payload: bytes) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            changed = payload if name.endswith("/data.pkl") else content
            archive.writestr(name, changed)


ODD = ["../../canary/data.pkl", "/canary/data.pkl", "a\\..\\data.pkl", "twice", "code", "inner", "empty", "torchscript"]


@pytest.mark.parametrize("name", ODD)
def test_archives_with_odd_names_neither_fire_nor_write(tmp_path, name):
    canary, file = tmp_path / "canary", tmp_path / "in" / "best.pt"
    file.parent.mkdir()
    payload = pickle.dumps(Call(os.system, touch(canary).decode()), 2)
    with zipfile.ZipFile(file, "w") as archive, pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *a, **k: None)  # of the same name twice
        entries = {
            "twice": [("a/data.pkl", pickle.dumps({}, 2)), ("a/data.pkl", payload), ("a/version", b"3\n")],
            "code": [("a/data.pkl", payload), ("a/code/__torch__.py", b"import os"), ("a/version", b"3\n")],
            "inner": [("a/data.pkl", pickle.dumps({}, 2)), ("a/b/data.pkl", payload)],
            "empty": [],
            "torchscript": [("a/constants.pkl", payload), ("a/data.pkl", payload), ("a/version", b"3\n")],
        }.get(name, [(name, payload), ("a/version", b"3\n")])
        for entry, content in entries:
            archive.writestr(entry, content)
    add_trailer(file)
    with nullcontext() if name == "twice" else pytest.raises(UserError, match=r"best\.pt"):
        checkpoint.read(file)  # of two entries of a name torch takes the harmless one
    assert not canary.exists() and sorted(tmp_path.iterdir()) == [file.parent]


def test_the_oldest_format_does_not_fire(tmp_path):
    canary, file = tmp_path / "canary", tmp_path / "best.pt"
    payload = pickle.dumps(Call(os.system, touch(canary).decode()), 2)
    with tarfile.open(file, "w") as tar:
        for name, content in (("storages", pickle.dumps(0)), ("tensors", pickle.dumps(0)), ("pickle", payload)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    add_trailer(file)
    with pytest.raises(UserError):
        checkpoint.read(file)
    assert not canary.exists()


@pytest.mark.parametrize("variable", ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_no_variable_of_the_environment_opens_the_door(tmp_path, monkeypatch, variable):
    canary, file = tmp_path / "canary", tmp_path / "best.pt"
    torch.save({"model": Call(os.system, touch(canary).decode())}, file)
    add_trailer(file)
    monkeypatch.setenv(variable, "1")
    for read in (checkpoint.read, from_file):
        with pytest.raises(UserError):
            read(file)
    assert not canary.exists()


@pytest.fixture
def run(tmp_path):
    """Return a run directory of a stranger's."""
    return untrained_run(tmp_path / "outputs")


@pytest.mark.parametrize("way", ["load", "load by file", "evaluate", "predict"])
def test_no_command_fires_the_weights_of_a_run(run, tmp_path, way, capsys):
    canary, best = tmp_path / "canary", run / "checkpoints" / "best.pt"
    assert cnnexp.load(run).classes[0] == "a"  # it is a run that loads
    torch.save({"model": {"weight": Call(os.system, touch(canary).decode())}}, best)
    add_trailer(best)
    if way.startswith("load"):
        with pytest.raises(UserError, match="cannot be read as a checkpoint"):
            cnnexp.load(run if way == "load" else best)
    else:
        assert cli.main([way, str(run), *(["x.png"] if way == "predict" else [])]) == 2
    assert not canary.exists()


@pytest.mark.parametrize(
    "weights",
    [
        {"weight": "text"},
        {1: torch.zeros(1)},
        [torch.zeros(1)],
        {"weight": torch.zeros(1).expand(10**12)},
        {"classifier.weight": torch.zeros(1, 1).to_sparse()},
        {},
        None,
    ],
    ids=str,
)
def test_weights_of_another_kind_are_told_in_one_line(run, weights):
    torch.save({"model": weights, "run": RunRecord.read(run).identity}, run / "checkpoints" / "best.pt")
    add_trailer(run / "checkpoints" / "best.pt")
    with pytest.raises(UserError, match=r"best\.pt") as told:
        cnnexp.load(run)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("epoch", ["../../../victim", "/etc/passwd", 1.5, None, [1], "1"])
def test_the_best_epoch_is_no_path(tmp_path, epoch):
    """Without the check, victim.pt would be taken for the best weights, and later be written over."""
    folder = tmp_path / "run" / "checkpoints"
    (folder / "best-..").mkdir(parents=True)  # so that best-../../../victim.pt is a path
    torch.save({"model": {}, "run": ""}, tmp_path / "run" / "victim.pt")
    torch.save(
        {"best": {"epoch": epoch}, "run": "", "rows": 0, "rows_digest": 0, "probes_digest": 0}, folder / "last.pt"
    )
    for file in (tmp_path / "run" / "victim.pt", folder / "last.pt"):
        add_trailer(file)
    if epoch == "../../../victim":
        assert (folder / f"best-{epoch}.pt").exists()  # the canary: without the check this would be read
    with pytest.raises(UserError, match=r"last\.pt: does not fit this run \(TypeError: best\.epoch"):
        Checkpoints(folder, None, 1, "", 0).restore(_Fails(), RunRecord(folder.parent, {}))


class _Fails:
    """Stands for a TrainState that must not be reached."""

    best: dict[str, int] = {}  # noqa: RUF012

    def load_state_dict(self, state):
        raise AssertionError


def test_without_the_defence_every_payload_fires(tmp_path):
    """The control: the same files, read by one who trusts them."""
    canaries = {name: tmp_path / f"canary-{number}" for number, name in enumerate(PAYLOADS)}
    files = [tmp_path / f"{number}.pt" for number in range(len(PAYLOADS))]
    for file, name in zip(files, PAYLOADS, strict=True):
        torch.save({"model": {"weight": PAYLOADS[name](canaries[name])}}, file)
    done = subprocess.run([sys.executable, "-I", "-c", TRUSTING, *files], capture_output=True, text=True, check=True)
    assert [name for name, canary in canaries.items() if not os.path.lexists(canary)] == [], done.stdout


@pytest.mark.parametrize("name", RAW)
def test_without_the_defence_pickles_written_by_hand_fire(tmp_path, name):
    canary = tmp_path / "canary"
    code = "import pickle, sys; pickle.loads(bytes.fromhex(sys.argv[1]))"
    subprocess.run([sys.executable, "-I", "-S", "-c", code, raw(canary)[name].hex()], capture_output=True, check=False)
    assert canary.exists()


@pytest.mark.slow
def test_without_the_defence_torch_s_own_payloads_fire(tmp_path):
    canaries = {name: tmp_path / f"canary-{number}" for number, name in enumerate(TORCH_PAYLOADS)}
    for number, name in enumerate(TORCH_PAYLOADS):
        torch.save({"model": TORCH_PAYLOADS[name](canaries[name])}, tmp_path / f"{number}.pt")
    code = (
        "import sys, torch\nfor path in sys.argv[1:]:\n"
        "    try:\n        torch.load(path, weights_only=False)\n    except Exception as error:\n        print(error)"
    )
    files = [str(tmp_path / f"{number}.pt") for number in range(len(TORCH_PAYLOADS))]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    assert [name for name, canary in canaries.items() if not canary.exists()] == [], done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("file", ["last.pt", "best-1.pt"])
def test_a_resumed_run_does_not_fire(train, only, tmp_path, file, capsys):
    assert train("checkpoint.every=1ep") == 0
    run, canary = only().folder, tmp_path / "canary"
    shutil.copy(run / "checkpoints" / "best.pt", run / "checkpoints" / "best-1.pt")
    torch.save({"model": Call(os.system, touch(canary).decode()), "best": {}}, run / "checkpoints" / file)
    add_trailer(run / "checkpoints" / file)
    if file != "last.pt":  # a state that names the hostile weights as its best
        state = {"step": 5, "best": {"epoch": 1}, "run": only().identity, "rows_digest": 0, "probes_digest": 0}
        torch.save(state, run / "checkpoints" / "last.pt")
        add_trailer(run / "checkpoints" / "last.pt")
    edit_record(run, status="interrupted")
    assert train("checkpoint.every=1ep") == 2
    assert not canary.exists() and only().status == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["a file", "a run directory"])
def test_weights_from_elsewhere_do_not_fire(train, only, tmp_path, shape, capsys):
    canary, place = tmp_path / "canary", tmp_path / "upstream"
    (place / "checkpoints").mkdir(parents=True)
    best = place / "checkpoints" / "best.pt"
    torch.save({"model": Call(os.system, touch(canary).decode())}, best)
    add_trailer(best)
    weights = place if shape == "a run directory" else best
    code = train("model=resnet18", f"model.weights={weights}", "epochs=1ep")
    assert code == 2 and not canary.exists() and "cannot be read as a checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "ids.npy", "parts.npy", "sums.npy"])
def test_arrays_of_objects_in_the_cache_do_not_fire(tmp_path, name):
    from cnnexp.data import cache

    canary, folder = tmp_path / "canary", tmp_path / "postcards-0123456789abcdef"
    folder.mkdir()
    for file in cache.ARRAYS:
        content = np.array([Call(os.system, touch(canary).decode())], object) if file == name else np.zeros(1, "uint8")
        np.save(folder / file, content, allow_pickle=True)
    meta = {"version": cache.CODE_VERSION, "name": "x", "classes": [], "fingerprint": "", "skipped": []}
    meta["files"] = {file: (folder / file).stat().st_size for file in cache.ARRAYS}
    meta["crc32"] = {file: f"{storage.crc32_of(folder / file):08x}" for file in cache.ARRAYS}
    storage.write_json(folder / "meta.json", meta)
    assert cache.load(folder) is None and not canary.exists()
    np.load(folder / name, allow_pickle=True)  # the control
    assert canary.exists()


@pytest.mark.parametrize("name", ["logits", "labels", "ids"])
def test_arrays_of_objects_in_predictions_do_not_fire(run, tmp_path, name):
    from cnnexp.records.run_record import RunRecord

    canary = tmp_path / "canary"
    arrays = {"logits": np.zeros((1, 2)), "labels": np.zeros(1, int), "ids": np.array(["a"])}
    arrays[name] = np.array([Call(os.system, touch(canary).decode())], object)
    np.savez(run / "predictions.npz", **arrays)
    with pytest.raises(UserError, match=r"predictions\.npz: cannot be read"):
        RunRecord.read(run).predictions()
    assert not canary.exists()
    (run / "predictions.npz").write_bytes(pickle.dumps(arrays))  # np.load takes a bare pickle too, if it is let
    with pytest.raises(UserError, match=r"predictions\.npz: cannot be read"):
        RunRecord.read(run).predictions()
    assert not canary.exists()
    np.load(run / "predictions.npz", allow_pickle=True)  # the control
    assert canary.exists()
