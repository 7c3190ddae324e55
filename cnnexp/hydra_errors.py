"""Hydra's and OmegaConf's errors, told in one line: where, what was given, what is allowed, the mend."""

import re

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from cnnexp.config import compose, resolve, search_path
from cnnexp.errors import UserError, did_you_mean, unknown
from cnnexp.record import flatten


def tell(error: Exception, typed: list[str]) -> UserError:
    """Translate an error of composition into a UserError. typed: the command's words, for a better guess."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if error.options is not None and group:
            return unknown(group, "choice", choice, error.options)
        return UserError(f"{error.missing_cfg_file}: no such config file")
    if isinstance(error, OverrideParseException):
        return UserError(f"{error.override}: cannot be read as key=value ({text.splitlines()[0]})")
    if found := re.search(r"Could not (?:override|append to config|delete)[^']*'([^']+)'", text):
        return _wrong_key(found.group(1), text, typed)
    return UserError(" ".join(line.strip() for line in text.splitlines() if line.strip()))


def _wrong_key(key: str, text: str, typed: list[str]) -> UserError:
    group = key.split("@")[0]
    if "No match in the defaults list" in text:
        if f"+{group}=" in text and group in ("aug", "arm", "study", "scale", "pretrain"):
            return UserError(f"{group}: is not chosen yet; type +{group}=... (with the plus)")
        return UserError(f"{group}: no such group or key{did_you_mean(group, _known_keys(typed))}")
    if "already at" in text or "An item is already" in text:
        return UserError(f"{key}: is there already; type it without the plus")
    known = _known_keys(typed)
    return UserError(f"{key}: no such key{did_you_mean(key, known) or _siblings(key, known)}")


def _known_keys(typed: list[str]) -> list[str]:
    """Return the keys of the config with the groups that were typed, or the default ones if these do not compose."""
    groups = [*(word for word in typed if re.fullmatch(r"\w+=\w+", word)), *search_path(typed)]
    try:
        config = resolve(compose(groups))
    except (HydraException, OmegaConfBaseException, UserError):
        config = resolve(compose([]))
    return [*flatten(config), *config]


def _siblings(key: str, known: list[str]) -> str:
    parent = key.rpartition(".")[0]
    beside = sorted({k.removeprefix(f"{parent}.").split(".")[0] for k in known if k.startswith(f"{parent}.")})
    top = sorted({k.split(".")[0] for k in known})
    return f"; {parent} has {', '.join(beside)}" if parent and beside else f"; choose one of {', '.join(top)}"
