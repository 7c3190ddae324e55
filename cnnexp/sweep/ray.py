"""The engine of a Ray cluster: an actor of Ray for each run at a time, which is an `Agent`."""

import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from cnnexp.errors import UserError, one_line
from cnnexp.process.limits import cores
from cnnexp.records.provenance import digest
from cnnexp.storage import presence
from cnnexp.sweep.agent import Agent
from cnnexp.sweep.engine import GRACE_SECONDS, Ended, Event, Lost, Progress
from cnnexp.sweep.isolated import Isolated
from cnnexp.sweep.slots import Slot
from cnnexp.training.plan import Plan
from cnnexp.version import version_of

LOOK_SECONDS = 3.0  # between two looks at the cluster's nodes
ATTEMPTS = 3  # to start an agent
STORE_BYTES = 100_000_000  # Ray's store of objects, of which a sweep has none
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def isolated_engine(cluster: Mapping[str, Any], plans: Sequence[Plan], runs: int) -> Isolated:
    """Return the engine for planned runs. cluster: the node of a config. runs: how many are to be made."""
    folders = list(dict.fromkeys(plan.folder.parent.resolve() for plan in plans))
    kind = plans[0].config["device"]["kind"]
    slot = Slot("cuda:0" if kind.startswith("cuda") else kind, cluster["cpus"])  # the first that Ray makes visible
    environment = {name: value for name, value in os.environ.items() if name.startswith("CNNEXP_")}
    of_agents = slot, folders, presence.own_name(), digest(), Path.cwd(), sys.path, environment
    make = partial(RayEngine, cluster, needs_of(cluster), of_agents, runs)
    return Isolated(make, "the Ray cluster", folders[0] / "ray.log")


