"""`cnnexp data`: prepare a data set if need be, and show what is in it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp import storage
from cnnexp.errors import EXIT_DONE

if TYPE_CHECKING:
    from PIL.Image import Image

    from cnnexp.data.images import ImageData, Split

EXAMPLES = """examples:
  cnnexp data shapes
  cnnexp data imagenette data.root=/path/to/data data.size=96
  cnnexp data folder data.root=/path/to/tree --grid images.png
  cnnexp data imagenette --verify
  cnnexp data --clear-cache
"""


def main(argv: list[str]) -> int:
    """Run the command. Raises UserError if the data cannot be had as asked."""
    parser = argparse.ArgumentParser(
        prog="cnnexp data",
        description="Prepare a data set if need be (decode it once into the cache) and show what is in it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="NAME or KEY=VALUE", help="a config of configs/data, settings")
    parser.add_argument("--grid", metavar="FILE.png", type=Path, help="save a picture: a row of images per class")
    parser.add_argument(
        "--clear-cache", action="store_true", help="delete all prepared images (they can be made again)"
    )
    parser.add_argument(
        "--verify", action="store_true", help="hold the prepared images to their checksums, however many they are"
    )
    given = parser.parse_intermixed_args(argv)
    overrides = [o if "=" in o or o.startswith("~") else f"data={o}" for o in given.overrides]

    config = _config(overrides)
    if given.clear_cache:
        return _clear(config["data"].get("cache"))
    from cnnexp.build import build_data

    data = build_data(config)
    print(describe(data))
    if given.verify:
        from cnnexp.data.cache import verify

        print(f"verified     {verify(Path(data.cache)) / 2**20:.1f} MiB match their checksums")
    if given.grid:
        storage.make_folder(given.grid.parent)
        storage.write_bytes(given.grid, grid(data))
        print(f"grid         {given.grid}")
    return EXIT_DONE


def _config(overrides: list[str]) -> dict[str, Any]:
    """Compose a config and check its data node, and no other."""
    from cnnexp import config as configs
    from cnnexp import signature

    config = configs.resolve(configs.compose(overrides))
    builder = configs.target("data", config["data"])
    signature.check("data", config["data"], builder)
    further = getattr(builder, "check", None)
    if callable(further):
        further("data", config["data"], config)
    return config


def _clear(cache: str | None) -> int:
    from cnnexp.data.cache import cache_root, cached, clear_cache

    for folder, size in cached(cache):
        print(f"{size / 2**20:9.1f} MiB  {folder}")
    freed = clear_cache(cache)
    print(f"{freed / 2**20:9.1f} MiB freed in {cache_root(cache)}")
    return EXIT_DONE


def describe(data: "ImageData") -> str:
    """Say what a data set holds, in lines."""
    import numpy as np

    channels, height, width = data.image
    pixels = data.train.images
    splits = data.splits()
    counts = {name: np.bincount(split.labels, minlength=len(data.classes)) for name, split in splits.items()}
    longest = max(5, *map(len, data.classes))
    table = [f"  {'class':{longest}} " + "".join(f"{name:>9}" for name in splits)]
    for label, title in enumerate(data.classes):
        table.append(f"  {title:{longest}} " + "".join(f"{counts[name][label]:9d}" for name in splits))
    table.append(f"  {'all':{longest}} " + "".join(f"{len(split):9d}" for split in splits.values()))
    facts = {
        "data": f"{data.name}, {len(data.classes)} classes",
        "image": f"{channels} x {height} x {width} (C x H x W), {pixels.dtype}, {pixels.min()} to {pixels.max()}",
        "mean": ", ".join(f"{m:.4f}" for m in data.mean) + "   (of pixels / 255)",
        "std": ", ".join(f"{s:.4f}" for s in data.std),
        "skipped": f"{len(data.skipped)}" + "".join(f"\n  {name}" for name in data.skipped),
        "fingerprint": data.fingerprint,
        "cache": f"{data.cache} ({storage.size_bytes(Path(data.cache)) / 2**20:.1f} MiB)",
    }
    return "\n".join([f"{name:12} {fact}" for name, fact in facts.items()] + table)


def grid(data: "ImageData", columns: int = 10, side: int = 64) -> bytes:
    """Draw the first training images of every class, a row per class, as a PNG file."""
    import io

    from PIL import Image, ImageDraw

    margin = 8 + 6 * max(map(len, data.classes))
    picture = Image.new("RGB", (margin + columns * (side + 2), len(data.classes) * (side + 2)), "white")
    draw = ImageDraw.Draw(picture)
    for label, title in enumerate(data.classes):
        draw.text((4, label * (side + 2) + side // 2 - 6), title, fill="black", font_size=11)
        for column, image in enumerate(_first(data.train, label, columns)):
            place = (margin + column * (side + 2), label * (side + 2))
            picture.paste(image.resize((side, side), Image.Resampling.NEAREST), place)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _first(split: "Split", label: int, count: int) -> list["Image"]:
    from PIL import Image

    rows = split.rows[split.labels == label][:count]
    return [Image.fromarray(split.images[row].squeeze()) for row in rows]
