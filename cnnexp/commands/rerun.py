"""`cnnexp rerun`: repeat a run from its record, in a folder of its own, and compare the numbers."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp.commands import arguments
from cnnexp.commands.arguments import PLACES, PLACES_TYPED
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, Diverged, UserError
from cnnexp.records.fields import FINAL
from cnnexp.records.find import find_run
from cnnexp.records.names import RERUNS
from cnnexp.records.run_record import RunRecord
from cnnexp.text import at_home, in_shell, plain, shell_words, shorten, visible

if TYPE_CHECKING:
    from cnnexp.training.plan import Plan

EXAMPLES = """\
examples:
  cnnexp rerun ablation/baseline/0
  cnnexp rerun RUN --out elsewhere/again data.root=/where/the/images/are/now
  cnnexp rerun RUN --allow my_package.MyNet    a network of your own: run it where its module can be imported

exit codes: 0 the same to the last bit, 3 not (it prints what differs in code, versions, device or data)
"""
STUDY = RERUNS
SAME_CONDITIONS = "code, versions, device and data are unchanged"
EXACT = ("best_epoch", "epochs", "stopped")  # results that are compared, besides losses and accuracies


def main(argv: list[str]) -> int:
    """Repeat a run and compare. Raises UserError if it is not finished, or cannot be repeated here."""
    parser = arguments.parser(
        "rerun", "Repeat a run from its record, in a new folder, and compare the numbers.", EXAMPLES
    )
    parser.add_argument("run", metavar="RUN", help=f"{arguments.RUN}; it is not changed")
    parser.add_argument(
        "places", nargs="*", default=[], metavar="KEY=VALUE", help=f"{PLACES_TYPED}: the data has moved"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"the new run (default: outputs/{STUDY}/<run>)")
    arguments.add_device(parser, None, "default: the recorded kind")
    given = parser.parse_intermixed_args(argv)
    original = find_run(given.run)
    if original.status not in FINAL:
        fix = f"; finish it with: {original.info['repeat']}" if "repeat" in original.info else ""
        raise UserError(f"{given.run}: the run is {original.status}, so there is nothing to compare with{fix}")
    check_numbers(original)
    plan = plan_again(original, given.places, given.device, given.allow, in_shell(["cnnexp", STUDY, *argv]))
    plan.folder = given.out or free_folder(original, plan)
    if not is_free(plan.folder, plan):
        raise UserError(f"--out: {plan.folder} holds something else; name a folder that does not exist yet")
    return print_comparison(original, train(plan))


def print_comparison(original: RunRecord, again: RunRecord) -> int:
    """Print how two runs differ, and what changed between them; returns the exit code."""
    print(f"original  {visible(original.folder)}\nrerun     {visible(again.folder)}")
    reasons = [f"  {visible(line)}" for line in changed(original, again)]
    if differences := compare(original, again):
        lines = ["not the same:", *(f"  {visible(line)}" for line in differences)]
        lines += ["changed since then:", *reasons] if reasons else [SAME_CONDITIONS]
        print("\n".join([*lines, *undetermined(again)]))
        return EXIT_SOME_FAILED
    rows = len(original.rows()) + len(original.rows("step"))
    logits = "{} x {} test logits".format(*original.predictions()["logits"].shape) if original.is_tested else ""
    print(f"the same to the last bit: {rows} metric rows{' and ' * bool(logits)}{logits}")
    if reasons:
        print("\n".join(["although this has changed:", *reasons]))
    return EXIT_DONE


def check_numbers(record: RunRecord) -> None:
    """Raise UserError, before anything is trained, if the numbers to compare with are damaged."""
    record.rows()
    if record.is_tested:
        record.predictions()


def plan_again(record: RunRecord, places: list[str], device: str | None, allow: list[str], command: str) -> "Plan":
    """Plan a run from a recorded config. Raises UserError for what a record may not build, or what is missing here."""
    from cnnexp.training.allowed import confined_data

    config = record.config()
    check_nodes(config, allow)
    for word in places:
        key, _, value = word.partition("=")
        if key not in PLACES or not value:
            raise UserError(f"{word}: allowed: {PLACES_TYPED}; all else is recorded")
        config["data"][key.removeprefix("data.")] = at_home(value)
    config["data"] = confined_data(config["data"], {word.partition("=")[0] for word in places}, allow)
    if isinstance(weights := config["model"].get("weights"), dict):  # a record has the path that the mapping led to
        raise UserError(f"model.weights: given {weights!r}; allowed in a record: imagenet, none, a checkpoint or a run")
    config["study"] = {**config["study"], "name": STUDY}
    if config.get("search"):
        config["search"] = of_search(record)
    recorded = record.info.get("device") or {}
    config["device"]["kind"] = device or recorded.get("kind") or config["device"]["kind"]

    from cnnexp.config import checks
    from cnnexp.training.plan import plan

    checks.check(config)
    words = shell_words(str(record.info.get("repeat", "")))[2:]
    again = plan(config, words, list(record.info.get("changes") or []), command)
    again.fingerprint, again.continues = fingerprint(again), None
    return again


def of_search(record: RunRecord) -> dict[str, Any]:
    """Return the `search` node for the rerun of a trial: it asks no other trials, and ends where a pruned one ended."""
    result = record.info.get("result") or {}
    if result.get("stopped") == "pruned" and type(result.get("epochs")) is int:
        return {"prune": True, "pruned_after": result["epochs"]}
    return {"prune": False}


def check_nodes(config: dict[str, Any], allow: list[str]) -> None:
    """Raise UserError if a node of a recorded config is missing, or builds what is not allowed."""
    from cnnexp.config.schema import CLOSED, GIVEN
    from cnnexp.training import allowed

    for name in (*GIVEN, *CLOSED):
        if not isinstance(config.get(name), dict):
            raise UserError(f"config.yaml: {name} is missing")
    allowed.check_nodes(config, allow)


def fingerprint(plan: "Plan") -> str:
    """Return the fingerprint as the original's plan made it: of upstream weights by the name of their run."""
    from cnnexp.config.fingerprint import fingerprint_of

    upstream = RunRecord.read(Path(str(plan.config["model"].get("weights")))).info
    if not upstream:
        return plan.fingerprint
    facts = {**copy.deepcopy(plan.facts), "weights": f"{upstream.get('fingerprint')}-s{upstream.get('seed')}"}
    return fingerprint_of(plan.config, facts)


