"""Commands cut off at a failpoint or by a signal, and what a power loss leaves: what the tests of both share.

A server imports torch and the package once; every command is a process forked from it. As a script this file is that
server: it reads a JSON line for a command, answers with the process's id, and then with how it ended.
"""

import importlib
import json
import os
import pickle
import pkgutil
import shutil
import subprocess
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cnnexp

OPENS_EMPTY = ("replace.open", "array.open")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: a signal's number), what it printed, what it did to the disk."""

    code: int
    out: str
    passages: list[Any] = field(default_factory=list)


class Server:
    """Runs `cnnexp ...` in processes forked from one that has imported everything."""

    def __init__(self) -> None:
        self.asked = False  # for an answer that has not been read
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "error", __file__]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(self, argv: list[str], room: Path, failpoint: str = "", record: bool = False) -> int:
        """Start a command with its cache and its output below `room`; return its process id."""
        if self.asked:  # a time limit has ended a test in between; its answers must not be taken for the next one's
            self.process.kill()
            self.close()
            self.__init__()  # type: ignore[misc]
        self.asked = True
        request = {"argv": argv, "room": str(room), "failpoint": failpoint, "record": record}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        self.room, self.recorded = room, record
        child = int(self._answer())
        assert child > 1, "a signal to 0 would end the tests themselves"
        return child

    def wait(self) -> Ended:
        """Wait for the command that was started last."""
        code, self.asked = int(self._answer()), False
        passages = pickle.loads((self.room / "passages").read_bytes()) if self.recorded else []
        out = self.room / "out"
        return Ended(code, out.read_text() if out.exists() else "", passages)

    def run(self, argv: list[str], room: Path, failpoint: str = "", record: bool = False) -> Ended:
        """Run a command to its end."""
        self.start(argv, room, failpoint, record)
        return self.wait()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def serve() -> None:
    """Fork a process for every line that comes; what Hydra makes of its words is composed once, ahead of them all."""
    import torch

    for module in pkgutil.walk_packages(cnnexp.__path__, "cnnexp."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    from cnnexp import train

    torch.set_num_threads(1)
    single, composed = train.single, {}
    for line in sys.stdin:
        request = json.loads(line)
        words = json.dumps(request["argv"])
        if words not in composed:
            train.single = lambda config, words=words: composed.update({words: config}) or 0
            train.main(request["argv"][1:])
        if (child := os.fork()) == 0:
            train.run_one = lambda argv, config=composed[words]: single(config)
            be(request)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def be(request: dict[str, Any]) -> None:
    """Be the command, and end."""
    from cnnexp import cli
    from cnnexp.records.run_record import RunRecord
    from cnnexp.storage import failpoints

    room = Path(request["room"])
    os.setsid()
    os.environ["CNNEXP_CACHE"] = str(room / "cache")
    out = os.open(room / "out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    passages: list[tuple[Any, ...]] = []
    if request["failpoint"]:
        failpoints.observer = failpoints.parse(request["failpoint"])
    if request["record"]:
        failpoints.observer = lambda p: passages.append((p.point, str(p.path), bytes(p.content), p.offset, str(p.to)))
    drop = RunRecord.drop_resume_files

    def keep_state(run: RunRecord) -> None:
        if (last := run.folder / "checkpoints" / "last.pt").exists():
            shutil.copy(last, room / "end.pt")
        drop(run)

    RunRecord.drop_resume_files = keep_state  # type: ignore[method-assign]
    try:
        code = cli.main(request["argv"])
    except BaseException:
        traceback.print_exc()
        code = 1
    if request["record"]:
        (room / "passages").write_bytes(pickle.dumps(passages))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@dataclass
class File:
    """What is in a file, and what was in it when it was last synced."""

    content: bytes = b""
    synced: bytes = b""

    def torn(self) -> bytes:
        """Return the file with half of what was not synced: zeros are where the other half would be."""
        whole, size = self.content, len(self.content)
        kept = len(self.synced) if whole.startswith(self.synced) else 0
        return whole[: (kept + size) // 2].ljust(size, b"\0")


@dataclass
class Folder:
    """What is in a folder, and what was in it when it was last synced."""

    now: dict[str, Any] = field(default_factory=dict)
    synced: dict[str, Any] = field(default_factory=dict)


class Disk:
    """What a power loss leaves, as the recorded operations of a command are done one after another.

    A file's content is durable by its own sync, its name by the sync of its folder.
    """

    def __init__(self, root: Path):
        self.root, self.top = root, Folder()

    def do(self, point: str, path: str, content: bytes, offset: int, to: str) -> None:
        """Do an operation."""
        folder, name = self.at(path)
        what = point.partition(".")[2]
        if what == "open":
            file = folder.now.setdefault(name, File())
            file.content = b"" if point in OPENS_EMPTY else file.content
        elif what == "write" and content:
            old = folder.now[name].content
            folder.now[name].content = old[:offset].ljust(offset, b"\0") + content + old[offset + len(content) :]
        elif what == "sync":
            node = folder.now[name] if name else self.top
            if isinstance(node, File):
                node.synced = node.content
            else:
                node.synced = dict(node.now)
        elif what == "make":
            folder.now[name] = Folder()
        elif what == "rename":
            there, new = self.at(to)
            there.now[new] = folder.now.pop(name)
        elif what == "link":
            there, new = self.at(to)
            there.now[new] = folder.now[name]
        elif point in ("remove.file", "remove.folder"):
            del folder.now[name]

    def at(self, path: str) -> tuple[Folder, str]:
        """Return the folder that a path lies in, and its name there."""
        *folders, name = Path(path).relative_to(self.root).parts or ("",)
        node = self.top
        for part in folders:
            node = node.now[part]
        return node, name

    def leave(self, root: Path, how: str) -> None:
        """Write what a power loss leaves below `root`.

        how: `dropped`, nothing that was not synced; `empty`, all names, but only synced content; `torn`, all names, and
        half of what was not synced.
        """
        self._leave(self.top, root, how)

    def _leave(self, folder: Folder, path: Path, how: str) -> None:
        path.mkdir(exist_ok=True)
        for name, node in (folder.synced if how == "dropped" else folder.now).items():
            if isinstance(node, Folder):
                self._leave(node, path / name, how)
            else:
                (path / name).write_bytes(node.torn() if how == "torn" else node.synced)


def everything(room: Path) -> dict[str, Any]:
    """Return all that the run below `room` computed: its state at the end, best weights, rows, result, predictions."""
    from cnnexp.records.fields import TIMING
    from cnnexp.records.run_record import RunRecord
    from cnnexp.training import checkpoint, hash_chain

    (folder,) = (room / "outputs" / "demo").glob("*-s0-*")
    run = RunRecord.read(folder)
    state, best = checkpoint.read(room / "end.pt", run.identity), checkpoint.read(folder / "checkpoints" / "best.pt")
    return {
        "state": {key: value for key, value in state.items() if key not in ("seconds", "epoch_seconds")},
        "best": best,
        "rows": [{k: v for k, v in r.items() if k not in TIMING} for r in [*run.rows("epoch"), *run.rows("step")]],
        "probes": run.probe_rows(),
        "hash chain": hash_chain.read(folder),
        "predictions": run.predictions(),
        "result": {key: v for key, v in run.info["result"].items() if key not in (*TIMING, "peak_memory_mib")},
        "status": run.info["status"],
    }


def difference(mine: Any, theirs: Any, where: str = "") -> str | None:
    """Return where two nested structures first differ; tensors and arrays are held together bit for bit."""
    if type(mine) is not type(theirs):
        return where
    if isinstance(mine, dict):
        pairs = [] if list(mine) != list(theirs) else [(f"{where}.{k}", mine[k], theirs[k]) for k in mine]
        if list(mine) != list(theirs):
            return f"{where}: keys"
    elif isinstance(mine, (list, tuple)):
        pairs = [(f"{where}[{i}]", a, b) for i, (a, b) in enumerate(zip(mine, theirs, strict=False))]
        if len(mine) != len(theirs):
            return f"{where}: length"
    elif hasattr(mine, "tobytes") or hasattr(mine, "numpy"):
        a, b = (getattr(x, "numpy", lambda x=x: x)() for x in (mine, theirs))
        return None if a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() else where
    else:
        return None if mine == theirs else where
    return next((found for at, a, b in pairs if (found := difference(a, b, at)) is not None), None)


if __name__ == "__main__":
    serve()
