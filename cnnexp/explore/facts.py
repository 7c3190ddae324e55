"""All that is known of a data set without drawing: gathered once, told in a terminal, as JSON, or on a page."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnexp import storage
from cnnexp.data.images import ImageData, Integers
from cnnexp.explore import copies, measure, origin
from cnnexp.text import plain, shorten

LISTED = 40  # classes that a terminal shows
MIB = 2**20


@dataclass(frozen=True)
class Facts:
    """A data set and what was counted in it. pixels: (C, 256), of the training split. header: of its config."""

    data: ImageData
    counts: dict[str, Integers]
    pixels: Integers
    channels: list[measure.Channel]
    copies: copies.Copies
    files: origin.Files | None
    header: dict[str, str]

    @property
    def classes(self) -> list[str]:
        """Return the class names as they can be shown."""
        return [plain(name) for name in self.data.classes]


def gather(data: ImageData, config: Path | None) -> Facts:
    """Count what is in a data set. config: the file that its settings were read from."""
    pixels = measure.pixel_counts(data.train)
    return Facts(
        data=data,
        counts=measure.class_counts(data),
        pixels=pixels,
        channels=measure.channels(pixels, data.mean, data.std),
        copies=copies.find(data),
        files=origin.files(data),
        header=origin.header(config),
    )


def warnings(facts: Facts) -> list[str]:
    """Say what to know before training on the data: leaks, contradictions, classes of very different sizes, skips."""
    found = copies.warnings(facts.copies)
    ratio = measure.imbalance(facts.counts["train"])
    if ratio is not None and ratio >= 3:
        found.append(f"Imbalance: the largest class has {ratio:.1f} times as many training images as the smallest.")
    if skipped := facts.data.skipped:
        found.append(f"Skipped: {len(skipped):,} files cannot be read as images and are left out.")
    return found


def sizes(facts: Facts) -> dict[str, str]:
    """Return the shapes, types and bytes of an element and of all images, in words."""
    channels, height, width = facts.data.image
    values = channels * height * width
    low = min(channel.normalised_low for channel in facts.channels)
    high = max(channel.normalised_high for channel in facts.channels)
    seen = min(channel.low for channel in facts.channels), max(channel.high for channel in facts.channels)
    total = sum(facts.copies.sizes.values())
    return {
        "stored": f"uint8, {height} x {width} x {channels} (H x W x C), {seen[0]} to {seen[1]}; {values:,} bytes",
        "network": f"float32, {channels} x {height} x {width} (C x H x W), {low:.2f} to {high:.2f}, normalised; "
        f"{4 * values:,} bytes",
        "all images": f"{total * values / MIB:,.1f} MiB as stored, {4 * total * values / MIB:,.1f} MiB as float32",
    }


def files_in_words(files: origin.Files) -> dict[str, str]:
    """Describe the files that the images were decoded from."""
    looked = f"of {files.looked_at:,} files looked at" if files.looked_at < files.count else "in all files"
    sides = " x ".join(
        f"{low}" if low == high else f"{low} to {high} (median {middle})"
        for low, middle, high in (files.widths, files.heights)
    )
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in files.kinds.items())
    return {
        "files": f"{files.count:,} in {plain(files.folder)}, {files.bytes / MIB:,.1f} MiB",
        "sizes before": f"{sides} pixels (W x H; {looked})",
        "kinds": kinds,
    }


def text(facts: Facts) -> str:
    """Return what a terminal shows."""
    data, shape = facts.data, sizes(facts)
    lines = {
        "data": f"{plain(data.name)}, {len(data.classes)} classes",
        "source": facts.header.get("from", ""),
        "image": "{} x {} x {} (C x H x W), uint8, {} to {}".format(*data.image, *_ends(facts)),
        "network gets": shape["network"],
        "mean": _row(channel.mean / 255 for channel in facts.channels) + "   (of pixels / 255)",
        "std": _row(channel.std / 255 for channel in facts.channels),
        **_normalised_by(facts),
        **(files_in_words(facts.files) if facts.files else {}),
        "skipped": f"{len(data.skipped)}" + "".join(f"\n  {plain(name)}" for name in data.skipped[:20]),
        "fingerprint": data.fingerprint,
        "cache": f"{data.cache} ({cached_bytes(data) / MIB:.1f} MiB)",
    }
    told = [f"{name:12} {fact}" for name, fact in lines.items() if fact]
    told += [_table(facts), *measure.balance(facts.counts, facts.classes).values(), copies.summary(facts.copies)]
    return "\n".join([*told, *(f"Warning: {warning}" for warning in warnings(facts))])


def _normalised_by(facts: Facts) -> dict[str, str]:
    """Say what normalises the images where that is not the training split's own mean and deviation."""
    own = np.array([(channel.mean / 255, channel.std / 255) for channel in facts.channels])
    if np.allclose(own, np.array([facts.data.mean, facts.data.std]).T, atol=1e-9):
        return {}
    return {"normalised by": f"mean {_row(facts.data.mean)}, std {_row(facts.data.std)}"}


def _ends(facts: Facts) -> tuple[int, int]:
    return min(channel.low for channel in facts.channels), max(channel.high for channel in facts.channels)


def _row(values: Any) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def cached_bytes(data: ImageData) -> int:
    """Return the size of the prepared images on disk, 0 if they are in memory alone."""
    folder = Path(data.cache)
    return storage.size_bytes(folder) if folder.is_dir() else 0


def _table(facts: Facts) -> str:
    names = [shorten(name, 40) for name in facts.classes[:LISTED]]
    longest = max(5, *map(len, names))
    splits = facts.data.splits()
    rows = [f"  {'class':{longest}} " + "".join(f"{name:>9}" for name in splits)]
    counts = [facts.counts.get(name, np.zeros(len(facts.classes), np.int64)) for name in splits]
    rows += [f"  {title:{longest}} " + "".join(f"{c[k]:9d}" for c in counts) for k, title in enumerate(names)]
    if left := len(facts.classes) - len(names):
        rows.append(f"  ... and {left:,} more classes (--json lists them)")
    rows.append(f"  {'all':{longest}} " + "".join(f"{c.sum():9d}" for c in counts))
    return "\n".join(rows)


def as_json(facts: Facts) -> dict[str, Any]:
    """Return everything as plain values, for scripts."""
    data, found = facts.data, facts.copies
    return {
        "name": data.name,
        "classes": data.classes,
        "image": {"stored": {"shape": [*data.image[1:], data.image[0]], "dtype": "uint8"}}
        | {"network": {"shape": list(data.image), "dtype": "float32"}},
        "counts": {name: counts.tolist() for name, counts in facts.counts.items()},
        "imbalance": {name: measure.imbalance(counts) for name, counts in facts.counts.items()},
        "channels": [asdict(channel) for channel in facts.channels],
        "normalize": {"mean": data.mean, "std": data.std},
        "duplicates": {
            "within": {name: found.within(name) for name in facts.counts},
            "between": {f"{one}, {other}": found.shared(one, other) for one, other in found.pairs()},
            "contradictions": len(found.contradictions()),
            "groups": [
                [{"split": c.split, "class": data.classes[c.label], "id": c.id} for c in group]
                for group in found.groups
            ],
        },
        "warnings": warnings(facts),
        "files": asdict(facts.files) if facts.files else None,
        "source": facts.header.get("from"),
        "skipped": data.skipped,
        "fingerprint": data.fingerprint,
        "cache": data.cache,
        "cache_bytes": cached_bytes(data),
    }
