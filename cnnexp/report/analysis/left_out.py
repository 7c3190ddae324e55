"""What a report leaves out and why, in sentences: runs of earlier settings, and how to make them again."""

import shlex

from cnnexp.report.analysis.compare import kind_of
from cnnexp.report.analysis.findings import Findings
from cnnexp.report.read.comparable import NOT_COMPARABLE
from cnnexp.report.read.study import Study
from cnnexp.text import in_shell, plural

OF_ARMS = ("+arm=", "arm=")


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
    words = shlex.split(findings.study.command) if findings.study.command.startswith("cnnexp train ") else []
    apart = any(kind_of(row.verdict) == NOT_COMPARABLE for row in findings.rows)
    apart = apart or any(judged.verdict == NOT_COMPARABLE for judged in findings.judged)
    if not apart or not any(word.startswith("+study=") for word in words):
        return None
    return (
        "Make all arms with the same settings; runs that have them are not repeated:",
        in_shell([word for word in words if not word.startswith(OF_ARMS)]),
    )
