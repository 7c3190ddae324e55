"""A disk that is full or read-only is reported before anything is trained; the space that checkpoints take."""

import errno
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from forks import Died, Forks
from lives import live

from cnnexp.data.images import ImageData
from cnnexp.errors import UserError
from cnnexp.records.run_record import RunRecord
from cnnexp.storage import StorageError
from cnnexp.storage import space as disk
from cnnexp.training import build
from cnnexp.training import setup as start
from cnnexp.training.device import resolve
from cnnexp.training.loop import Settings, train_step
from cnnexp.training.plan import Plan
from cnnexp.training.progress import Progress
from cnnexp.training.run import run

pytestmark = pytest.mark.integration

Train = Callable[..., int]


@pytest.fixture(autouse=True)
def never_trains(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "plan" not in request.fixturenames:
        monkeypatch.setattr("cnnexp.training.loop.train_step", lambda *_: pytest.fail("it was trained"))


@pytest.mark.parametrize("sweep", [[], pytest.param(["-m", "seed=0,1"], marks=pytest.mark.slow)], ids=["run", "sweep"])
@pytest.mark.parametrize(
    ("action", "message"),
    [("enospc", "No space left on device"), pytest.param("eacces", "Permission denied", marks=pytest.mark.slow)],
    ids=["full", "closed"],
)
def test_outputs_that_cannot_be_written(
    train: Train, tiny: list[str], outputs: Path, action: str, message: str, sweep: list[str]
) -> None:
    """In a process of its own, on whose first write of a file, once its data is prepared, the disk refuses."""
    build._remembered_data.cache_clear()  # what this process remembers may be gone from the disk
    assert train("-m", "seed=0", "--plan") == 0
    shutil.rmtree(outputs, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "cnnexp", "train", *tiny, *sweep],
        env={**os.environ, "CNNEXP_FAILPOINT": f"replace.write:{action}:1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"cnnexp: outputs: {outputs}/runs cannot be written ({message}); free some space there, or")
    assert list((outputs / "runs").iterdir()) == []


def test_outputs_below_a_file(train: Train, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs.write_text("")
    assert train() == 2
    assert "outputs/runs: cannot make this folder (Not a directory)" in capsys.readouterr().err


def test_a_disk_without_room_for_the_checkpoints(
    train: Train, only: Callable[[], RunRecord], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert train() == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(
        f"cnnexp: outputs: {only().folder} has 0.0 MiB free, and the checkpoints of this run need "
    )
    assert only().status == "failed" and "MiB free" in only().info["error"]["message"]


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    disk.check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    disk.check_free_space(tmp_path, 1)
    with pytest.raises(UserError, match=r"MiB free, and the checkpoints of this run need 1,048,576\.0 MiB; free"):
        disk.check_free_space(tmp_path, 2**40)


@pytest.mark.parametrize("more", ["optimizer=adam", "optimizer=sgd", "ema.decay=0.9"])
def test_checkpoints_take_no_more_than_is_expected(plan: Callable[..., Plan], more: str) -> None:
    config = plan("model.blocks=[{fc:{out:2000}}]", more).config
    device, data = resolve(config["device"]), build.build_data(config)
    batches = start.batches_of(config, data, device)
    settings = start.settings_of(config, batches, device)
    state = start.new_state(config, data, settings)
    expected = disk.checkpoint_bytes(state.model, state.average is not None)
    train_step(state, batches.at(0), settings)
    size = 0
    for files, content in ((3, state.state_dict()), (2, {"model": state.model.state_dict()})):
        torch.save(content, buffer := io.BytesIO())
        size += files * len(buffer.getvalue())
    assert size < 1.01 * expected
    assert more == "optimizer=sgd" or size > 0.9 * expected


@pytest.mark.parametrize(
    ("error", "fix"), [(errno.EIO, "the disk or the network folder fails"), (errno.ENOSPC, "free")]
)
def test_a_probe_whose_folder_cannot_be_synced_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, fix: str
) -> None:
    def fail(*_: object) -> None:
        raise StorageError(tmp_path, OSError(error, os.strerror(error)))

    monkeypatch.setattr("cnnexp.storage.disk.sync_folder", fail)
    with pytest.raises(UserError, match=rf"outputs: .* cannot be written \({os.strerror(error)}\); {fix}"):
        disk.check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_probe_of_another_container_is_left_alone(tmp_path: Path) -> None:
    """It may have this host's name and process id; an old probe was left by a process that was killed."""
    young, old, draft = (tmp_path / name for name in (".probe-1", ".probe-2", "..probe-3.7.tmp"))
    for file in (young, old, draft):
        file.write_bytes(b"")
    now = young.stat().st_mtime
    for file in (old, draft):
        os.utime(file, (now - 7200,) * 2)
    disk.check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


def test_a_run_that_fits_its_disk_can_be_resumed_there(
    plan: Callable[..., Plan], forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = plan("model.blocks=[{fc:{out:2000}}]")
    checkpoints = own.folder / "checkpoints"
    with pytest.raises(Died):
        forks(live, own, "kill", 7)
    model = start.new_state(own.config, *data_and_settings(own)).model
    fits = int(1.01 * disk.checkpoint_bytes(model))  # 1 %: names, and the like

    def free() -> int:
        return fits - sum({file.stat().st_ino: file.stat().st_size for file in checkpoints.iterdir()}.values())

    assert free() < fits / 2
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free()))
    assert run(own, Progress()).status == "done"


def test_another_save_must_fit_whatever_is_there(tmp_path: Path, plan: Callable[..., Plan]) -> None:
    own = plan()
    model = start.new_state(own.config, *data_and_settings(own)).model
    assert disk.bytes_to_come(model, tmp_path) == disk.checkpoint_bytes(model)
    (tmp_path / "last.pt").write_bytes(bytes(1000))
    os.link(tmp_path / "last.pt", tmp_path / "previous.pt")
    (tmp_path / "notes.txt").write_bytes(bytes(1000))
    assert disk.bytes_to_come(model, tmp_path) == disk.checkpoint_bytes(model) - 1000
    (tmp_path / "best-1.pt").write_bytes(bytes(2**20))
    assert disk.bytes_to_come(model, tmp_path) == disk.save_bytes(model)


def data_and_settings(own: Plan) -> tuple[ImageData, Settings]:
    """Return the data and the settings of a run."""
    data, device = build.build_data(own.config), resolve(own.config["device"])
    return data, start.settings_of(own.config, start.batches_of(own.config, data, device), device)
