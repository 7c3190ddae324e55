"""A call from Python works in a process that is not ours, such as a notebook's: it leaves everything as it was."""

import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from cnnexp.errors import Interrupted
from cnnexp.records import provenance

ONE_CALL = threading.RLock()  # runs share torch's threads and its random state, so a process makes one at a time


@contextmanager
def unchanged() -> Iterator[None]:
    """Restore the environment, sys.path and the typed command after the block; another thread's call waits."""
    with ONE_CALL:
        environment, path, typed = dict(os.environ), list(sys.path), list(provenance.TYPED)
        try:
            yield
        finally:
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            os.environ.update({name: value for name, value in environment.items() if os.environ.get(name) != value})
            sys.path[:], provenance.TYPED[:] = path, typed


@contextmanager
def torch_unchanged() -> Iterator[None]:
    """Start from torch's defaults; restore its threads and flags, and all random states, after the block."""
    import numpy as np
    import torch

    from cnnexp.training.build import forget_data
    from cnnexp.training.cpu import release_freed_memory

    forget_data()
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    states: Any = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.is_available()
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    owned = [(cudnn, "benchmark"), (cudnn, "deterministic"), (cudnn, "allow_tf32"), (matmul, "allow_tf32")]
    flags = [(owner, name, getattr(owner, name)) for owner, name in owned] if cuda else []
    began = cuda and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    device, cuda_states = (torch.cuda.current_device(), torch.cuda.get_rng_state_all()) if began else (0, [])
    try:
        with torch_defaults():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.set_num_threads(threads)
        if torch.are_deterministic_algorithms_enabled() != deterministic:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        for owner, name, value in flags:
            setattr(owner, name, value)
        if began:
            torch.cuda.set_device(device)
            torch.cuda.set_rng_state_all(cuda_states)
        elif cuda:
            torch.cuda.manual_seed_all(torch.initial_seed())
        release_freed_memory()


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Compute in the block as a new process does, so that its numbers are those of the command.

    A program may be in no_grad, inference_mode or autocast, or have another default dtype, device or matmul precision.
    """
    import torch

    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    autocast = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    device = nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
    try:
        torch.set_default_dtype(torch.float32)
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
        for kind in autocast:
            torch.set_autocast_enabled(kind, False)
        with torch.inference_mode(False), torch.enable_grad(), device:
            yield
    finally:
        torch.set_default_dtype(dtype)
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)
        for kind in autocast:
            torch.set_autocast_enabled(kind, True)


@contextmanager
def signals_passed_on() -> Iterator[None]:
    """After a signal has stopped a run and its state is saved, pass it on to the program's own handler.

    For SIGINT, Python's and a notebook's raise KeyboardInterrupt. If the handler returns, Interrupted is raised.
    """
    try:
        yield
    except Interrupted as error:
        print(f"cnnexp: {error}".replace("command", "call"), file=sys.stderr, flush=True)
        if error.number is not None:
            signal.raise_signal(error.number)
        raise


def import_matplotlib() -> None:
    """Import matplotlib with the program's own settings: figures here are drawn in a context of their own."""
    with suppress(Exception):  # settings that keep it from being imported: cnnexp imports it without them
        import matplotlib  # noqa: F401


@contextmanager
def server_ended() -> Iterator[None]:
    """End the server of a sweep's workers after the block, unless it ran before: it would make other workers too."""
    from multiprocessing import forkserver

    server: Any = getattr(forkserver, "_forkserver", None)
    before = getattr(server, "_forkserver_pid", None)
    try:
        yield
    finally:
        if before is None and getattr(server, "_forkserver_pid", None) is not None:
            server._stop()
            server.set_forkserver_preload([])
