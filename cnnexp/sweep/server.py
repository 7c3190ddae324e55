"""The process that workers are forked from: it imports torch once, while the sweep is planned. Imports no torch."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from types import ModuleType
from typing import Any

from cnnexp.process.signals import CODES
from cnnexp.storage.scratch import temporary_files_here

METHOD = "forkserver" if sys.platform == "linux" else "spawn"  # elsewhere system libraries do not bear a fork
CONTEXT: Any = multiprocessing.get_context(METHOD)


def import_ahead() -> None:
    """Start the server unless it runs, so that it imports torch while this process goes on. It ends with this process.

    A scheduler sends its signals to every process of a job. The server, without which no worker could end in good
    order, has them blocked; so has a new worker, which therefore loses none, until it can answer (`worker.work`).
    """
    if METHOD == "forkserver":
        CONTEXT.set_forkserver_preload(["cnnexp.training.run", "cnnexp.sweep.worker"])
        before = signal.pthread_sigmask(signal.SIG_BLOCK, CODES)
        try:
            resource_tracker.ensure_running()  # on its way it unblocks some of them here
            signal.pthread_sigmask(signal.SIG_BLOCK, CODES)
            with temporary_files_here():
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def without_main() -> Iterator[None]:
    """Let a process that is started here not import this program's script, which could start a sweep again."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def continue_server() -> None:
    """Let the server continue if it was stopped (SIGSTOP); without it no worker can start, or report its end."""
    pid = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
