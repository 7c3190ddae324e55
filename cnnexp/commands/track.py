"""`cnnexp track`: send the records of runs to TensorBoard, MLflow or W&B. A run never waits for it."""

import logging
import sys
import threading
from pathlib import Path

from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE, EXIT_SOME_FAILED, UserError
from cnnexp.text import plural, visible

EXAMPLES = """\
examples:
  cnnexp track outputs/ablation --to tensorboard        then: tensorboard --logdir outputs/ablation/tensorboard
  cnnexp track outputs/ablation --to mlflow             into outputs/ablation/mlflow.db
  cnnexp track outputs/ablation --to mlflow --place http://localhost:5000     or set MLFLOW_TRACKING_URI
  cnnexp track outputs/ablation --to wandb --follow     offline files, until the last run has ended
"""


def main(argv: list[str]) -> int:
    """Send what the tracker does not have yet; returns 3 if it could not be reached."""
    parser = arguments.parser(
        "track", "Send the records of runs to a tracker. Repeat it at any time: only what is new is sent.", EXAMPLES
    )
    parser.add_argument("folder", metavar="FOLDER", help="a study, or any folder with runs")
    parser.add_argument("--to", required=True, metavar="TRACKER", help="tensorboard, mlflow or wandb")
    parser.add_argument("--place", metavar="PLACE", help="folder, or MLflow's tracking URI; default: in FOLDER")
    parser.add_argument("--follow", action="store_true", help="go on while runs are under way")
    parser.add_argument("--pid", type=int, help="with --follow: go on also as long as this process lives")
    given = parser.parse_args(argv)
    from cnnexp import trackers
    from cnnexp.records.find import find_place
    from cnnexp.records.run_record import find_runs
    from cnnexp.trackers.follow import follow, reason

    trackers.check(given.to)
    folder = Path(given.folder) if given.pid else find_place(given.folder)
    if not given.follow and not find_runs(folder):
        raise UserError(f"{visible(folder)}: holds no runs; runs are made with `cnnexp train`")
    failed, before = "", (threading.excepthook, logging.raiseExceptions)
    threading.excepthook = lambda error: None  # of the library's threads: it raises the same error here
    logging.raiseExceptions = False  # of the library's log files, on a full disk
    try:
        if given.follow:
            failed = follow(folder, given.to, given.place, given.pid)
        else:
            to = trackers.tracker(given.to, folder, given.place)
            runs, rows = trackers.replay(folder, to)
            print(f"{given.to}: {plural(rows, 'new row')} of {plural(runs, 'run')}; {to.place}")
    except Exception as error:  # of the tracker's library
        failed = reason(error)
    finally:
        threading.excepthook, logging.raiseExceptions = before
    if failed:
        again = "" if "the same command" in failed else "; the same command continues"
        print(f"cnnexp: {given.to}: {failed}{again}", file=sys.stderr)
    return EXIT_SOME_FAILED if failed else EXIT_DONE
