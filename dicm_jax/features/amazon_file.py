"""The image features published with the Amazon review sets, mapped into memory, not read.

``image_features_<category>.b`` (https://jmcauley.ucsd.edu/data/amazon/links.html) is a run of
records without a header: the product's ASIN, 10 bytes of ASCII, then 4096 little-endian float32,
what a deep network's last but one layer makes of its picture.

Shape legend
    V   records (products with a picture)        D   content width, 4096
"""

from pathlib import Path

import numpy as np

from dicm_jax.errors import DataError
from dicm_jax.features.non_finite import first_non_finite_row

ASIN_BYTES, WIDTH = 10, 4096
RECORD = np.dtype([("asin", np.uint8, ASIN_BYTES), ("feature", "<f4", WIDTH)])
"""One record, 16,394 bytes without padding."""


def map_amazon_features(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The ASINs and the rows of an image feature file, in the order of the file.

    The rows stay on disk: what is returned is a view of the file. The file is read once, a piece at
    a time, to find a NaN before anything else does.

    Args:
      path: the ``.b`` file.

    Returns:
      The ASINs, text ``[V]``, and float32 ``[V, D]``, read-only. The rows of the view are not
      aligned in memory; a copy of some of them (``rows_VD[chosen]``) is.

    Raises:
      DataError: no such file, an empty or truncated one, an ASIN that is none or comes twice, NaN
        or infinity.

    Example:
      >>> asins, rows_VD = map_amazon_features(Path("image_features_Men.b"))
      >>> rows_VD.shape[1]
      4096
    """
    records = _map(path)
    asins = _asins(path, records["asin"])
    rows_VD = records["feature"]
    row = first_non_finite_row(rows_VD)
    if row is not None:
        raise DataError(
            f"{path}: NaN or infinity in the features of {str(asins[row])!r} (record {row}); "
            "download the file again, or leave that product out"
        )
    return asins, rows_VD


def _map(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path}: no such file; name an image feature file, image_features_*.b")
    size = path.stat().st_size
    if not size or size % RECORD.itemsize:
        raise DataError(
            f"{path}: {size} bytes are {size // RECORD.itemsize} records of {RECORD.itemsize} and "
            f"{size % RECORD.itemsize} bytes more; the file must be one or more whole records (an "
            f"ASIN of {ASIN_BYTES} bytes, {WIDTH} float32): download it again"
        )
    try:
        return np.memmap(path, RECORD, mode="r")
    except OSError as error:
        raise DataError(f"{path}: cannot be mapped into memory ({error})") from error


def _asins(path: Path, bytes_VA: np.ndarray) -> np.ndarray:
    """The ASINs as text, after checking that they are capitals and digits, each once."""
    bytes_VA = np.array(bytes_VA)
    digit_VA = (bytes_VA >= ord("0")) & (bytes_VA <= ord("9"))
    fits_V = (digit_VA | (bytes_VA >= ord("A")) & (bytes_VA <= ord("Z"))).all(axis=1)
    if not fits_V.all():
        record = int(np.argmin(fits_V))
        raise DataError(
            f"{path}: record {record} begins with {bytes_VA[record].tobytes()!r}, which is no ASIN "
            f"({ASIN_BYTES} capitals and digits); the file is damaged there or of another format: "
            "download it again"
        )
    asins = bytes_VA.view(f"S{ASIN_BYTES}")[:, 0].astype(np.str_)
    _, first = np.unique(asins, return_index=True)
    if len(first) < len(asins):
        again = np.delete(np.arange(len(asins)), first)
        raise DataError(
            f"{path}: {len(again)} of {len(asins)} records repeat an ASIN, first "
            f"{str(asins[again[0]])!r} in record {again[0]}; keep one record for each product"
        )
    return asins
