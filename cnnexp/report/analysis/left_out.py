"""What a report leaves out and why, in sentences: arms without a result, runs of earlier settings."""

from cnnexp.report.analysis.compare import MAX_REASON, kind_of
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.read.comparable import NOT_COMPARABLE
from cnnexp.report.read.study import Study
from cnnexp.text import in_shell, listed, plain, plural, shell_words, shorten

OF_ARMS = ("+arm=", "arm=")
MAX_ARMS, MAX_REASONS = 6, 3  # of each reason; named in the sentence
OTHERS_THERE = ("superseded", "copy")  # runs whose arm has others, which say more of it


def without_result(study: Study) -> str:
    """Name the arms that no row of the table is about, with a short reason: "No result: dropout (failed: ...).".

    Arms whose runs are under way are not among them. Returns "" if there are none.
    """
    shown = {plain(arm.name) for arm in (*study.arms, *study.under_way)}
    planned = {plain(name) for name in study.schedule.listed}
    why: dict[str, str] = {}
    for run in sorted(study.left_out, key=lambda run: run.status in OTHERS_THERE):
        if run.arm and run.arm not in shown and (run.arm in planned or not planned):
            reason = run.reason if run.status == "not run" else f"{run.status}: {run.reason}"
            why.setdefault(run.arm, shorten(reason, MAX_REASON))
    groups: dict[str, list[str]] = {}
    for arm, reason in why.items():
        groups.setdefault(reason, []).append(arm)
    parts = [f"{listed(arms, MAX_ARMS)} ({reason})" for reason, arms in [*groups.items()][:MAX_REASONS]]
    more = sum(map(len, [*groups.values()][MAX_REASONS:]))
    return f"No result: {'; '.join(parts)}{f' and {more} more' * (more > 0)}." if parts else ""


def superseded(study: Study) -> str:
    """Say how to list, delete or see again the runs whose arms have other settings now; "" if there are none."""
    count = sum(run.status == "superseded" for run in study.left_out)
    if not count:
        return ""
    folder = str(study.folder)
    runs, delete = in_shell(["cnnexp", "runs", folder]), in_shell(["cnnexp", "gc", folder, "--superseded", "--delete"])
    return (
        f"{plural(count, 'superseded run')}: made with earlier settings, data or code. `{runs}` lists them, and "
        f"`{delete}` deletes them. A command with the earlier settings shows them again, and repeats no finished run."
    )


def same_settings(findings: Findings) -> tuple[str, str] | None:
    """Return how to make the arms that cannot be compared comparable, and the command; None if all can, or unknown."""
    words = shell_words(findings.study.command) if findings.study.command.startswith("cnnexp train ") else []
    apart = any(kind_of(row.verdict) == NOT_COMPARABLE for row in findings.rows)
    apart = apart or any(judged.verdict == NOT_COMPARABLE for judged in findings.judged)
    if not apart or not any(word.startswith("+study=") for word in words):
        return None
    return (
        "Make all arms with the same settings; runs that have them are not repeated:",
        in_shell([word for word in words if not word.startswith(OF_ARMS)]),
    )
