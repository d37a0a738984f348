"""Progress bars; where nobody watches, a line now and then."""

import sys

from tqdm import tqdm


def progress_bar(total: int, description: str, unit: str, done: int = 0) -> tqdm:
    """A bar on stderr that begins at `done` of `total`."""
    return tqdm(
        total=total,
        initial=done,
        desc=description,
        unit=unit,
        mininterval=0.1 if sys.stderr.isatty() else 5.0,
        dynamic_ncols=True,
    )