def free_folder(original: RunRecord, plan: "Plan") -> Path:
    """Return outputs/rerun/<name>, or the first <name>-2, -3, ... that is free."""
    number, folder = 1, Path("outputs") / STUDY / original.name
    while not is_free(folder, plan):
        number += 1
        folder = folder.with_name(f"{original.name}-{number}")
    return folder


def is_free(folder: Path, plan: "Plan") -> bool:
    """Return whether a folder is missing, empty, or holds an unfinished rerun of this plan, to be continued."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return True
    info = RunRecord.read(folder).info
    same = (info.get("study"), info.get("fingerprint"), info.get("seed")) == (STUDY, plan.fingerprint, plan.seed)
    return same and info["status"] not in FINAL


def train(plan: "Plan") -> RunRecord:
    """Train in this process; a run that diverges is a result too."""
    from cnnexp.training.progress import for_terminal
    from cnnexp.training.run import run

    try:
        return run(plan, for_terminal())
    except Diverged:
        return plan.record()


def compare(first: RunRecord, second: RunRecord) -> list[str]:
    """Describe how the numbers of two runs differ: metric rows, test logits, results; [] if they are the same bits."""
    from cnnexp.records.identical import first_difference

    found = []
    if first.status != second.status:
        found.append(f"status: {first.status} then, {second.status} now")
    if rows := first_difference(first, second, ("the original", "the rerun")):
        found.append(f"metric rows: {rows}")
    if first.is_tested or second.is_tested:
        found += same_logits(first, second)
    then, now = (run.info.get("result") or {} for run in (first, second))
    keys = [key for key in {**then, **now} if key in EXACT or key.endswith(("_loss", "_accuracy"))]
    return found + [f"{key}: {then.get(key)} then, {now.get(key)} now" for key in keys if then.get(key) != now.get(key)]


def same_logits(first: RunRecord, second: RunRecord) -> list[str]:
    """Describe how the test logits of two runs differ; [] if they are the same bits."""
    import numpy as np

    try:
        then, now = first.predictions(), second.predictions()
    except UserError as error:
        return [str(error)]
    if list(then["ids"]) != list(now["ids"]) or then["logits"].shape != now["logits"].shape:
        return ["test images: not the same ones"]
    if np.array_equal(then["logits"], now["logits"], equal_nan=True):
        return []
    largest = np.abs(then["logits"].astype(np.float64) - now["logits"]).max()
    return [f"test logits: the largest difference is {largest:.3g}"]


def changed(original: RunRecord, again: RunRecord) -> list[str]:
    """Describe what changed between two runs in code, versions, device and data."""
    from cnnexp.commands.diff import environment_rows, other_kernels

    rows = environment_rows(original, again)
    found = [f"{key}: {shorten(plain(then), 60)} then, {shorten(plain(now), 60)} now" for key, then, now, _ in rows]
    if line := other_kernels(original, again, ("then", "now")):
        found.append(line)
    if original.info.get("earlier"):
        found.append("code: the original was resumed under another version than it was started with")
    if not found and original.info.get("fingerprint") != again.info.get("fingerprint"):
        found.append("your own code, or the weights that the run starts from (the fingerprint differs)")
    return found


def undetermined(run: RunRecord) -> list[str]:
    """Explain why two runs under the same conditions may differ: on CUDA, unless device.deterministic is true."""
    device = run.config()["device"]
    if (run.info.get("device") or {}).get("kind") != "cuda" or device.get("deterministic"):
        return []
    return ["device.deterministic is false, so two runs on cuda may differ in the last bits"]
