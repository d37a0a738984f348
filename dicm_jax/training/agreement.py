"""What the processes of a run tell each other, so that all of them decide alike."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from dicm_jax.errors import DicmError


def texts_of_all(text: str) -> list[str]:
    """A text of each process, in their order; every process must call this."""
    if jax.process_count() == 1:
        return [text]
    mine = np.frombuffer(text.encode(), np.uint8)
    lengths_P = multihost_utils.process_allgather(np.array([len(mine)])).reshape(-1)
    padded = np.zeros(int(lengths_P.max()), np.uint8)
    padded[: len(mine)] = mine
    texts_PX = multihost_utils.process_allgather(padded)
    return [
        bytes(text_X[:length]).decode() for text_X, length in zip(texts_PX, lengths_P, strict=True)
    ]


@contextlib.contextmanager
def together(error_of_others: type[DicmError]) -> Iterator[None]:
    """What fails in one process fails in all of them, with its message.

    Every process must come here. Without it, the others would wait for the one that failed.

    Args:
      error_of_others: raised by processes that did not fail themselves.

    Raises:
      DicmError: its own, or of the type given with the message of the first that failed.
    """
    failure: DicmError | None = None
    try:
        yield
    except DicmError as error:
        failure = error
    texts = texts_of_all("" if failure is None else str(failure) or "failed")
    if failure is not None:
        raise failure
    for process, text in enumerate(texts):
        if text:
            raise error_of_others(f"process {process}: {text}")
