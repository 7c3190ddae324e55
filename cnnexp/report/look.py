"""A look at a study: its findings, and an entry in study.json, as each look is another chance of a false verdict."""

from collections.abc import Collection
from pathlib import Path

from cnnexp.records.run_record import RunRecord
from cnnexp.records.study import Crossing, Look, identity, record_look
from cnnexp.report.analysis.decisions import crossings
from cnnexp.report.analysis.findings import Findings, analyse
from cnnexp.report.read.collect import collect, find_groups
from cnnexp.report.read.study import Study
from cnnexp.text import plain


def look(
    folder: Path,
    records: list[RunRecord] | None = None,
    baseline: str | None = None,
    seeds: Collection[int] | None = None,
) -> Findings:
    """Analyse the study of a folder and record the look in its study.json, once for the same runs.

    records: its runs, if they are read already. baseline: in place of the study's own, if it has one: then what is
    decided is not recorded, because these are other tests. seeds: look as if only these were done. If the look cannot
    be recorded, a note says why.
    """
    if records is None:
        ((folder, records),) = find_groups(folder)
    study = collect(folder, records, baseline)
    if seeds is not None:
        study = study.as_of(seeds)
    findings = analyse(study)
    decided, tested = dict[str, Crossing](), dict[str, int]()
    families = findings.families if study.has_own_baseline else ()
    for family in families:
        decided |= crossings(family, findings.decisions)
        tested |= family.planned_tests()
    counts = [] if study.planned_waiting else [family.tests for family in families]
    if problem := record_look(study.folder, Look(seeds_by_arm(study), counts, decided, tested)):
        study.notes.append(f"This look could not be recorded, so that later reports do not count it: {plain(problem)}.")
    return findings


def seeds_by_arm(study: Study) -> dict[str, list[int]]:
    """Return the seeds of every arm, as a look records them."""
    return {identity(arm.name, arm.fingerprint): [run.unit for run in arm.runs] for arm in study.arms}
