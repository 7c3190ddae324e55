"""The engine of a SLURM cluster: an array of jobs, each a `cnnexp work` that makes one planned run after another."""

import math
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from cnnexp import storage
from cnnexp.config.flags import seconds
from cnnexp.config.schema import GIVEN
from cnnexp.errors import EXIT_PREEMPTED, Interrupted, UserError
from cnnexp.records.fields import FINAL
from cnnexp.sweep.engine import LATE_SECONDS, Ended, Event, Progress
from cnnexp.text import in_shell
from cnnexp.training.allowed import shipped
from cnnexp.training.plan import Plan

LOOK_SECONDS = 2.0  # between two looks at the runs
ASK_SECONDS = 15.0  # between two questions to SLURM
FEWEST_MINUTES = 2  # of a worker: in the last one it saves
SCRIPT = """\
#!/bin/bash
{options}
{setup}
cd {cwd}
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
srun {work}
code=$?
# 75: the time is up, or another job needs the place (it has no --budget). A job that was cancelled is not RUNNING.
job=${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}
again() {{ state=$(squeue -h -j $job -o %T) && {{ [ "$state" != RUNNING ] || scontrol requeue $job; }}; }}
if [ $code = 75 ]; then
  for pause in 2 5 10; do again && break; sleep $pause; done  # the controller may be busy
fi
exit $code
"""


def resources(cluster: Mapping[str, Any]) -> list[str]:
    """Return the options of sbatch and srun that say what a worker gets. cluster: the `cluster` node of a config."""
    if cluster["workers"] == "auto" or cluster["gpus"] != int(cluster["gpus"]):
        raise UserError("cluster: SLURM needs whole numbers of workers and gpus")
    limit = cluster["time"]
    if limit is not None and not re.fullmatch(r"(\d+-)?\d+(:\d+){1,2}|\d+-\d+", limit):  # as SLURM writes it
        limit = math.ceil(seconds(limit, "cluster.time") / 60)
        if limit < FEWEST_MINUTES:
            why = "a worker saves and ends a minute before its time is up"
            raise UserError(f"cluster.time: given {cluster['time']}; allowed: {FEWEST_MINUTES}m or more; {why}")
    named = {
        "cpus-per-task": cluster["cpus"],
        "gres": f"gpu:{int(cluster['gpus'])}" if cluster["gpus"] else None,
        "time": limit,
        "mem": cluster["memory"],
        **{key: cluster[key] for key in ("partition", "account", "qos")},
    }
    given = [f"--{name}={value}" for name, value in named.items() if value is not None]
    for option in cluster["options"] or []:
        try:
            shlex.split(option)
        except ValueError as error:
            raise UserError(f"cluster.options: given {option}: {error}") from error
        given.append(option)
    return ["--nodes=1", "--ntasks=1", *given]


def script(plans: Sequence[Plan], cluster: Mapping[str, Any], flags: Iterable[str] = ()) -> str:
    """Return the batch script whose array of jobs makes planned runs of one study. flags: for `cnnexp work`."""
    folder = plans[0].folder.parent.resolve()
    options = [
        f"--job-name={shlex.quote(f'cnnexp-{folder.name}')}",
        f"--array=1-{cluster['workers']}",
        f"--output={shlex.quote(str(folder).replace('%', '%%'))}/slurm/%A_%a.log",  # %: a pattern of SLURM
        "--open-mode=append",
        "--requeue",
        "--signal=USR2@60",  # to the worker, a minute before its time is up: it saves, and ends with 75
        *resources(cluster),
    ]
    threads = plans[0].config["device"]["threads"]
    slots = "auto" if cluster["gpus"] else f"cpu:{max(cluster['cpus'] // threads, 1)}"
    builders = {str(plan.config[name]["_target_"]) for plan in plans for name in GIVEN}
    own = sorted(builders.difference(*shipped().values()))  # these alone a worker needs to be allowed
    allow = [word for target in own for word in ("--allow", target)]
    work = [sys.executable, "-m", "cnnexp", "work", str(folder), f"slots={slots}", *allow, *flags]
    return SCRIPT.format(
        options="\n".join(f"#SBATCH {option}" for option in options),
        setup="\n".join(cluster["setup"] or []),
        cwd=shlex.quote(str(Path.cwd())),
        work=shlex.join(work),
    )


def precision_there(cluster: Mapping[str, Any]) -> str:
    """Ask a compute node for the precision of its GPU, such as "bf16". Raises UserError if torch sees none there."""
    lines = [*(cluster["setup"] or []), shlex.join([sys.executable, "-m", "cnnexp", "work", "--probe"])]
    words = shlex.split(" ".join(resources(cluster)))  # as sbatch reads its lines
    out = call(["srun", *words, "bash", "-c", "\n".join(lines)])
    found = dict(word.split("=", 1) for word in out.split() if word.startswith("device.") and "=" in word)
    if found.get("device.kind") != "cuda" or "device.precision" not in found:
        fix = "see cluster.setup and cluster.options, or type device.precision=bf16"
        raise UserError(f"device.kind: on the compute node that was asked, torch sees no GPU; {fix}")
    return found["device.precision"]


