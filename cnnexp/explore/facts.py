"""What is known of a data set: counted once; the terminal, the page and the JSON all show it from here."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnnexp import storage
from cnnexp.data.images import ImageData, Integers
from cnnexp.explore import counts, duplicates, files
from cnnexp.explore.counts import Channel
from cnnexp.explore.duplicates import Duplicates
from cnnexp.explore.files import Files
from cnnexp.text import mib, plain, plural

SKIPPED_SHOWN = 20  # names of files


@dataclass(frozen=True)
class Facts:
    """A data set and what was counted in it. pixels: (C, 256), of the training split. header: of its config."""

    data: ImageData
    counts: dict[str, Integers]
    pixels: Integers
    channels: list[Channel]
    duplicates: Duplicates
    files: Files | None
    header: dict[str, str]

    @property
    def classes(self) -> list[str]:
        """Return the class names, made harmless."""
        return [plain(name) for name in self.data.classes]


def gather(data: ImageData, config: Path | None) -> Facts:
    """Count what is in a data set. config: the file that its settings were read from."""
    pixels = counts.pixel_counts(data.train)
    return Facts(
        data=data,
        counts=counts.class_counts(data),
        pixels=pixels,
        channels=counts.channels(pixels, data.mean, data.std),
        duplicates=duplicates.find(data),
        files=files.find(data),
        header=files.header(config),
    )


def describe(facts: Facts) -> dict[str, str]:
    """Return what there is to say of the data set as {heading: text}, in order, without its tables and warnings."""
    data, found = facts.data, facts.files
    channels, height, width = data.image
    values, total = channels * height * width, sum(facts.duplicates.sizes.values())
    low, high = min(c.low for c in facts.channels), max(c.high for c in facts.channels)
    floats = min(c.normalised_low for c in facts.channels), max(c.normalised_high for c in facts.channels)
    sizes = ", ".join(f"{count.sum():,} {duplicates.IMAGES[split]}" for split, count in facts.counts.items())
    described = {
        "data": f"{plain(data.name)}, {plural(len(data.classes), 'class')}; {sizes}",
        "source": plain(facts.header.get("from", "")) or "not stated in its config",
        "stored": f"uint8, {height} x {width} x {channels} (H x W x C), {low} to {high}; {values:,} bytes an image",
        "network gets": f"float32, {channels} x {height} x {width} (C x H x W), {floats[0]:.2f} to {floats[1]:.2f}, "
        f"normalised; {4 * values:,} bytes an image",
        "all images": f"{mib(total * values)} as stored, {mib(4 * total * values)} as float32",
        "label": f"int64, 0 to {len(data.classes) - 1}",
    }
    if found:
        sample = "all files" if found.sample == found.count else f"{found.sample:,} of the files"
        described |= {
            "files": f"{found.count:,} in {plain(found.folder)}, {mib(found.bytes)}",
            "sizes before": f"{_range(found.widths)} x {_range(found.heights)} pixels (W x H; {sample})",
            "kinds": ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.items()),
        }
    if data.skipped:
        names = [plain(name) for name in data.skipped[:SKIPPED_SHOWN]] + ["..."] * (len(data.skipped) > SKIPPED_SHOWN)
        described["skipped"] = f"{plural(len(data.skipped), 'file')} that cannot be read: {', '.join(names)}"
    return described | {"fingerprint": data.fingerprint, "cache": f"{plain(data.cache)} ({mib(cached_bytes(data))})"}


def _range(sizes: tuple[int, int, int]) -> str:
    low, middle, high = sizes
    return f"{low}" if low == high else f"{low} to {high} (median {middle})"


def sentences(facts: Facts) -> list[str]:
    """Describe the balance of the classes in each split, and the duplicates."""
    balance = [f"{split}: {counts.balance(count, facts.classes)}" for split, count in facts.counts.items()]
    return [*balance, duplicates.summary(facts.duplicates)]


def warnings(facts: Facts) -> list[str]:
    """Describe what to know before training: leaks, contradictions, unequal class sizes, skipped files."""
    found = duplicates.warnings(facts.duplicates)
    ratio = counts.imbalance(facts.counts["train"])
    if ratio is not None and ratio >= 3:
        larger = f"the largest class has {ratio:.1f} times as many training images as the smallest"
        found.append(f"Imbalance: {larger}; see loss.class_weights=balanced and monitor=balanced_accuracy.")
    return found + [f"{note[0].upper()}{note[1:]}." for note in facts.data.notes]


def cached_bytes(data: ImageData) -> int:
    """Return the size of the prepared images on disk, 0 if they are only in memory."""
    folder = Path(data.cache)
    return storage.size_bytes(folder) if folder.is_dir() else 0


def as_json(facts: Facts) -> dict[str, Any]:
    """Return everything as plain values, for scripts."""
    data, found = facts.data, facts.duplicates
    groups = [[{"split": m.split, "class": data.classes[m.label], "id": m.id} for m in group] for group in found.groups]
    return {
        "name": data.name,
        "classes": data.classes,
        "image": {
            "stored": {"shape": [*data.image[1:], data.image[0]], "dtype": "uint8"},
            "network": {"shape": list(data.image), "dtype": "float32"},
        },
        "counts": {split: count.tolist() for split, count in facts.counts.items()},
        "imbalance": {split: counts.imbalance(count) for split, count in facts.counts.items()},
        "channels": [asdict(channel) for channel in facts.channels],
        "normalize": {"mean": data.mean, "std": data.std},
        "duplicates": {
            "within": {split: found.within(split) for split in facts.counts},
            "between": {f"{one}, {other}": found.shared(one, other) for one, other in found.pairs()},
            "contradictions": len(found.contradictions()),
            "groups": groups,
        },
        "warnings": warnings(facts),
        "files": asdict(facts.files) if facts.files else None,
        "source": facts.header.get("from"),
        "skipped": data.skipped,
        "fingerprint": data.fingerprint,
        "cache": data.cache,
        "cache_bytes": cached_bytes(data),
    }
