"""Makes the local launcher and sweeper known to Hydra, which looks for plugins below `hydra_plugins.` only."""

import importlib.util
import sys
import types


def register() -> None:
    """Put a module `hydra_plugins.cnnexp_local` with the plugins into this process, and register them."""
    from hydra.core.plugins import Plugins

    from cnnexp.sweep.launcher import LocalLauncher
    from cnnexp.sweep.sweeper import LocalSweeper

    name = "hydra_plugins.cnnexp_local"
    if name in sys.modules:
        return
    if importlib.util.find_spec("hydra_plugins") is None:
        package = types.ModuleType("hydra_plugins")
        package.__path__ = []
        sys.modules["hydra_plugins"] = package
    module = types.ModuleType(name)
    sys.modules[name] = module
    for plugin in (LocalLauncher, LocalSweeper):
        setattr(module, plugin.__name__, plugin)
        plugin.__module__ = name
        Plugins.instance().register(plugin)
