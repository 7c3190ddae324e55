"""The version of this package, and those of the packages that it can do without."""

__version__ = "0.1.0"


def version_of(module: str) -> str | None:
    """Return the version of an installed package by the name it is imported by; None if it is not installed.

    A folder of that name in the working directory, as W&B leaves one behind, can be imported too, but is no package.
    """
    import importlib.metadata
    import importlib.util

    if importlib.util.find_spec(module) is None:
        return None
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:  # or it comes by another name, as from onnxruntime-gpu
        names = importlib.metadata.packages_distributions().get(module)
        return importlib.metadata.version(names[0]) if names else None
