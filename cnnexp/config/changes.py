"""What an arm changes, as overrides: from its study, or from what was typed."""

from collections.abc import Iterable, Mapping

from cnnexp.config.arms import Arm
from cnnexp.config.keys import counts
from cnnexp.config.words import key_of
from cnnexp.errors import unknown


def arm_changes(arms: Mapping[str, Arm], arm: str | None, typed: Iterable[str], swept: Iterable[str] = ()) -> list[str]:
    """Return what makes a run's arm, as overrides.

    arms: those of the study. arm: the chosen one, None without. typed: the run's overrides, without flags. swept: the
    keys that vary in a sweep; if given, what was typed for the whole sweep is left out.
    Raises UserError for an arm that the study does not have.
    """
    if arm is not None:
        if arm not in arms:
            raise unknown("+arm", "arm", arm, arms)
        return arms[arm].changes()
    varying = {key for key in swept if counts(key, "arm")}  # more seeds make no other arms
    return [word for word in typed if counts(key_of(word), "arm") and (not varying or key_of(word) in varying)]
