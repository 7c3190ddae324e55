"""`cnnexp gc`: list what no study needs any more, with its size, and delete it on request. Imports no torch."""

import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from cnnexp import storage
from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, UserError
from cnnexp.records import run_record as record
from cnnexp.records.fields import FINAL, FINAL_STATE, RESUME_FILES
from cnnexp.records.find import find_place
from cnnexp.records.run_record import RunRecord
from cnnexp.records.table import is_superseded
from cnnexp.storage.untrusted import checked_file
from cnnexp.text import mib, plain

EXAMPLES = """\
kinds:
  superseded    runs whose arm has another config in study.json now; with their results
  checkpoints   of runs that failed, ran out of memory, were skipped or interrupted: they would start from the beginning
  final         the state at the end of done runs; without it a run with more epochs starts anew
  leftovers     resume files of runs that are done or diverged; temporary files older than an hour
  cache         prepared images that this version cannot use, or that were never finished
  outdated      prepared images of a folder that has changed since, or is gone; pages of earlier runs show these images
  compiled      code that torch's compiler made for device.compile; skipped while a run of FOLDER is in progress

examples:
  cnnexp gc                                     list; nothing is deleted
  cnnexp gc outputs/ablation --superseded       list one kind
  cnnexp gc --leftovers --cache --delete        delete these
"""
KINDS = ("superseded", "checkpoints", "final", "leftovers", "cache", "outdated", "compiled")
HARMLESS = ("leftovers", "cache")  # deleted by --delete alone: no result and no resumed run needs them
STOPPED = ("failed", "oom", "skipped", "interrupted")
OF_RUNS = (  # kinds of files of runs: of runs with which status, their names, and why they can be deleted
    ("checkpoints", STOPPED, ("*.pt",), "{}; without it the run starts from the beginning"),
    ("final", ("done",), (FINAL_STATE,), "more epochs could go on from it"),
    ("leftovers", FINAL, RESUME_FILES, "the run is {}"),
)
MIN_AGE_SECONDS = 3600.0  # a temporary file lives for about a second; an old one was left by a killed process


@dataclass(frozen=True)
class Item:
    """A file or folder that can be deleted, and why. run: its run; lock: a process that holds it needs the item."""

    kind: str
    path: Path
    why: str
    run: RunRecord | None = None
    lock: Path | None = None


def main(argv: list[str]) -> int:
    """List what can be deleted, and delete it if asked to; 3 if something could not be deleted."""
    parser = arguments.parser(
        "gc", "List what no study needs any more, with its size. Runs that a process is using are skipped.", EXAMPLES
    )
    parser.add_argument("folder", nargs="?", default="outputs", metavar="FOLDER")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", action="store_true", help="only this kind; several can be given")
    parser.add_argument("--delete", action="store_true", help="delete the named kinds, or else leftovers and cache")
    given = parser.parse_args(argv)
    named = {kind for kind in KINDS if getattr(given, kind)}
    deleted = named or set(HARMLESS)
    kinds = deleted if given.delete else named or set(KINDS)
    items = [(item, storage.size_bytes(item.path)) for item in find(find_place(given.folder), kinds)]
    for item, size in items:
        print(f"{mib(size):>13}  {item.kind:11}  {plain(item.path)}  ({plain(item.why)})")
    total = sum(size for _, size in items)
    if not given.delete:
        end = " can be deleted; nothing was: use --delete" if items else ": there is nothing to delete"
        if asked := sorted({item.kind for item, _ in items} - deleted):
            end += f" (for {' and '.join(asked)} add --{' --'.join(asked)})"
        print(f"{mib(total):>13}{end}")
        return EXIT_DONE
    freed, kept = 0, 0
    for item, size in items:
        if reason := delete(item):
            kept += 1
            print(f"cnnexp: {plain(item.path)}: not deleted ({plain(reason)})", file=sys.stderr)
        else:
            freed += size
    print(f"{mib(freed):>13} freed")
    return EXIT_SOME_FAILED if kept else EXIT_DONE


def delete(item: Item) -> str:
    """Delete an item, unless it is in use or its run has changed since it was found; return the reason, or ""."""
    try:
        with storage.lock(item.lock) if item.lock else nullcontext():
            if item.run is not None and RunRecord.read(item.run.folder).info != item.run.info:
                return "its run has changed meanwhile"
            storage.remove(item.path)
    except OSError as error:
        return f"cannot be deleted: {error.strerror}"
    except UserError as error:  # it is locked, or its lock is no file
        return str(error)
    return ""


