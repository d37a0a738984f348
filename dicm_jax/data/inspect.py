"""Say what is in a prepared set, in numbers and on a page of pictures.

    python -m dicm_jax.data.inspect hm-set --page=hm-set.html --photos=hm/images

Nothing is written into the set. The last line on stdout is the numbers as one JSON object. Only
this command looks up from the data to `dicm_jax.report`; nothing imports it.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dicm_jax.ams.keys import IMAGE
from dicm_jax.cli import DONE, run_command
from dicm_jax.data.inspection.examples import Example, sample_examples
from dicm_jax.data.inspection.facts import SetFacts, facts_of
from dicm_jax.data.inspection.photos import Pictures, photo_files, pictures_of
from dicm_jax.data.inspection.tables import text
from dicm_jax.data.inspection.walk import OpenSet, open_set, walk
from dicm_jax.data.prepared.reader import stored_features
from dicm_jax.errors import ConfigError, DataError
from dicm_jax.report.set_page import Seen, set_page

_EXAMPLE = """\
example:
  python -m dicm_jax.data.inspect hm-set
  python -m dicm_jax.data.inspect hm-set --page=hm-set.html --photos=hm/images
  python -m dicm_jax.data.inspect large-set --blocks=500
"""


def inspect(
    root: Path,
    *,
    blocks: int | None = None,
    page: Path | None = None,
    photos: Path | None = None,
    features: str | None = None,
    verify: bool = False,
) -> int:
    """The whole command: open, find what is to be shown, count, say.

    Args:
      root: folder of the set.
      blocks: of each split to look at, evenly spread; None: all.
      page: HTML file to write; None: no page.
      photos: folder of photos for the page, named by the IDs of images.
      features: folder of the feature tables, if they are not where they were at the preparation.
      verify: first read every file and compare checksums.
    """
    _check_page(root, page, photos)
    opened = open_set(root, verify=verify)
    shown = None if page is None else _shown(opened, photos, features)
    tallies = walk(opened, blocks)
    facts = facts_of(opened, tallies, features)
    print(text(facts), flush=True)
    if page is not None and shown is not None:
        examples, pictures = shown
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(set_page(Seen(facts, tallies, examples, pictures)), "utf-8")
        print(f"\npage: {page}: {_said_of(pictures)}")
    print(json.dumps(_result(facts, page, shown)))
    return DONE


def _check_page(root: Path, page: Path | None, photos: Path | None) -> None:
    if page is None and photos is not None:
        raise ConfigError(
            f"--photos={photos} without --page: photos are shown on the page; add --page=FILE.html"
        )
    if page is not None and page.resolve().is_relative_to(root.resolve()):
        raise ConfigError(
            f"--page={page} lies in the set {root}, where nothing may be written; give a file"
            " beside it"
        )
    if page is not None and page.is_dir():
        raise ConfigError(f"--page={page} is a folder; give a file, such as {page / 'set.html'}")


def _shown(
    opened: OpenSet, photos: Path | None, features: str | None
) -> tuple[list[Example], Pictures]:
    files = None if photos is None else photo_files(photos)
    examples = sample_examples(opened)
    items = {item for example in examples for item in example.items}
    try:
        table = stored_features(opened.prepared, opened.root, features).get(IMAGE)
    except DataError:
        if features is not None:
            raise
        table = None  # the printed numbers say why
    return examples, pictures_of(opened, sorted(items), files, table)


def _said_of(pictures: Pictures) -> str:
    found, rows = len(pictures.photos), len(pictures.looks)
    bad = "".join(f", {count} {reason}" for reason, count in pictures.bad.items())
    return f"{found} photos for the {rows} images of the groups shown{bad}"


def _result(
    facts: SetFacts, page: Path | None, shown: tuple[list[Example], Pictures] | None
) -> dict[str, Any]:
    result = facts.as_json() | {"page": None if page is None else str(page)}
    if shown is not None:
        examples, pictures = shown
        result["pictures"] = {
            "groups": len(examples),
            "images": len(pictures.looks),
            "photos": len(pictures.photos),
            "bad_photos": pictures.bad,
        }
    return result


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} blocks; give at least 1")
    return value


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dicm_jax.data.inspect",
        description="Say what is in a prepared set, in numbers and on a page of pictures.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("set", type=Path, metavar="DIR", help="folder of the prepared set")
    parser.add_argument(
        "--blocks",
        type=_positive,
        metavar="N",
        help="look at N evenly spread blocks of each split (default: all)",
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="HTML page to write, outside of the set"
    )
    parser.add_argument(
        "--photos",
        type=Path,
        metavar="FOLDER",
        help="photos for the page, named by image IDs, searched with all folders below (or a .csv"
        " or .parquet list with columns id and path); without: pictures drawn from feature rows",
    )
    parser.add_argument(
        "--features",
        metavar="FOLDER",
        help="folder of the feature tables, if they have moved since the preparation",
    )
    parser.add_argument(
        "--verify", action="store_true", help="first read every file and compare checksums"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    known = parser.parse_args()
    sys.exit(
        run_command(
            lambda: inspect(
                known.set,
                blocks=known.blocks,
                page=known.page,
                photos=known.photos,
                features=known.features,
                verify=known.verify,
            ),
            debug=known.debug,
        )
    )


if __name__ == "__main__":
    main()
