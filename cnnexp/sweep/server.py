"""The process that workers are forked from: it imports torch once, while the sweep is planned. Imports no torch."""

import multiprocessing
import sys
from multiprocessing import forkserver
from typing import Any

METHOD = "forkserver" if sys.platform == "linux" else "spawn"  # elsewhere system libraries do not bear a fork
CONTEXT: Any = multiprocessing.get_context(METHOD)


def import_ahead() -> None:
    """Start the server, so that it imports torch while this process goes on. It ends with this process."""
    if METHOD == "forkserver":
        CONTEXT.set_forkserver_preload(["cnnexp.run", "cnnexp.sweep.worker"])
        forkserver.ensure_running()