def find(folder: Path, kinds: set[str]) -> list[Item]:
    """Return what can be deleted of some kinds, each file once. Raises UserError if there is no such folder."""
    every = record.find_runs(folder)
    held = {run.folder for run in every if storage.is_locked(run.folder / ".lock")}
    free = [run for run in every if not run.problem and run.folder not in held]
    items = superseded(free, every) if "superseded" in kinds else []
    rest = [run for run in free if run.folder not in {item.path for item in items}]
    for kind, of, patterns, why in OF_RUNS:
        items += [
            Item(kind, file, why.format(run.status), run, run.folder / ".lock")
            for run in (rest if kind in kinds else [])
            if run.status in of
            for pattern in patterns
            for file in _checkpoints(run, pattern)
        ]
    if "leftovers" in kinds:
        excluded = {run.folder for run in every} - {run.folder for run in rest}
        items += temporary(folder, excluded)
    items += unusable_cache() if "cache" in kinds else []
    items += outdated_cache() if "outdated" in kinds else []
    return items + (compiled() if "compiled" in kinds and not held else [])


def _checkpoints(run: RunRecord, pattern: str) -> list[Path]:
    """Return a run's checkpoints; none if the folder is a link, because its target is not the run's."""
    folder = run.folder / "checkpoints"
    return [] if folder.is_symlink() else sorted(folder.glob(pattern))


def superseded(runs: list[RunRecord], every: list[RunRecord]) -> list[Item]:
    """Return those of `runs` whose arm has another config in study.json now, except what a run of `every` starts from.

    every: also runs that are under way, or whose run.json cannot be read.
    """
    configs = {run.folder: _config_text(run) for run in every}
    items = []
    for run in runs:
        needed = any(run.name in text for folder, text in configs.items() if folder != run.folder)
        needed = needed or any(run.folder in other.folder.parents for other in every)
        if is_superseded(run) and not needed:
            items.append(Item("superseded", run.folder, f"{run.status}", run, run.folder / ".lock"))
    return items


def _config_text(run: RunRecord) -> str:
    try:
        return checked_file(run.folder, "config.yaml").read_text(encoding="utf-8", errors="replace")
    except (OSError, UserError):
        return ""


def temporary(folder: Path, excluded: set[Path]) -> list[Item]:
    """Return the drafts of files that killed processes left behind, except those in the run directories `excluded`."""
    items = []
    for file in sorted(storage.drafts_below(folder)):
        with suppress(FileNotFoundError):  # its process has finished it meanwhile
            old = time.time() - file.lstat().st_mtime > MIN_AGE_SECONDS
            if old and file.is_file() and not excluded & set(file.parents):
                items.append(Item("leftovers", file, "left by a process that was killed"))
    return items


def unusable_cache() -> list[Item]:
    """Return the prepared data sets in the cache that this version cannot open or that were never finished."""
    from cnnexp.data.cache import cached, load

    items = []
    for folder, _ in cached(None):
        name = folder.name.removeprefix(".").removesuffix(".tmp")
        lock = folder.parent / f".{name}.lock"
        if (folder.name != name or load(folder) is None) and not storage.is_locked(lock):
            items.append(Item("cache", folder, "unfinished, damaged or of another version", lock=lock))
    return items


def outdated_cache() -> list[Item]:
    """Return the prepared data sets whose images have changed since, or are gone."""
    from cnnexp.data.cache import cached, load
    from cnnexp.data.outdated import why_outdated

    items = []
    for folder, _ in cached(None):
        lock = folder.parent / f".{folder.name}.lock"
        if folder.name[0] != "." and not storage.is_locked(lock) and load(folder) and (why := why_outdated(folder)):
            items.append(Item("outdated", folder, why, lock=lock))
    return items


def compiled() -> list[Item]:
    """Return the folder of compiled code, if there is one."""
    from cnnexp.data.cache import compiled_folder

    folder = compiled_folder(None)
    return [Item("compiled", folder, "a later run of the same network starts faster")] if folder.is_dir() else []
