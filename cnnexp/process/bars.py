"""Progress bars: text in a terminal, widgets in a notebook, nothing elsewhere."""

import sys
import warnings
from typing import Any


def shown() -> bool:
    """Tell whether someone sees a bar: on a terminal or in a notebook."""
    return in_notebook() or (hasattr(sys.stderr, "isatty") and sys.stderr.isatty())


def in_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def bar(**options: Any) -> Any:
    """Return tqdm's bar for this place; options: tqdm's."""
    if not in_notebook():
        from tqdm import tqdm

        return tqdm(**options)
    with warnings.catch_warnings():  # without ipywidgets tqdm draws text, and warns
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm as of_notebook

        return of_notebook(**options)
