"""Whether a difference between two arms is one of what they set, or also of a setting that neither sets.

The runs of a study whose file has changed have other settings than those before: such arms are not compared.
"""

from collections.abc import Collection, Iterable, Sequence

from cnnexp.config.keys import Purpose, counts, is_below
from cnnexp.records.identical import varying
from cnnexp.report.read.runs import Run
from cnnexp.report.read.study import Arm
from cnnexp.text import plain, shorten

NOT_COMPARABLE = "not comparable"  # what a verdict begins with
PURPOSES: tuple[Purpose, ...] = ("fingerprint", "difference", "effect")  # a key that counts for all can bar a verdict
SETS_ANY = ("data", "preset")  # groups whose files may set any key
CHOICES = {"model", "model.name", "model._target_"}  # changes that choose a network
OF_MODEL = ("data.size", "data.normalize")  # what a network's own config may set
TIMM = "cnnexp.models.zoo.timm_model"  # the one shipped builder that does
MAX_KEYS, MAX_KEY, MAX_VALUE = 2, 40, 24  # settings in a verdict; characters of a key and of a value


def beyond(arm: Run, baseline: Run) -> tuple[list[str], list[str]]:
    """Return the keys in which an arm's config differs from the baseline's, without the arm's own changes.

    First those that neither changes: the two were made by different commands. Then those that only the baseline
    changes: a second difference. Both are [] if a config cannot be read.
    """
    same = (arm.get("fingerprint"), arm.seed) == (baseline.get("fingerprint"), baseline.seed)
    if same or arm.settings is None or baseline.settings is None:
        return [], []
    own, of_baseline = _changed(arm), _changed(baseline)
    keys = [key for key in varying([arm.settings, baseline.settings]) if counts(key, "difference")]
    keys = [key for key in keys if not _is_set_by(key, own)]
    second = [key for key in keys if _is_set_by(key, of_baseline)]
    return [key for key in keys if key not in second], second


def settings_apart(arm: Arm, other: Arm) -> list[str]:
    """Return the settings that neither of two arms sets, in which their runs differ, and which can change a result.

    Arms of one name are separate because of these settings, so there are none between them.
    """
    if arm is other or arm.name == other.name or not arm.runs or not other.runs:
        return []
    first, second = arm.runs[0], other.runs[0]
    changed = _changed(first) | _changed(second)
    if any(group in changed for group in SETS_ANY):
        return []
    keys, _ = beyond(first, second)
    keys = [key for key in keys if all(counts(key, purpose) for purpose in PURPOSES)]
    of_model = OF_MODEL if any(map(_chooses_images, (first, second))) else ()
    return [key for key in keys if not is_below(key, of_model)]


def why_not(arm: Arm, other: Arm) -> str:
    """Return "not comparable: epochs 3ep and 6ep" of two arms with different settings that neither sets, else ""."""
    keys = settings_apart(arm, other)
    return f"{NOT_COMPARABLE}: {described(keys, arm, other)}" if keys else ""


def why_not_all(arms: Sequence[Arm]) -> str:
    """Return which two of these arms cannot be compared, and why; "" if all can."""
    for place, arm in enumerate(arms):
        for other in arms[:place]:
            if keys := settings_apart(other, arm):
                return f"{NOT_COMPARABLE}: {other.label} and {arm.label}, {described(keys, other, arm)}"
    return ""


def not_compared(arms: Iterable[Arm], baseline: Arm) -> dict[str, list[Arm]]:
    """Return {"epochs 3ep and 6ep": the arms that cannot be compared with the baseline for this reason}."""
    found: dict[str, list[Arm]] = {}
    for arm in arms:
        if keys := settings_apart(arm, baseline):
            found.setdefault(described(keys, arm, baseline), []).append(arm)
    return found


def described(keys: Sequence[str], arm: Arm, other: Arm) -> str:
    """Return "epochs 3ep and 6ep; data.size 8 and 16": the settings with the values of both arms."""
    return _described(keys, arm.runs[0], other.runs[0], " and ")


def now_other(run: Run, present: Run) -> str:
    """Return "epochs 3ep, now 6ep": the settings of a run that a present one of its arm has otherwise; "" if none."""
    if run.settings is None or present.settings is None:
        return ""
    keys = [key for key in varying([run.settings, present.settings]) if counts(key, "fingerprint")]
    return _described(keys, run, present, ", now ")


def _described(keys: Sequence[str], first: Run, second: Run, between: str) -> str:
    named = [_values(key, first, second, between) for key in keys[:MAX_KEYS]]
    more = f" and {len(keys) - MAX_KEYS} more" if len(keys) > MAX_KEYS else ""
    return f"{'; '.join(named)}{more}"


def _values(key: str, first: Run, second: Run, between: str) -> str:
    values = [(run.settings or {}).get(key) for run in (first, second)]
    texts = ["none" if value is None else plain(value) for value in values]
    name = shorten(plain(key), MAX_KEY)
    return name if max(map(len, texts)) > MAX_VALUE else f"{name} {texts[0]}{between}{texts[1]}"


def _changed(run: Run) -> set[str]:
    """Return the keys that a run records as its changes."""
    changes = [change for change in run.get("changes") or [] if isinstance(change, str)]
    return {change.lstrip("+~").partition("=")[0] for change in changes}


def _is_set_by(key: str, changed: Collection[str]) -> bool:
    return is_below(key, changed) or any(is_below(change, [key]) for change in changed)


def _chooses_images(run: Run) -> bool:
    """Tell whether an arm chooses a network whose own config may set the size and normalisation of its images."""
    target = str((run.settings or {}).get("model._target_"))
    return bool(_changed(run) & CHOICES) and (target == TIMM or not target.startswith("cnnexp."))