def needs_of(cluster: Mapping[str, Any]) -> dict[str, float]:
    """Return what Ray reserves for a run: {"CPU": 1, "GPU": 0.5, "memory": bytes}.

    Raises UserError if Ray is not installed, or cannot reserve that.
    """
    if version_of("ray") is None:
        raise UserError("cluster=ray: Ray is not installed; type: pip install 'cnnexp[ray]'")
    gpus, memory = cluster["gpus"], cluster["memory"]
    if gpus > 1 and gpus != int(gpus):
        raise UserError(f"cluster.gpus: given {gpus}; allowed: a whole number, or a part of one GPU, such as 0.25")
    if (found := re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", memory or "0")) is None:
        raise UserError(f"cluster.memory: given '{memory}'; allowed: a size such as 500M or 16G")
    needs = {"CPU": cluster["cpus"], "GPU": gpus, "memory": int(float(found[1]) * UNITS[found[2]])}
    return {name: need for name, need in needs.items() if need}


def join(address: str) -> None:
    """Join a cluster; with `local`, or with `auto` if none runs here, start one on this machine. Raises UserError."""
    import ray

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    given = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    try:
        if given == "local":
            raise ConnectionError
        if ":" in given:  # Ray itself tries for a minute
            socket.create_connection((given.rpartition(":")[0], int(given.rpartition(":")[2])), 10.0).close()
        ray.init(given, **quiet)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        if given not in ("auto", "local") or not isinstance(error, ConnectionError):
            raise UserError(f"cluster.address: {given} cannot be joined: {one_line(error)}") from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # as in a local sweep; Ray's 15 starves on a busy machine
        ray.init("local", num_cpus=cores(), include_dashboard=False, object_store_memory=STORE_BYTES, **quiet)


class RayEngine:
    """Gives runs to agents, as many at a time as the cluster has room for; see `Engine`. Its calls may hang.

    needs: of a run. of_agents: the arguments of an `Agent`. runs: how many are to be made.
    """

    def __init__(self, cluster: Mapping[str, Any], needs: dict[str, float], of_agents: tuple[Any, ...], runs: int):
        import ray

        join(cluster["address"])
        self.ray, self.needs, self.of_agents = ray, needs, of_agents
        self.fixed = cluster["workers"] != "auto"  # more nodes may come
        self.most = min(cluster["workers"], runs) if self.fixed else runs
        reserved = {"num_cpus": needs["CPU"], "num_gpus": needs.get("GPU", 0), "memory": needs.get("memory")}
        self.agent = ray.remote(max_concurrency=4, scheduling_strategy="SPREAD", **reserved)(Agent)
        self.attempts: dict[Any, int] = {}  # of each agent, at runs
        self.plans: dict[Any, Plan | None] = {}  # of each agent that is ready
        self.calls: dict[Any, tuple[Any, str, tuple[Any, ...]]] = {}  # the agent, method and arguments of an answer
        self.queue: list[Plan] = []
        self.stopping, self.failures, self.size = False, 0, ""
        self.look()

    def look(self) -> None:
        """Start agents where there is room."""
        self.look_at = monotonic() + LOOK_SECONDS
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        room = sum(min(int(node.get(name, 0) / need) for name, need in self.needs.items()) for node in nodes)
        begun, self.size = bool(self.size), f"{len(nodes)} node(s), with room for {room} run(s) at a time"
        if not room and not self.fixed:
            needs = ", ".join(f"{name} {need:g}" for name, need in self.needs.items())
            message = f"cluster=ray: no node of the cluster has what a run needs: {needs}"
            raise RuntimeError(message) if begun else UserError(message)  # all are lost: the command ends with 75
        for _ in range((self.most if self.fixed else min(room, self.most)) - len(self.attempts)):
            agent = self.agent.remote(*self.of_agents)
            self.attempts[agent] = 0
            self.call(agent, "ready")

    def call(self, agent: Any, method: str, *arguments: Any) -> None:
        """Call a method of an agent; `news` gets the answer."""
        self.calls[getattr(agent, method).remote(*arguments)] = agent, method, arguments

    def free(self) -> int:
        """Return the number of agents without a run."""
        return sum(plan is None for plan in self.plans.values()) - len(self.queue)

    def start(self, plan: Plan) -> None:
        """Let the next free agent make a run."""
        self.queue.append(plan)

    def news(self, timeout: float) -> list[Event]:
        """Wait for answers of agents. Raises UserError if one says that its node cannot be used."""
        if self.stopping:
            unmade, self.queue = self.queue, []
            return [Ended(plan, "interrupted", "it had not begun") for plan in unmade] or self.answers(timeout)
        if monotonic() > self.look_at:
            self.look()
        for agent, plan in self.plans.items():
            if plan is None and self.queue:
                self.plans[agent], self.attempts[agent] = self.queue.pop(0), self.attempts[agent] + 1
                self.call(agent, "news", self.attempts[agent], self.plans[agent])
        return self.answers(timeout)

    def answers(self, timeout: float) -> list[Event]:
        """Wait for answers of agents."""
        if not self.calls:
            sleep(timeout)
            return []
        ready, _ = self.ray.wait(list(self.calls), num_returns=len(self.calls), timeout=timeout)
        return [event for reference in ready for event in self.answer(reference, *self.calls.pop(reference))]

    def answer(self, reference: Any, agent: Any, method: str, arguments: tuple[Any, ...]) -> Iterator[Event]:
        """Yield the events of an answer."""
        try:
            answer = self.ray.get(reference)
        except self.ray.exceptions.ActorUnavailableError:  # it may only be out of reach
            self.call(agent, method, *arguments)
        except self.ray.exceptions.RayError as error:
            yield from self.on_end(agent, method, one_line(error))
        else:
            if method == "ready":
                if answer:
                    raise UserError(answer)
                self.plans[agent], self.failures = None, 0
                self.call(agent, "live")
            elif method == "news" and agent in self.plans:
                yield from answer
                if all(isinstance(event, Progress) for event in answer):
                    self.call(agent, method, *arguments)
                else:
                    self.plans[agent] = None

    def on_end(self, agent: Any, method: str, cause: str) -> Iterator[Event]:
        """Forget an agent that has ended. Raises UserError if agents do not even start."""
        known = self.attempts.pop(agent, None) is not None
        self.failures += method == "ready"
        if self.failures > ATTEMPTS:
            raise UserError(f"cluster=ray: no agent starts on the nodes: {cause}")
        if known:
            self.ray.kill(agent)  # if it only raised an error
        if (plan := self.plans.pop(agent, None)) is not None:
            yield Lost(plan, "its node, or its agent there, has ended", "node")

    def stop(self, now: bool) -> None:
        """Ask every agent to stop its run."""
        self.stopping = True
        for agent in self.plans:
            self.call(agent, "stop", now)

    def close(self) -> None:
        """End the agents, and leave the cluster; one that was started here ends."""
        closing = [agent.close.remote() for agent in self.plans]
        self.ray.wait(closing, num_returns=len(closing), timeout=GRACE_SECONDS) if closing else None
        self.ray.shutdown()

    def describe(self) -> str:
        """Return "Ray cluster 10.0.0.1:6379: 2 node(s), with room for 8 run(s) at a time"."""
        return f"Ray cluster {self.ray.get_runtime_context().gcs_address}: {self.size}"
