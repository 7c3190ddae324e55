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
SMALL = ["--num-gpus=0", "--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0"]
ENVIRONMENT = {**os.environ, "RAY_worker_niceness": "0"}  # on a busy machine, 15 is slow


def available() -> bool:
    """Tell whether this Python has Ray."""
    return importlib.util.find_spec("ray") is not None


class RayCluster:
    """Starts the processes, one after the other, because raylets that start at once may choose the same port."""

    def __init__(self, folder: Path, nodes: int = 2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.folder = folder
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.temporary = tempfile.TemporaryDirectory(prefix="ray", dir="/tmp")  # the paths of sockets must be short
        head = ["--head", f"--port={self.address.partition(':')[2]}", "--num-cpus=0", "--include-dashboard=false"]
        self.head = self.start("head", *head, f"--temp-dir={self.temporary.name}")
        for _ in range(nodes):
            self.add_node()

    def add_node(self) -> None:
        """Start a node of one core, and wait until it is there."""
        name = f"node{len(self.nodes)}"
        self.nodes.append(self.start(name, f"--address={self.address}", "--num-cpus=1"))

    def start(self, name: str, *words: str) -> "subprocess.Popen[bytes]":
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            options = ["--node-ip-address=127.0.0.1", *SMALL, *words]
            process = subprocess.Popen(
                [*START, *options], env=ENVIRONMENT, stdout=file, stderr=file, start_new_session=True
            )
        end = time.monotonic() + 120
        while "runtime started" not in log.read_text():
            assert time.monotonic() < end and process.poll() is None, log.read_text()
            time.sleep(0.2)
        return process

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """End a node or the head as a power failure does: every process of it at once."""
        os.kill(process.pid, signal.SIGSTOP)
        end_children(process.pid)
        process.kill()
        process.wait()

    def close(self) -> None:
        """End all of them."""
        for process in [*self.nodes, self.head]:
            if process.poll() is None:
                self.kill(process)
        self.temporary.cleanup()


@contextmanager
def ray_cluster(folder: Path, nodes: int = 2) -> Iterator[RayCluster]:
    """Run a cluster while the block runs."""
    cluster = RayCluster(folder, nodes)
    try:
        yield cluster
    finally:
        cluster.close()


if __name__ == "__main__":
    with ray_cluster(Path(sys.argv[1]).resolve(), int([*sys.argv[2:], "2"][0])) as found:
        print(f"export RAY_ADDRESS={found.address}", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        signal.pause()
