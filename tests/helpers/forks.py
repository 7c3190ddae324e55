"""A process that has imported torch and forks for every call, so that a process of one's own costs no imports.

As a script it is that process: `python tests/helpers/forks.py <descriptor of its end of the pipe>`.
"""

import gc
import importlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


class Died(Exception):
    """The process of a call ended without an answer; `code` is its exit code, negative for a signal."""

    def __init__(self, code: int):
        super().__init__(f"ended with {code}")
        self.code = code


class Forks:
    """Calls functions of the tests' modules, each call in a process that is forked for it."""

    def __init__(self) -> None:
        self.pipe, theirs = Pipe()
        command = [sys.executable, "-W", "error", str(Path(__file__).resolve()), str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self.modules: list[str] = []
        theirs.close()

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what the function returns. Raises Died, or RuntimeError with the traceback of what it raised."""
        self.pipe.send((self.modules, (function.__module__, function.__name__, arguments)))
        kind, value, self.modules = self.pipe.recv()
        if kind == "ended":
            raise Died(value)
        if kind == "raised":
            raise RuntimeError(value)
        return value

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.wait(30)


def serve(pipe: Connection) -> None:
    """Fork for every call that comes through the pipe, until its other end is closed.

    What is the same in every process is done once: a look at the code and the machine, and imports, those that an
    earlier call needed too. Nothing is synced to the disk: what a killed process wrote stays in the system's cache.
    """
    import torch

    from cnnexp.records import provenance as environment

    torch.set_num_threads(1)
    environment.code(), environment.environment()
    os.fsync = lambda descriptor: None
    while True:
        try:
            modules, call = pipe.recv()
        except EOFError:
            os._exit(0)
        for name in modules:
            importlib.import_module(name)
        gc.freeze()  # so that a child's collections touch, and so copy, none of this memory
        child = os.fork()
        if child == 0:
            answer(pipe, *call)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            pipe.send(("ended", code, []))


def answer(pipe: Connection, module: str, name: str, arguments: tuple[Any, ...]) -> None:
    """Make one call, send what came of it, and end this process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been ignored by who started the tests
    before = set(sys.modules)
    try:
        found = ("value", getattr(importlib.import_module(module), name)(*arguments))
    except BaseException:
        found = ("raised", traceback.format_exc())
    pipe.send((*found, [name for name, new in sys.modules.items() if name not in before and can_be_found(new)]))
    os._exit(0)


def can_be_found(module: Any) -> bool:
    """Tell whether an import by name finds a module: some are made at run time."""
    spec = getattr(module, "__spec__", None)
    return spec is not None and spec.origin is not None


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
