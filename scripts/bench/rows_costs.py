"""Rows about what may be turned off: checkpoints, rows of steps, a hash chain, probes."""

from collections.abc import Mapping, Sequence

from bench.lab import Lab
from bench.result import Check, Failed, NotMeasured, Result, Series
from bench.rows_training import COMPACT
from bench.runs import in_turn, prepare
from bench.trees import read_by_cnnexp, subset

# What looking costs: a row of the table each, against a run with none of them. Add a probe here.
PROBES = {
    "checkpoint every epoch": ["checkpoint.every=1ep"],
    "checkpoint as by default": ["checkpoint.every=auto"],
    "a row for every step": ["checkpoint.every=1000ep", "log.steps=1st"],
    "a hash chain": ["checkpoint.every=1000ep", "log.hash_chain=true"],
    "probes=none, typed": ["checkpoint.every=1000ep", "probes=none"],
    **{
        f"probes={name}": ["checkpoint.every=1000ep", f"probes={name}"]
        for name in ("gradients", "updates", "activations", "dead_units", "batch_norm", "all")
    },
}
NO_PROBES = ["checkpoint.every=1000ep"]
MANY = 8  # times as many repeats of what takes seconds and is held to a bound


def probes(lab: Lab) -> Result:
    """C9: what checkpoints, rows of steps, a hash chain and looks inside the training cost, once an epoch."""
    trained = [*COMPACT, "device.precision=fp32", f"epochs={lab.trained(3)}ep"]
    sets = {name: [f"data={name}", *trained, "batch_size=32"] for name in ("shapes", "textures")}
    result = Result({})
    try:
        tree = subset(lab, "imagenette", lab.pick(2000, 300), lab.pick(500, 50))
        sets["imagenette 64 px"] = [*read_by_cnnexp(tree, 64), *trained]
    except NotMeasured as reason:
        result.facts["imagenette 64 px"] = str(reason)
    for data, base in sets.items():
        none = f"{data}: none of them"
        cases = {f"{data}: {name}": [*base, *overrides] for name, overrides in PROBES.items()}
        take_turns(lab, result, data, {none: [*base, *NO_PROBES], **cases}, lab.repeated(3))
        add_shares(result.series, none)
        result.checks += [Check(case, "percent", None, "loop_seconds", case, none) for case in cases]
    return result


def add_shares(series: Series, none: str) -> None:
    """Add what share of its loop each probe, chain of hashes or checkpoint takes by its own clock, in percent.

    none: the case without any, which has the last checkpoint alone. Whole loops differ by more than most of these cost.
    """
    for case, own in series.items():
        if not case.startswith(none.partition(":")[0]):
            continue
        if metric := next((name for name in ("probes_seconds", "hash_chain_seconds") if name in own), None):
            seconds = own[metric]
        elif "checkpoint" in case:
            saves, last = own["checkpoint_seconds"], series[none]["checkpoint_seconds"]
            seconds = [a - b for a, b in zip(saves, last, strict=True)]
        else:
            continue
        own["own_share_percent"] = [100 * a / b for a, b in zip(seconds, own["loop_seconds"], strict=True)]


def safety(lab: Lab) -> Result:
    """What checkpoints cost as they are by default, against a run that saves at its end alone.

    The wide network's has 2.5 GB with Adam: more than any other network here.
    """
    sets = {"embedded study": ["data=shapes", "model=custom", "model.norm=batch", f"epochs={lab.trained(10)}ep"]}
    result = Result({})
    try:
        tree = subset(lab, "imagenette", lab.pick(712, 200), lab.pick(500, 50))
        wide = ["model=conv3_wide", "model.norm=batch", "data.train_limit=300", "data.test_limit=50", "batch_size=32"]
        sets["wide network, 160 px"] = [*read_by_cnnexp(tree, lab.pick(160, 32)), *wide, f"epochs={lab.trained(2)}ep"]
    except NotMeasured as reason:
        result.facts["wide network, 160 px"] = str(reason)
    for name, words in sets.items():
        overrides = [*words, "device=cpu", "device.precision=fp32"]
        kept, none = f"{name}: as by default", f"{name}: at the end alone"
        times = lab.repeated(3) * (MANY if name == "embedded study" and not lab.quick else 1)
        take_turns(lab, result, name, {kept: overrides, none: [*overrides, *NO_PROBES]}, times)
        result.facts[f"repeats, {name}"] = times
        add_saves(result, name)
    return result


def take_turns(lab: Lab, result: Result, name: str, cases: Mapping[str, Sequence[str]], repeats: int) -> None:
    """Train the cases in turn in one process, and put what they took into the result."""
    try:
        prepare(lab, next(iter(cases.values())))
        told = in_turn(lab, result, name, "turns.py", {"cases": cases, "repeats": repeats})
    except Failed as failure:
        result.problems[name] = str(failure)
        return
    for case in cases:
        result.series[case] = {metric: [repeat[case][metric] for repeat in told] for metric in told[0][case]}


def add_saves(result: Result, name: str) -> None:
    """Compare the loop with what it would take without the seconds for which its saves keep it, all but the last save.

    Beside it stands the difference of the whole loops, which holds what saving does to the training beside it.
    """
    kept, none, less = f"{name}: as by default", f"{name}: at the end alone", f"{name}: as by default, less its saves"
    if kept not in result.series or none not in result.series:
        return
    own, end = result.series[kept], result.series[none]
    saves = [a - b for a, b in zip(own["checkpoint_seconds"], end["checkpoint_seconds"], strict=True)]
    result.series[less] = {"loop_seconds": [a - b for a, b in zip(own["loop_seconds"], saves, strict=True)]}
    result.checks += [
        Check(f"{name}: for which the loop waits", "percent", 3.0, "loop_seconds", kept, less),
        Check(f"{name}: whole loop", "percent", 3.0, "loop_seconds", kept, none),
    ]
