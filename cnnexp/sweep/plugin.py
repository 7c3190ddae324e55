"""Makes the local launcher known to Hydra, which looks for launchers below `hydra_plugins.` only."""

import importlib.util
import sys
import types


def register() -> None:
    """Put a module `hydra_plugins.cnnexp_local` with the launcher into this process, and register the class."""
    from hydra.core.plugins import Plugins

    from cnnexp.sweep.launcher import LocalLauncher

    name = "hydra_plugins.cnnexp_local"
    if name in sys.modules:
        return
    if importlib.util.find_spec("hydra_plugins") is None:
        package = types.ModuleType("hydra_plugins")
        package.__path__ = []
        sys.modules["hydra_plugins"] = package
    module = types.ModuleType(name)
    module.LocalLauncher = LocalLauncher  # type: ignore[attr-defined]
    LocalLauncher.__module__ = name
    sys.modules[name] = module
    Plugins.instance().register(LocalLauncher)
