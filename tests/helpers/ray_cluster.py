"""A Ray cluster of a head without cores and nodes of one core each, all on this machine.

python tests/helpers/ray_cluster.py FOLDER [NODES]     starts it, prints `export RAY_ADDRESS=...`, and ends it on Ctrl-C
"""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnexp.process.signals import end_children

START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
SMALL = ["--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0"]
ENVIRONMENT = {
    **os.environ,
    "RAY_worker_niceness": "0",  # on a busy machine, 15 is slow
    "RAY_AUTH_MODE": "disabled",  # a token in the home folder may be another cluster's
}


def available() -> bool:
    """Tell whether this Python has Ray."""
    return importlib.util.find_spec("ray") is not None


class RayCluster:
    """Starts the processes, one after the other, because raylets that start at once may choose the same port."""

    def __init__(self, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.temporary = tempfile.TemporaryDirectory(prefix="ray", dir="/tmp")  # the paths of sockets must be short
        self.port = self.address.partition(":")[2]

    def start_head(self) -> None:
        """Start the head, without cores."""
        options = ["--head", f"--port={self.port}", f"--temp-dir={self.temporary.name}", "--include-dashboard=false"]
        self.start(*options, "--num-cpus=0", "--num-gpus=0")

    @property
    def head(self) -> "subprocess.Popen[bytes]":
        """Return the head's process."""
        return self.processes[0]

    @property
    def nodes(self) -> "list[subprocess.Popen[bytes]]":
        """Return the processes of the nodes that live."""
        return [process for process in self.processes[1:] if process.poll() is None]

    def add_node(self, gpus: int = 0) -> None:
        """Start a node of one core, and of pretended GPUs with a core each; wait until it is there."""
        self.start(f"--address={self.address}", f"--num-cpus={gpus or 1}", f"--num-gpus={gpus}")

    def start(self, *words: str) -> None:
        """Start the head or a node."""
        log = self.folder / f"{len(self.processes)}.log"
        with log.open("wb") as file:
            options = ["--node-ip-address=127.0.0.1", *SMALL, *words]
            process = subprocess.Popen(
                [*START, *options], env=ENVIRONMENT, stdout=file, stderr=file, start_new_session=True
            )
        self.processes.append(process)
        end = time.monotonic() + 120
        while "runtime started" not in log.read_text():
            assert time.monotonic() < end and process.poll() is None, log.read_text()
            time.sleep(0.2)

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """End a node or the head as a power failure does: every process of it at once."""
        os.kill(process.pid, signal.SIGSTOP)
        end_children(process.pid)
        process.kill()
        process.wait()

    def close(self) -> None:
        """End all of them."""
        for process in reversed(self.processes):
            if process.poll() is None:
                self.kill(process)
        self.temporary.cleanup()


@contextmanager
def ray_cluster(folder: Path, nodes: int = 2) -> Iterator[RayCluster]:
    """Run a cluster while the block runs."""
    cluster = RayCluster(folder)
    try:
        cluster.start_head()
        for _ in range(nodes):
            cluster.add_node()
        yield cluster
    finally:
        cluster.close()


if __name__ == "__main__":
    with ray_cluster(Path(sys.argv[1]).resolve(), int([*sys.argv[2:], "2"][0])) as found:
        print(f"export RAY_ADDRESS={found.address} RAY_AUTH_MODE=disabled", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        signal.pause()
