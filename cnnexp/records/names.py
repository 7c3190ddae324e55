"""Names of folders: readable, short, and safe in a shell and in an override. Imports no torch."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from cnnexp.errors import UserError

RERUNS = "rerun"  # the folder of what `cnnexp rerun` makes, and the study of these runs
SHORT = {"augmentation": "aug", "weight_decay": "wd"}  # how a key is called in names and labels
MAX_BYTES = 60  # of an arm in a folder's name
SETTING = re.compile(r"([+~]*[A-Za-z_][\w.@/-]*(?:\[\d+\][\w.]*)*)=(.*)", re.DOTALL)
Setting = tuple[str, str]  # a key and its value, as typed


def slug(text: str, size: int = 80) -> str:
    """Return `text` as a readable, safe folder name of at most `size` bytes; a long one loses its middle.

    Letters and digits of every script are kept, in Unicode's composed form (NFC), and the characters `.`, `_`, `-`.
    """
    kept = "".join(c if c in "._-" or unicodedata.category(c)[0] in "LMN" else " " for c in _nfc(text))
    kept = re.sub(" +", "-", kept).strip("-.") or "run"
    if len(kept.encode()) <= size:
        return kept
    half = size // 2 - 1
    first, last = kept.encode()[:half].decode(errors="ignore"), kept.encode()[-half:].decode(errors="ignore")
    return f"{first}..{last}"


def distinct_slug(text: str) -> str:
    """Return a folder name that two names never share: their slug, and a digest where that has lost something."""
    short = slug(text)
    return short if short == _nfc(text) else _with_digest(short, text)


def _with_digest(short: str, text: str) -> str:
    return f"{short}-{hashlib.blake2b(_nfc(text).encode(errors='surrogatepass'), digest_size=4).hexdigest()}"


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def settings_of(arm: str) -> list[Setting]:
    """Return the settings that an arm's name consists of, as (key, value): "model.norm=none,epochs=2"; else []."""
    parts, depth, quote = [""], 0, ""
    for character in arm:
        quote = "" if character == quote else character if not quote and character in "'\"" else quote
        depth += 0 if quote else (character in "[{(") - (character in ")}]")
        if character == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    found = [SETTING.fullmatch(part) for part in parts]
    return [(match[1].lstrip("+~"), match[2].strip("'\"")) for match in found if match] if all(found) else []


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Return a short name for each dotted key: without its first part, unless two keys would then be called the same.

    {"optimizer.lr": "lr", "model.dropout.fc": "dropout.fc", "augmentation": "aug", "model._target_": "model"}
    """
    keys = list(dict.fromkeys(keys))
    shorts = {key: (name := key.removesuffix("._target_")).partition(".")[2] or name for key in keys}
    shorts = {key: SHORT.get(short, short) for key, short in shorts.items()}
    count = Counter(shorts.values())
    return {key: short if count[short] == 1 else key for key, short in shorts.items()}


def arm_labels(arms: Sequence[str], changes: Sequence[Sequence[str]]) -> list[str]:
    """Return what differs between arms: "lr=0.003 wd=1e-4" for a name that consists of settings, else the name.

    changes: of each arm, as overrides; those of an arm whose name says nothing of them count too.
    """
    settings = [settings_of(arm) for arm in arms]
    known = [own or settings_of(",".join(of_arm)) for own, of_arm in zip(settings, changes, strict=True)]
    shared = set[Setting]().union(*known).intersection(*known)
    keys = short_keys(key for of_arm in settings for key, _ in of_arm)
    return [
        " ".join(f"{keys[key]}={value}" for key, value in of_arm if (key, value) not in shared or shared == set(of_arm))
        or arm
        for arm, of_arm in zip(arms, settings, strict=True)
    ]


def arm_folder(arm: str) -> str:
    """Return an arm's part of a folder's name: "lr_0.01-norm_none" for "optimizer.lr=0.01,model.norm=none"."""
    settings = settings_of(arm)
    if not settings:
        return slug(arm, MAX_BYTES)
    parts = _parts(settings)
    if len("-".join(parts).encode()) > MAX_BYTES:  # what is the same in most runs goes last
        parts = _parts(sorted(settings, key=lambda setting: setting[0].split(".")[0] == "data"))
    for shown in range(len(parts), 0, -1):
        more = [f"and-{len(parts) - shown}-more"] if shown < len(parts) else []
        if len((name := "-".join([*parts[:shown], *more])).encode()) <= MAX_BYTES:
            return name
    return slug(name, MAX_BYTES)


def _parts(settings: Sequence[Setting]) -> list[str]:
    keys = short_keys(key for key, _ in settings)
    return [f"{slug(keys[key].replace('[', '.').replace(']', ''))}_{_short_value(value)}" for key, value in settings]


def _short_value(value: str) -> str:
    return slug(PurePosixPath(value).name if "/" in value else value) if value else "empty"


def same_numbers(name: str) -> str:
    """Return an arm's name with its numbers as Python writes them: optimizer.lr=0.001 for optimizer.lr=1e-3."""

    def rewritten(found: re.Match[str]) -> str:
        try:
            return repr(float(found[0]))
        except ValueError:
            return found[0]

    return re.sub(r"(?<==)[^,= ]+", rewritten, name)


def study_folder(outputs: Path, study: str) -> Path:
    """Return where the runs of a study live: <outputs>/<study>.

    A study whose name differs from a present folder's in nothing but case gets a digest: some file systems have one
    folder for both.
    """
    name = distinct_slug(study)
    with_digest = _with_digest(slug(study), study)
    try:
        present = {entry.name for entry in outputs.iterdir()}
    except OSError:
        return outputs / name
    alike = name not in present and any(_nfc(other).casefold() == name.casefold() for other in present)
    return outputs / (with_digest if with_digest in present or alike else name)


def check_study_name(name: str) -> None:
    """Raise UserError for a name that a new study cannot have."""
    if not name.strip():
        raise UserError(f"study.name: given {name!r}; allowed: a name, such as study.name=first-try")
    if name == RERUNS:
        raise UserError(f"study.name: {name} is where `cnnexp rerun` writes; type another, such as study.name={name}s")


def run_folder(outputs: Path, study: str, arm: str, seed: int, fingerprint: str, distinct: bool = False) -> Path:
    """Return where a run lives: <outputs>/<study>/<arm>-s<seed>-<fingerprint>.

    distinct: the arm gets a digest, because another one is reduced to the same folder, as "a b" and "a(b" are.
    """
    name = _with_digest(arm_folder(arm), arm) if distinct else arm_folder(arm)
    return study_folder(outputs, study) / f"{name}-s{seed}-{fingerprint}"
