"""`cnnexp rerun`: repeat a run from its record, beside it, and say whether the same numbers came out."""

import argparse
import copy
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp.config.schema import CLOSED
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, Diverged, UserError
from cnnexp.records.run_record import FINAL, RunRecord, one_run
from cnnexp.text import visible

if TYPE_CHECKING:
    from cnnexp.training.plan import Plan

EXAMPLES = """\
examples:
  cnnexp rerun outputs/ablation/baseline-s0-1a2b3c4d5e
  cnnexp rerun RUN --out elsewhere/again data.root=/where/the/images/are/now
  cnnexp rerun RUN --allow my_package.MyNet    a network of your own: run where its module can be imported

exit codes: 0 the same to the last bit, 3 not (what differs in code, versions, device or data is named)
"""
STUDY = "rerun"
PLACES = ("data.root", "data.cache")
SAME_MACHINE = "code, versions, device and data are as they were"
UNTIMED = ("best_epoch", "epochs", "stopped")  # and every loss and accuracy


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(
        prog="cnnexp rerun",
        description="Repeat a run from its record, in a folder of its own, and compare the numbers.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("run", type=Path, metavar="RUN", help="a run directory; it stays as it is")
    arguments.add_argument(
        "places", nargs="*", default=[], metavar="KEY=VALUE", help="data.root=DIR, data.cache=DIR: moved data"
    )
    arguments.add_argument("--out", type=Path, metavar="DIR", help=f"the new run (default: outputs/{STUDY}/<run>)")
    arguments.add_argument("--device", metavar="KIND", help="cpu, cuda, mps, cuda:1; without it the recorded kind")
    arguments.add_argument("--allow", action="append", default=[], metavar="TARGET", help="let its config build this")
    return arguments


def main(argv: list[str]) -> int:
    """Repeat a run and compare. Raises UserError if it is not finished, or cannot be made here."""
    given = parser().parse_intermixed_args(argv)
    original = one_run(given.run)
    if original.status not in FINAL:
        go_on = f"; finish it with: {original.info['repeat']}" if "repeat" in original.info else ""
        raise UserError(f"{given.run}: the run is {original.status}, so there is nothing to compare with{go_on}")
    check_numbers(original)
    plan = planned(original, given.places, given.device, given.allow, shlex.join(["cnnexp", STUDY, *argv]))
    plan.folder = given.out or free_folder(original, plan)
    if not is_free(plan.folder, plan):
        raise UserError(f"--out: {plan.folder} holds something else; name a folder that is not there yet")
    again = made(plan)
    print(f"original  {visible(original.folder)}\nrerun     {visible(again.folder)}")
    reasons = [f"  {visible(line)}" for line in changed(original, again)]
    if differences := compare(original, again):
        print("\n".join(["not the same:", *(f"  {visible(line)}" for line in differences)]))
        print("\n".join(["not as it was:", *reasons] if reasons else [SAME_MACHINE]))
        print("".join(f"{line}\n" for line in undetermined(again)), end="")
        return EXIT_SOME_FAILED
    rows = len(original.rows()) + len(original.rows("step"))
    print(f"the same to the last bit: {rows} metric rows{logits_in_words(original)}")
    if reasons:
        print("\n".join(["although not all is as it was:", *reasons]))
    return EXIT_DONE


def check_numbers(record: RunRecord) -> None:
    """Raise UserError if there is nothing whole to compare with: told before anything is trained."""
    record.rows()
    if record.status == "done":
        record.predictions()


def undetermined(run: RunRecord) -> list[str]:
    """Say why two runs may differ although all is as it was: on CUDA, unless device.deterministic is true."""
    device = run.config()["device"]
    if (run.info.get("device") or {}).get("kind") != "cuda" or device.get("deterministic"):
        return []
    return ["device.deterministic is false, so two runs on cuda may differ in the last bits"]


def planned(record: RunRecord, places: list[str], device: str | None, allow: list[str], command: str) -> "Plan":
    """Turn a recorded config into a Plan. Raises UserError for what a record may not build, or what is not here."""
    from cnnexp.training.inference import elsewhere

    config = record.config()
    check_nodes(config, allow)
    for word in places:
        key, _, value = word.partition("=")
        if key not in PLACES or not value:
            raise UserError(f"{word}: allowed: {', '.join(f'{place}=DIR' for place in PLACES)}; all else is recorded")
        config["data"][key.removeprefix("data.")] = value
    config["data"] = elsewhere(config["data"], {word.partition("=")[0] for word in places}, allow)
    if isinstance(weights := config["model"].get("weights"), dict):  # a run's own record names what it came to be
        raise UserError(f"model.weights: given {weights!r}; allowed in a record: imagenet, none, a checkpoint or a run")
    config["study"] = {**config["study"], "name": STUDY}
    recorded = record.info.get("device") or {}
    config["device"]["kind"] = device or recorded.get("kind") or config["device"]["kind"]

    from cnnexp.config import compose as configs
    from cnnexp.training.plan import plan

    configs.check(config)
    words = shlex.split(str(record.info.get("repeat", "")))[2:]
    again = plan(config, words, list(record.info.get("changes") or []), command)
    again.fingerprint = fingerprint(again)
    return again


def check_nodes(config: dict[str, Any], allow: list[str]) -> None:
    """Check what is to be built of a recorded config. Raises UserError for a node that is missing, or not allowed."""
    from cnnexp.config import compose as configs
    from cnnexp.training import allowed as fence

    for name in (*configs.GIVEN, *CLOSED):
        if not isinstance(config.get(name), dict):
            raise UserError(f"config.yaml: {name} is missing")
    fence.check_nodes(config, allow)


def free_folder(original: RunRecord, plan: "Plan") -> Path:
    """Return outputs/rerun/<name>, or the first <name>-2, -3, ... that is free."""
    number, folder = 1, Path("outputs") / STUDY / original.name
    while not is_free(folder, plan):
        number += 1
        folder = folder.with_name(f"{original.name}-{number}")
    return folder


def is_free(folder: Path, plan: "Plan") -> bool:
    """Tell whether a folder is not there, empty, or holds a rerun of the same that was not finished: it goes on."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return True
    info = RunRecord.read(folder).info
    same = (info.get("study"), info.get("fingerprint"), info.get("seed")) == (STUDY, plan.fingerprint, plan.seed)
    return same and info["status"] not in FINAL


def made(plan: "Plan") -> RunRecord:
    """Make the run in this process; one that diverges is a result too."""
    from cnnexp.training.progress import for_terminal
    from cnnexp.training.run import run

    try:
        return run(plan, for_terminal())
    except Diverged:
        return plan.record()


def compare(first: RunRecord, second: RunRecord) -> list[str]:
    """Say how the numbers of two runs differ: metric rows, test logits, results; [] if they are the same bits."""
    from cnnexp.commands.diff import parting
    from cnnexp.records.identical import untimed

    said = []
    if first.status != second.status:
        said.append(f"status: {first.status} then, {second.status} now")
    if json.dumps(untimed(first)) != json.dumps(untimed(second)):  # as text, for nan is not nan
        said.append(f"metric rows: {parting(first, second).replace('a goes on', 'the original goes on')}")
    said += [] if "done" not in (first.status, second.status) else same_logits(first, second)
    then, now = (run.info.get("result") or {} for run in (first, second))
    keys = [k for k in {**then, **now} if k in UNTIMED or k.endswith(("_loss", "_accuracy"))]
    return said + [f"{key}: {then.get(key)} then, {now.get(key)} now" for key in keys if then.get(key) != now.get(key)]


def same_logits(first: RunRecord, second: RunRecord) -> list[str]:
    """Say how the test logits of two runs differ."""
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


def logits_in_words(run: RunRecord) -> str:
    """Return " and 300 x 10 test logits", "" for a run without them."""
    if run.status != "done":
        return ""
    return " and {} x {} test logits".format(*run.predictions()["logits"].shape)


def changed(original: RunRecord, again: RunRecord) -> list[str]:
    """Say what code, versions, device and data were then, where they are others now."""
    from cnnexp.commands.diff import environment_rows
    from cnnexp.text import plain, shorten

    rows = environment_rows(original, again)
    said = [f"{key}: {shorten(plain(then), 60)} then, {shorten(plain(now), 60)} now" for key, then, now, _ in rows]
    if original.info.get("earlier"):
        said.append("code: the original was resumed under another version than it was begun with")
    if not said and original.info.get("fingerprint") != again.info.get("fingerprint"):
        said.append("your own code, or the weights that it starts from (the fingerprint is another one)")
    return said


def fingerprint(plan: "Plan") -> str:
    """Return the fingerprint as the original's plan made it: from a run's weights by its name, not by their hash."""
    from cnnexp.config import compose as configs

    upstream = RunRecord.read(Path(str(plan.config["model"].get("weights")))).info
    if not upstream:
        return plan.fingerprint
    facts = {**copy.deepcopy(plan.facts), "weights": f"{upstream.get('fingerprint')}-s{upstream.get('seed')}"}
    return configs.fingerprint(plan.config, facts)
