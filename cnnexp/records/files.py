"""config.yaml and predictions.npz of a run. Both may come from anyone: reading them runs no code. Imports no torch."""

from pathlib import Path
from typing import Any

from cnnexp import storage
from cnnexp.errors import UserError


def write_config(file: Path, config: dict[str, Any]) -> None:
    """Write a resolved config as YAML, as OmegaConf.to_yaml does, at a tenth of its cost."""
    storage.write_text(file, to_yaml(config))


def to_yaml(config: dict[str, Any]) -> str:
    """Return a resolved config as YAML, from which OmegaConf reads the same values: the text "1e3" stays a text."""
    import yaml

    try:
        return _dump(config, getattr(yaml, "CSafeDumper", yaml.SafeDumper))
    except UnicodeEncodeError:  # the name of a file that is no UTF-8
        return _dump(config, yaml.SafeDumper)


def _dump(config: dict[str, Any], base: Any) -> str:
    import yaml

    class Dumper(base):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.add_representer(str, _represent_text)
    return str(yaml.dump(config, Dumper=Dumper, allow_unicode=True, sort_keys=False, default_flow_style=False))


def _represent_text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if _reads_as_another_type(text) else None)


def _reads_as_another_type(text: str) -> bool:
    """Tell whether OmegaConf reads a text as a number or a truth value, where PyYAML's own rules do not."""
    try:
        float(text)
    except ValueError:
        return text in {"y", "Y", "n", "N"}
    return True


def read_config(file: Path) -> dict[str, Any]:
    """Read a resolved config. Raises UserError, naming the file, if it cannot be read.

    YAML with aliases is refused: a few lines of them could expand to any number of values.
    """
    import yaml
    from omegaconf import OmegaConf

    try:
        text = file.read_text(encoding="utf-8")
        if "&" in text and "*" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError("it has aliases; a recorded config has none")
        config = OmegaConf.to_container(OmegaConf.load(file))
    except Exception as error:  # yaml and omegaconf raise many kinds for a file that was edited badly
        raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(config, dict):
        raise UserError(f"{file}: is not a config")
    return {str(key): value for key, value in config.items()}


def write_predictions(file: Path, logits: Any, labels: Any, ids: Any) -> None:
    """Write the test split's logits (N, K), labels (N,) and sample ids (N,)."""
    import io

    import numpy as np

    buffer = io.BytesIO()
    logits, labels = np.asarray(logits, np.float32), np.asarray(labels, np.int64)
    np.savez(buffer, logits=logits, labels=labels, ids=np.asarray(ids, np.str_))
    storage.write_bytes(file, buffer.getbuffer())


def read_predictions(file: Path) -> dict[str, Any]:
    """Return {logits (N, K) float32, labels (N,) int64, ids (N,) str}, as numpy arrays.

    Raises UserError, naming the file, if it cannot be read or is compressed: it could unpack to any size.
    """
    import numpy as np

    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            if any(member.compress_type for member in arrays.zip.infolist()):
                raise ValueError("it is compressed, as a run never writes it")
            return {name: arrays[name] for name in ("logits", "labels", "ids")}
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise UserError(f"{file}: cannot be read ({error})") from error
