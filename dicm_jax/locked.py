"""Work that one process at a time may do."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from dicm_jax.errors import DicmError


@contextlib.contextmanager
def locked(path: Path, busy: DicmError) -> Iterator[None]:
    """Holds the lock of a file, which the system lets go of however this process ends.

    Args:
      path: of the file, made where there is none.
      busy: raised where another process holds the lock.
    """
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        yield
