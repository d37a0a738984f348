"""The checksum of a file, however large."""

import zlib
from pathlib import Path

_BLOCK = 2**22  # bytes


def file_crc(path: Path) -> int:
    """CRC-32 of a file, read a block at a time."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc
