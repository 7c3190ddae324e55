"""`cnnexp.train`, `cnnexp.sweep` and `cnnexp.report`: what the commands of these names do, for a program."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp.api.process import import_matplotlib, server_ended, signals_passed_on, torch_unchanged, unchanged
from cnnexp.api.run import Run
from cnnexp.api.study import Study
from cnnexp.api.words import words_of
from cnnexp.errors import EXIT_DONE, EXIT_INTERRUPTED, Diverged, Incomplete, Interrupted, UserError
from cnnexp.text import at_home, in_shell

if TYPE_CHECKING:
    from cnnexp.config.flags import Request
    from cnnexp.report import Report


def train(*overrides: Any, progress: bool = True, **settings: Any) -> Run:
    """Make one run, or go on with it, or find that it is done; as `cnnexp train` does, with the same run directory.

        run = cnnexp.train(model="custom", aug="full", epochs=3, optimizer={"lr": 5e-4})
        run = cnnexp.train("model=custom", "aug=full", "optimizer.lr=5e-4", "epochs=3")

    overrides: settings as typed on the command line, a text each, or mappings of dotted keys. settings: the same by
    keyword; a dict sets what is below its key, or is the value: unfreeze={"layer4": "2ep"}. docs/settings.md lists all
    of them. `config_dir` names a folder of your own configs. progress: show bars in a notebook or terminal, else a line
    per epoch.

    Returns the run: `run.result`, `run.history`, `run.figure()`. Ctrl-C, or a notebook's stop button, ends it after the
    current step with its state saved, and raises KeyboardInterrupt; the same call goes on from there.
    Raises UserError for a wrong setting, Diverged if the loss is no longer finite, and MemoryError, which says what to
    make smaller. It computes in this process, one run at a time, and leaves the process as it was.
    """
    words = words_of(overrides, settings)
    with unchanged(), translated(words), torch_unchanged(), signals_passed_on():
        from cnnexp.config.composer import compose_run
        from cnnexp.config.user_code import check_as_imported
        from cnnexp.train import check_folder, diverged_before, planned, requested, run
        from cnnexp.training.launched import place_of
        from cnnexp.training.progress import Progress, for_terminal

        request, prepared = requested(words)
        check_no_search(request, words)
        if request.sweep:
            raise UserError(f"{' '.join(words)}: asks for several runs; use cnnexp.sweep")
        if request.prints:
            raise UserError(f"{request.prints[0]}: belongs to the command `cnnexp train`")
        if place := place_of():
            raise UserError(
                f"{place.program}: shares runs of the command `cnnexp train` only; or give device.processes"
            )
        plan = planned(compose_run(prepared))
        check_as_imported(plan.facts["user_code"])
        for needed in plan.chain():
            check_folder(needed)
            record = run(needed, for_terminal() if progress else Progress())
            if record.status == "diverged":
                raise Diverged(f"{needed.label}: {diverged_before(record)}")
    return Run(plan.folder)


def sweep(
    *overrides: Any, budget: str | None = None, fail_fast: bool = False, check: bool = True, **settings: Any
) -> Study:
    """Make every run of a sweep or a study that is not done, in processes of their own; as `cnnexp train -m`.

        study = cnnexp.sweep(study="ablation", seed=[0, 1, 2])
        study = cnnexp.sweep(model={"norm": ["none", "batch"]}, seed=range(5), study={"name": "norm"})

    overrides, settings: as for `cnnexp.train`, but a list is a value for each run, and all combinations are made.
    budget: start no run that would not end in time, such as "30m". fail_fast: start nothing more after a failure.

    Returns the study: `study.table`, `study.report()`, and its runs, one by one. Raises UserError for the first wrong
    setting, before anything is made; Incomplete if runs failed, diverged or are left, unless check=False (its `study`
    has those that were made); KeyboardInterrupt after Ctrl-C, when all runs have saved: the same call goes on.
    """
    words = words_of(overrides, settings, sweep=True)
    words += [f"--budget={budget}"] * (budget is not None) + ["--fail-fast"] * fail_fast
    with unchanged(), translated(words), torch_unchanged(), server_ended():
        from cnnexp.config.compose import outputs_and_study
        from cnnexp.records.names import study_folder
        from cnnexp.sweep.launcher import launch
        from cnnexp.train import requested

        typed, words = words, words if {"-m", "--multirun"} & set(words) else ["-m", *words]
        request, prepared = requested(words)
        check_no_search(request, typed)
        if request.prints or request.plan:
            raise UserError(f"{' '.join(words)}: only prints; use the command `cnnexp train`")
        try:
            code = launch(prepared, request)
        except Interrupted as error:  # nothing on its cluster makes runs any more
            code = error.exit_code
        folder = study_folder(*outputs_and_study(prepared))
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt("the runs are saved; the same call goes on")
    study = Study(folder)
    if code != EXIT_DONE and check:
        raise Incomplete(f"runs failed, diverged or are left ({study!r}); check=False returns the study", study)
    return study


def report(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    baseline: str | None = None,
    figures: bool = True,
) -> "Report":
    """Compare the runs of a study, of one run, or of every study below a folder, and write a page; as `cnnexp report`.

        cnnexp.report("outputs/ablation")

    folder: or the name of a study or run. out: the folder of the page, by default <folder>/report. baseline: the arm
    to compare with, in place of the study's own. figures: False writes tables and page only.
    Returns the report: `index`, the path of the page; `terminal`, the comparison as text, which a notebook shows.
    Raises UserError if there are no runs, no such baseline, or a file that cannot be written.
    """
    from cnnexp.records.find import find_place
    from cnnexp.report import write

    with unchanged():
        import_matplotlib()
        place = None if out is None else Path(at_home(os.fspath(out)))
        options = {"--out": place, "--baseline": baseline}
        words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
        command = in_shell(["cnnexp", "report", os.fspath(folder), *words, *["--no-figures"] * (not figures)])
        return write(find_place(folder), place, baseline, figures, command)


def check_no_search(request: "Request", words: list[str]) -> None:
    """Raise UserError, with the command to type, if words ask for a search."""
    if request.search:
        raise UserError(
            f"+search={request.search}: is made by the command; type: {in_shell(['cnnexp', 'train', *words])}"
        )


@contextmanager
def translated(words: list[str]) -> Iterator[None]:
    """Raise Hydra's and OmegaConf's errors as UserError in one line. words: those of the request."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        from cnnexp.config.hydra_errors import of_a_reader, translate

        if not of_a_reader(error):
            raise
        raise translate(error, ["train", *words]) from None
