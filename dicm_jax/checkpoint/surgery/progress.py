"""The bar of long work, in bytes."""

import sys

from tqdm import tqdm


def byte_bar(total: int, description: str) -> tqdm:
    """A bar on stderr; where nobody watches, a line now and then."""
    return tqdm(
        total=total,
        desc=description,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        mininterval=0.1 if sys.stderr.isatty() else 5.0,
        dynamic_ncols=True,
    )
