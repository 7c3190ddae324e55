"""How the processes of a run find each other, and what process 0 sends to the others: torch's process groups."""

import sys
from datetime import timedelta
from threading import Timer
from time import sleep
from typing import TYPE_CHECKING, Any, cast

from cnnexp.errors import UserError, one_line
from cnnexp.text import visible
from cnnexp.training.launched import Place

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from cnnexp.training.plan import Plan
    from cnnexp.training.ranks import Ranks

NOTICE_SECONDS = 10.0  # of waiting for processes that somebody else has started, before that is said
PREPARED_WITHIN = timedelta(days=7)  # by all processes; torch needs a limit


def connect(ranks: "Ranks", kind: str, method: str, seconds: float) -> "ProcessGroup":
    """Let the processes of a run find each other. method: as torch calls it, such as file:///PATH.

    seconds: after which an exchange of a run fails. Returns the group of `send`, `receive` and `wait_for_all`, which
    wait for work of any length: preparing the data may take hours.
    """
    import torch
    from torch import distributed

    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" or (not kind and torch.cuda.is_available()) else "gloo"
    distributed.init_process_group(
        backend, init_method=method, rank=ranks.rank, world_size=ranks.count, timeout=timedelta(seconds=seconds)
    )
    return cast("ProcessGroup", distributed.new_group(backend="gloo", timeout=PREPARED_WITHIN))


def connect_launched(ranks: "Ranks", kind: str, place: Place, seconds: float) -> "ProcessGroup":
    """Let processes that torchrun or srun has started find each other, as `connect`. Says so if they do not come soon.

    Raises UserError if they do not come: the variables may be left from an earlier command, and nobody else is there.
    """
    from torch import distributed

    others = f"the other processes that {place.program} has started, {place.count} in all, at {place.address}"
    remedy = "; if there are none, unset WORLD_SIZE and SLURM_STEP_NUM_TASKS"
    notice = Timer(NOTICE_SECONDS, print, (f"cnnexp: waiting for {visible(others)}{remedy}",), {"file": sys.stderr})
    notice.daemon = True
    notice.start()
    try:
        return connect(ranks, kind, f"tcp://{place.address}", seconds)
    except (distributed.DistError, ValueError) as error:
        raise UserError(f"cannot reach {others} ({one_line(str(error))[:200]}){remedy}") from error
    finally:
        notice.cancel()


def send(message: "Plan | int", group: "ProcessGroup") -> None:
    """Send the others a plan to make, or the exit code with which they end."""
    from torch import distributed

    distributed.broadcast_object_list([message], 0, group)


def receive(group: "ProcessGroup") -> "Plan | int":
    """Wait for what process 0 sends."""
    from torch import distributed

    message: list[Any] = [None]
    distributed.broadcast_object_list(message, 0, group)
    found: Plan | int = message[0]
    return found


def wait_for_all(group: "ProcessGroup") -> None:
    """Wait until all processes have prepared the run. Signals are answered meanwhile."""
    from torch import distributed

    work = distributed.barrier(group, async_op=True)
    while not work.is_completed():
        sleep(0.005)
    work.wait()
