"""A SLURM cluster of one node, this machine, with two pretended GPUs. Needs root and Debian's package slurm-wlm.

python tests/helpers/slurm_node.py FOLDER      starts it, prints `export SLURM_CONF=...`, and ends it on Ctrl-C
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONF = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SwitchType=switch/none
ReturnToService=2
GresTypes=gpu
KillWait=30
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def available() -> bool:
    """Tell whether this machine can run it."""
    return os.geteuid() == 0 and all(map(shutil.which, ("slurmctld", "slurmd", "sbatch")))


@contextmanager
def slurm_node(folder: Path) -> Iterator[dict[str, str]]:
    """Run the daemons while the block runs; yield the environment in which SLURM's commands find them."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        port, node_port = one.getsockname()[1], two.getsockname()[1]
    host = socket.gethostname()
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    text = CONF.format(host=host, folder=folder, port=port, node_port=node_port)
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/tty[0-1]\n")
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    try:
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([daemon], env=environment, check=True, capture_output=True)
        wait_until_idle(environment)
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment, check=False, capture_output=True)
        for daemon in ("slurmd", "slurmctld"):
            file = folder / f"{daemon}.pid"
            if file.exists():
                os.kill(int(file.read_text()), signal.SIGTERM)


def wait_until_idle(environment: dict[str, str]) -> None:
    """Wait until the node takes jobs."""
    end = time.monotonic() + 60
    while True:
        done = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True, check=False)
        if done.stdout.strip() == "idle":
            return
        assert time.monotonic() < end, f"the node does not start: {done.stdout}{done.stderr}"
        time.sleep(0.5)


if __name__ == "__main__":
    with slurm_node(Path(sys.argv[1]).resolve()) as found:
        print(f"export SLURM_CONF={found['SLURM_CONF']}", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        signal.pause()