def call(words: Sequence[str], text: str | None = None) -> str:
    """Run a program of SLURM, and return what it prints. Raises UserError if it fails or is not here."""
    if shutil.which(words[0]) is None:
        raise UserError(f"cluster=slurm: this machine has no {words[0]}; type the command on a login node")
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{words[0]}: {' '.join(done.stderr.split()) or f'ended with code {done.returncode}'}")
    return done.stdout


class SlurmEngine:
    """Submits the workers, and follows what they record; see `Engine`.

    A signal to this command does not stop the workers. plans: of runs that they may end before `start`.
    """

    def __init__(self, text: str, workers: int, plans: Iterable[Plan] = ()):
        self.text, self.workers = text, workers
        self.before = {plan.folder: plan.record().info.get("finished") for plan in plans}
        self.job, self.cluster = "", list[str]()
        self.logs = Path()
        self.watched: dict[Path, tuple[Plan, str | None]] = {}  # in order, each with the end of its last attempt
        self.seen: set[Path] = set()  # runs that a worker was making
        self.ask_at, self.gone_at = 0.0, math.inf
        self.stopping = False

    def free(self) -> int:
        """Return 1: the workers take the runs in their order."""
        return 1

    def start(self, plan: Plan) -> None:
        """Follow a run."""
        self.watched[plan.folder] = plan, self.before.setdefault(plan.folder, plan.record().info.get("finished"))

    def submit(self, folder: Path) -> None:
        """Submit the workers, and print how to look at them and how to end them. folder: of the study."""
        self.logs = folder / "slurm"
        storage.make_folder(self.logs)
        self.job, _, cluster = call(["sbatch", "--parsable"], self.text).strip().partition(";")
        self.cluster = ["-M", cluster] if cluster else []  # one of several, of --clusters
        self.ask_at = monotonic() + ASK_SECONDS
        print(f"submitted {self.workers} worker(s) as job {self.job}; their output: {self.logs}")
        print(f"look at them: {in_shell(['squeue', *self.cluster, '-j', self.job])}")
        print(f"end them:     {in_shell(['scancel', *self.cluster, self.job])}", flush=True)

    def news(self, timeout: float) -> list[Event]:
        """Look at the runs that are being made, and at those that come next.

        Raises Interrupted, with exit code 75, if runs are left and no worker is.
        """
        if self.stopping:
            return [Ended(plan, "interrupted", f"goes on in job {self.job}") for plan, _ in self.watched.values()]
        sleep(min(timeout, LOOK_SECONDS))
        if monotonic() > self.ask_at:
            self.ask_at = monotonic() + ASK_SECONDS
            self.gone_at = math.inf if self.has_workers() else min(self.gone_at, monotonic() + LATE_SECONDS)
        gone = monotonic() >= self.gone_at
        coming = list(self.watched)[: 3 * self.workers + 32]
        events = [event for folder in dict.fromkeys([*self.seen, *coming]) if (event := self.look(folder))]
        if gone and not any(isinstance(event, Ended) for event in events) and self.watched:
            print(f"no worker of job {self.job} is left, and {len(self.watched)} run(s) are not done; see {self.logs}")
            raise Interrupted(EXIT_PREEMPTED)
        return events

    def look(self, folder: Path) -> Event | None:
        """Return what a run's folder says that is new."""
        plan, before = self.watched[folder]
        info = plan.record().info
        status, ended = str(info.get("status")), info.get("finished")
        if status in FINAL or (status in ("failed", "oom", "skipped") and ended not in (None, before)):
            del self.watched[folder]
            self.seen.discard(folder)
            return Ended(plan, status, (info.get("error") or {}).get("message", ""))
        with suppress(UserError):  # the next look may succeed
            if status == "running" and storage.is_locked(folder / ".lock"):
                self.seen.add(folder)
                rows = storage.read_rows(plan.record().metrics)
                total = (info.get("schedule") or {}).get("total_steps")
                return Progress(plan, rows[-1]["step"] / total) if rows and total else None
        return None

    def has_workers(self) -> bool:
        """Tell whether a worker waits or runs. A question that SLURM does not answer counts as yes."""
        words = ["squeue", "-h", *self.cluster, "-j", self.job, "-o", "%T"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        unknown = done.returncode != 0 and "Invalid job id" not in done.stderr
        return unknown or any(not line.startswith("CLUSTER:") for line in done.stdout.split("\n") if line.strip())

    def stop(self, now: bool) -> None:
        """Stop following."""
        self.stopping = True

    def close(self) -> None:
        """Do nothing: the workers go on."""

    def describe(self) -> str:
        """Return "2 worker(s) of SLURM, job 17"."""
        return f"{self.workers} worker(s) of SLURM" + (f", job {self.job}" if self.job else "")
