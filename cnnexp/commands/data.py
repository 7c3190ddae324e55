"""`cnnexp data`: prepare a data set, print what is in it, and write a page that shows it."""

import argparse
import io
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnexp import storage
from cnnexp.commands import arguments
from cnnexp.errors import EXIT_DONE
from cnnexp.text import in_shell, mib, plain, visible

if TYPE_CHECKING:
    from cnnexp.data.images import ImageData
    from cnnexp.explore.facts import Facts
    from cnnexp.explore.pictures import Augmented

EXAMPLES = """\
examples:
  cnnexp data imagenette data.root=/path/to/data data.size=96 aug=full
  cnnexp data folder data.root=/path/to/tree --no-page --grid images.png
"""
COLUMNS, SIDE = 10, 64  # of the grid: images of a class, and the pixels of an image
EXAMPLE = "full"  # the augmentation that is shown if none is chosen


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = arguments.parser(
        "data", "Prepare a data set (decode it once, into the cache), print what is in it, write a page.", EXAMPLES
    )
    add = parser.add_argument
    add("overrides", nargs="*", metavar="NAME or KEY=VALUE", help="a config of configs/data, settings")
    add("--out", metavar="DIR", type=Path, help="the folder of the page (default: outputs/data/NAME)")
    add("--no-page", action="store_true", help="text only")
    add("--json", action="store_true", help="print everything as JSON; without --out no page")
    add("--grid", metavar="FILE.png", type=Path, help="save a picture: a row of images per class")
    arguments.add_config_dir(parser)
    add(
        "--verify",
        action="store_true",
        help="read all files again, and compare the prepared images with their checksums",
    )
    add("--clear-cache", action="store_true", help="delete all prepared images; they can be made again")
    given = parser.parse_intermixed_args(argv)
    if given.no_page and given.out:
        parser.error("--no-page and --out DIR, the folder of the page: leave one out")
    if given.grid and given.grid.suffix.lower() != ".png" and (given.grid.suffix or not given.grid.name):
        parser.error(
            f"--grid {given.grid}: the picture is a PNG file; name it {given.grid.parent / given.grid.stem}.png"
        )
    return given


def main(argv: list[str]) -> int:
    """Run the command. Raises UserError if the data is missing or wrong, or the page cannot be written."""
    given = parse(argv)
    overrides = [o if "=" in o or o.startswith("~") else f"data={o}" for o in given.overrides]
    config, file = _config(overrides, given.config_dir)
    if given.clear_cache:
        return _clear(config["data"].get("cache"))
    from cnnexp.explore import facts, tables
    from cnnexp.records.names import distinct_slug
    from cnnexp.training.build import build_data

    if given.verify:
        from cnnexp.data.digests import forget

        forget(config["data"].get("cache"))
    data = build_data(config)
    found = facts.gather(data, file)
    text = json.dumps(facts.as_json(found), indent=1) if given.json else visible(tables.as_text(found), lines=True)
    print(text, flush=True)
    if given.verify:
        print(verified(found), file=sys.stderr if given.json else sys.stdout)
    if given.grid:
        storage.make_folder(given.grid.parent)
        storage.write_bytes(given.grid, grid(data))
    if given.out or not (given.no_page or given.json):
        from cnnexp.explore import page  # imports matplotlib

        out = given.out or Path(config["outputs"], "data", distinct_slug(_page_name(config["data"], data.name)))
        augmented = _augmented(config, overrides, given.config_dir)
        written = page.write(found, augmented, out, in_shell(["cnnexp", "data", *argv]))
        if not given.json:
            print(f"{'page':12} {written}")
    if given.grid and not given.json:
        print(f"{'grid':12} {given.grid}")
    return EXIT_DONE


def verified(found: "Facts") -> str:
    """Compare the prepared images with their checksums; return a line for the reader. Raises UserError for damage."""
    from cnnexp.data.cache import verify

    if not Path(found.data.cache, "meta.json").exists():  # a data set of one's own
        return "the images are in memory: nothing to verify"
    read = f"{found.files.count:,} files were read again; " if found.files else ""
    return f"verified: {read}{mib(verify(Path(found.data.cache)))} match their checksums"


def _page_name(node: Mapping[str, Any], name: str) -> str:
    """Return the name of a data set's page: with its folder or table, if it has no name of its own."""
    if name not in ("folder", "csv"):
        return name
    place = Path(node["file"]).stem if "file" in node else Path(node["root"], node["path"]).resolve().name
    return f"{name}-{place}"


def _config(overrides: list[str], folders: list[str]) -> tuple[dict[str, Any], Path | None]:
    """Compose a config and check only its data and augmentation; return it and the file of the data's config."""
    from cnnexp.config import checks
    from cnnexp.config import compose as configs
    from cnnexp.config.set_by_data import data_file

    places = configs.search_path([f"--config-dir={folder}" for folder in folders])
    composed = configs.compose([*places, *overrides], with_hydra=True)
    config = configs.resolve(composed)
    for name in ("data", "augmentation"):
        checks.check_node(name, config[name], config)
    return config, data_file(composed.hydra)


def _augmented(config: dict[str, Any], overrides: list[str], folders: list[str]) -> "Augmented | None":
    """Return the augmentation to show: the config's own, or an example if no override names one."""
    from cnnexp.explore.pictures import Augmented
    from cnnexp.training.build import build_augmentation

    chosen = [o for o in overrides if o.lstrip("+~").startswith("aug")]
    if config["augmentation"].get("ops") != []:
        return Augmented(" ".join(chosen) or "the config's own augmentation", build_augmentation(config))
    if chosen:
        return None
    example, _ = _config([*overrides, f"augmentation={EXAMPLE}"], folders)
    return Augmented(f"+aug={EXAMPLE}, as an example (these settings augment nothing)", build_augmentation(example))


def _clear(cache: str | None) -> int:
    from cnnexp.data.cache import cache_root, cached, clear_cache

    for folder, size in cached(cache):
        print(f"{mib(size):>13}  {visible(folder)}")
    print(f"{mib(clear_cache(cache)):>13} freed in {cache_root(cache)}")
    return EXIT_DONE


def grid(data: "ImageData") -> bytes:
    """Draw the first training images of every class, a row per class, as a PNG file."""
    from PIL import Image, ImageDraw, ImageFont

    from cnnexp.pages.fonts import in_one_font

    titles = [in_one_font(plain(name)) for name in data.classes]
    fonts = {file: ImageFont.truetype(file, 11) for _, file in titles}
    margin = 8 + math.ceil(max(fonts[file].getlength(title) for title, file in titles))
    picture = Image.new("RGB", (margin + COLUMNS * (SIDE + 2), len(data.classes) * (SIDE + 2)), "white")
    draw = ImageDraw.Draw(picture)
    for label, (title, file) in enumerate(titles):
        top = label * (SIDE + 2)
        draw.text((4, top + SIDE // 2 - 6), title, fill="black", font=fonts[file])
        for column, index in enumerate(data.train.indices[data.train.labels == label][:COLUMNS]):
            image = Image.fromarray(data.train.images[index].squeeze())
            picture.paste(image.resize((SIDE, SIDE), Image.Resampling.NEAREST), (margin + column * (SIDE + 2), top))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
