"""What the figures of a search's page are drawn from, as one JSON value: small, rounded, without nan."""

from typing import Any

from cnnexp.config.words import as_word
from cnnexp.pages.plotly import MAX_POINTS, rounded
from cnnexp.records.names import short_keys
from cnnexp.report.search.figures import ends, height, name_of, place, scaled, ticks
from cnnexp.report.search.findings import Found
from cnnexp.search.space import Dimension, Numbers, as_words
from cnnexp.search.trials import Trial
from cnnexp.text import plain


def page_data(found: Found) -> dict[str, Any]:
    """Return the data of the figures: the trials by number, the settings, and the importances in per cent."""
    space, points = found.search.space, sum(len(trial.curve) for trial in found.trials)
    every, short = max(1, -(-points // MAX_POINTS)), short_keys(space)
    return {
        "name": name_of(found),
        "lower": found.search.sign < 0,
        "settings": [{"name": plain(short[key]), **_setting(one)} for key, one in space.items()],
        "trials": [_trial(found, trial, every) for trial in found.trials],
        "importances": [
            [plain(one.key), *(rounded(100 * x, 3) for x in (one.share, one.low, one.high))]
            for one in found.importances
        ],
    }


def _setting(dimension: Dimension) -> dict[str, Any]:
    low, high = ends(dimension)
    return {
        "log": isinstance(dimension, Numbers) and dimension.log,
        "ends": [low, high],  # of a logarithmic one as Plotly has it, the exponents of 10
        "words": None if isinstance(dimension, Numbers) else [plain(as_word(one)) for one in dimension.options],
        "ticks": [[at, plain(text)] for at, text in ticks(dimension)],
    }


def _trial(found: Found, trial: Trial, every: int) -> dict[str, Any]:
    space, last = found.search.space, trial.curve.get(trial.epochs)
    epochs = [epoch for epoch in sorted(trial.curve) if epoch % every == 0 or epoch in (1, trial.epochs)]
    value = last if trial.value is None else trial.value
    made: dict[str, Any] = {
        "number": trial.number,
        "best": trial is found.best,
        "state": trial.shown_state,
        "complete": trial.value is not None,
        "value": None if value is None else rounded(scaled(found, value)),
        "words": [f"{found.search.metric} {found.shown(value)}", *map(plain, as_words(trial.params))],
        "epochs": epochs,
        "curve": [rounded(scaled(found, trial.curve[epoch]), 4) for epoch in epochs],
    }
    if trial.value is not None:
        given = [(dimension, trial.params[key]) for key, dimension in space.items()]
        made["at"] = [value if isinstance(one, Numbers) else place(one, value) for one, value in given]
        made["heights"] = [rounded(height(one, value)) for one, value in given]
    return made
