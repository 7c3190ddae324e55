"""`cnnexp data`: prepare a data set if need be, say what is in it, and make a page that shows it."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp import storage
from cnnexp.errors import EXIT_DONE
from cnnexp.text import visible

if TYPE_CHECKING:
    from PIL.Image import Image

    from cnnexp.data.images import ImageData, Split
    from cnnexp.explore.pictures import Augmented

EXAMPLES = """examples:
  cnnexp data imagenette data.root=/path/to/data data.size=96 +aug=full
  cnnexp data folder data.root=/path/to/tree --no-page --grid images.png
"""
EXAMPLE = "full"  # the augmentation that is shown where none is chosen


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(
        prog="cnnexp data",
        description="Prepare a data set if need be (decode it once into the cache), say what is in it, write a page.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = arguments.add_argument
    add("overrides", nargs="*", metavar="NAME or KEY=VALUE", help="a config of configs/data, settings")
    add("--out", metavar="DIR", type=Path, help="where the page goes (default: outputs/data/NAME)")
    add("--no-page", action="store_true", help="text only")
    add("--json", action="store_true", help="print everything as JSON; without --out no page")
    add("--grid", metavar="FILE.png", type=Path, help="save a picture: a row of images per class")
    add("--config-dir", "-cd", metavar="DIR", action="append", default=[], help="look for configs in DIR too")
    add("--verify", action="store_true", help="hold the prepared images to their checksums, however many they are")
    add("--clear-cache", action="store_true", help="delete all prepared images (they can be made again)")
    return arguments


def main(argv: list[str]) -> int:
    """Run the command. Raises UserError if the data cannot be had as asked, or the page not be written."""
    given = parser().parse_intermixed_args(argv)
    overrides = [o if "=" in o or o.startswith("~") else f"data={o}" for o in given.overrides]
    config, file = _config(overrides, given.config_dir)
    if given.clear_cache:
        return _clear(config["data"].get("cache"))
    from cnnexp.explore import facts
    from cnnexp.records.run_record import slug
    from cnnexp.training.build import build_data

    data = build_data(config)
    found = facts.gather(data, file)
    words = json.dumps(facts.as_json(found), indent=1) if given.json else visible(facts.text(found), lines=True)
    print(words, flush=True)
    if given.verify:
        from cnnexp.data.cache import verify

        whole = f"verified: {verify(Path(data.cache)) / 2**20:.1f} MiB match their checksums"
        print(whole, file=sys.stderr if given.json else sys.stdout)
    if given.grid:
        storage.make_folder(given.grid.parent)
        storage.write_bytes(given.grid, grid(data))
    if given.out or not (given.no_page or given.json):
        from cnnexp.explore import page  # imports matplotlib

        out = given.out or Path(config["outputs"], "data", slug(data.name))
        augmented = _augmented(config, overrides, given.config_dir)
        written = page.write(found, augmented, out, shlex.join(["cnnexp", "data", *argv]))
        if not given.json:
            print(f"{'page':12} {written}")
    if given.grid and not given.json:
        print(f"{'grid':12} {given.grid}")
    return EXIT_DONE


def _config(overrides: list[str], folders: list[str]) -> tuple[dict[str, Any], Path | None]:
    """Compose a config and check its data and augmentation, and no other node; return it and the data's own file."""
    from cnnexp.config import compose as configs
    from cnnexp.config import signature

    composed = configs.compose(_ordered(overrides, folders), with_hydra=True)
    config = configs.resolve(composed)
    for name in ("data", "augmentation"):
        builder = configs.target(name, config[name])
        signature.check(name, config[name], builder)
        further = getattr(builder, "check", None)
        if callable(further):
            further(name, config[name], config)
    return config, configs.chosen_file(composed, "data")


def _ordered(overrides: list[str], folders: list[str]) -> list[str]:
    from cnnexp.config import compose as configs

    places = configs.search_path([f"--config-dir={folder}" for folder in folders])
    return [*places, *configs.by_precedence(overrides)]


def _augmented(config: dict[str, Any], overrides: list[str], folders: list[str]) -> "Augmented | None":
    """Return what the augmented images show: the config's own augmentation; an example where none is spoken of."""
    from cnnexp.explore.pictures import Augmented
    from cnnexp.training.build import build_augmentation

    if config["augmentation"].get("ops") != []:
        chosen = [o for o in overrides if o.lstrip("+~").startswith("aug")]
        return Augmented(" ".join(chosen) or "the config's own augmentation", build_augmentation(config))
    if any(o.lstrip("+~").startswith("aug") for o in overrides):
        return None
    example, _ = _config([*overrides, f"augmentation={EXAMPLE}"], folders)
    return Augmented(f"+aug={EXAMPLE}, as an example (these settings augment nothing)", build_augmentation(example))


def _clear(cache: str | None) -> int:
    from cnnexp.data.cache import cache_root, cached, clear_cache

    for folder, size in cached(cache):
        print(f"{size / 2**20:9.1f} MiB  {visible(folder)}")
    freed = clear_cache(cache)
    print(f"{freed / 2**20:9.1f} MiB freed in {cache_root(cache)}")
    return EXIT_DONE


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

    rows = split.indices[split.labels == label][:count]
    return [Image.fromarray(split.images[row].squeeze()) for row in rows]
