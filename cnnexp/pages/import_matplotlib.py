"""Imports matplotlib without the user's settings, and never in vain.

A matplotlibrc, or the MPLBACKEND of a notebook, would change the figures or keep matplotlib from being imported.
"""

import contextlib
import os
from pathlib import Path

RC = Path(__file__).with_name("figures.mplstyle")
own = {"MPLBACKEND": "agg", "MATPLOTLIBRC": str(RC)}
before = {name: os.environ.get(name) for name in own}
os.environ.update(own)
with contextlib.chdir(RC.parent):  # a matplotlibrc in the working directory would be read first
    import matplotlib  # noqa: F401
for name, value in before.items():
    del os.environ[name]
    if value is not None:
        os.environ[name] = value
