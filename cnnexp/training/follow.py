"""The other processes of a run (processes.py): each computes its part of what process 0 does, and writes nothing."""

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, Diverged, Interrupted
from cnnexp.process.signals import ignore, stop_request
from cnnexp.records.run_record import RunRecord
from cnnexp.training.exchange import connect, connect_launched, receive, wait_for_all
from cnnexp.training.launched import Place
from cnnexp.training.processes import SILENT_SECONDS, message_of, of_an_exchange, ranks_of
from cnnexp.training.progress import Progress


class ReadOnly(RunRecord):
    """The record of a run in a process that does not hold it: it changes nothing on the disk."""

    def update(self, **values: Any) -> None:
        """Set fields for this process alone."""
        self.info.update(values)

    def _nothing(self, *values: Any, **named: Any) -> None:
        """Write nothing."""

    append = append_probe = log = sync = cut_back = write_config = write_predictions = _nothing


def follow(place: Place, kind: str = "", method: str = "", seconds: float = SILENT_SECONDS) -> int:
    """Wait for plans and compute a part of each, until process 0 sends an exit code; returns it.

    kind, method: see `connect`; by default those of torchrun and srun. Raises UserError as `connect_launched`.
    """
    from cnnexp.training.run import compute

    ranks = ranks_of(place, lambda plan: wait_for_all(group))
    group = connect(ranks, kind, method, seconds) if method else connect_launched(ranks, kind, place, seconds)
    while True:
        try:
            with stop_request() as stop:  # a signal while this process waits stops all after the first step
                if isinstance(plan := receive(group), int):
                    return plan
                compute(plan, ReadOnly.read(plan.folder), Progress(), stop, ranks)
        except Interrupted as error:
            return error.exit_code
        except Diverged:
            return EXIT_SOME_FAILED
        except Exception as error:
            if stop.exit_code is not None:  # process 0 has received the signal too, and has ended
                return stop.exit_code
            if method or not of_an_exchange(error):
                raise
            print(f"cnnexp: process {place.rank + 1} of {place.count} ends: another has ended", file=sys.stderr)
            return EXIT_SOME_FAILED
        if method:
            return EXIT_DONE


def watch_input(done: Callable[[], None]) -> None:
    """Call `done` when process 0 has ended, for whatever reason: this process's input then ends."""

    def watch() -> None:
        sys.stdin.read()
        done()

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Follow the process that has started this one; its arguments are one JSON text."""
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    watch_input(lambda: os._exit(EXIT_SOME_FAILED))
    rank, count, kind, method, seconds = json.loads(sys.argv[1])
    ignore()  # until the run begins: process 0 decides
    try:
        import cnnexp.training.run  # noqa: F401  # all that takes long

        print(json.dumps({"ready": True}), file=messages, flush=True)
        code = follow(Place("", rank, count, rank, count, ""), kind, method, seconds)
    except BaseException as error:
        with suppress(OSError):  # process 0 may have ended
            print(message_of(error), file=messages, flush=True)
        traceback.print_exc()
        code = EXIT_SOME_FAILED
    sys.stderr.flush()
    os._exit(code)  # at once: after importing torch, Python takes half a second


if __name__ == "__main__":
    main()
