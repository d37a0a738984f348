"""A preparation under way: where it is made, how it goes on after a stop, how it becomes the set.

Whatever engine runs the stages, a set is made in a folder of another name. The first record in it
says which preparation it is, so that only the same one goes on with what is there.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dicm_jax import sealed_json
from dicm_jax.data.prepared.manifest import unfinished_folder
from dicm_jax.errors import DataError
from dicm_jax.locked import locked
from dicm_jax.preparation.columns import iso_seconds
from dicm_jax.preparation.config import PrepareConfig
from dicm_jax.preparation.sources import fingerprint_of

WORK = "work"
"""What the stages leave for each other, below the unfinished folder."""

_STARTED = "started.json"
_FORMAT, _VERSION = "dicm_jax preparation", 1


def begun(config: PrepareConfig, folder: Path) -> tuple[Path, int]:
    """Begins the preparation of a set, or goes on with it.

    Args:
      config: the settings.
      folder: of the set.

    Returns:
      The folder that the set is made in, and the present (seconds since 1970) as it was when this
      preparation first started.

    Raises:
      DataError: another preparation stands unfinished in the folder's place.
    """
    unfinished = unfinished_folder(folder)
    record = unfinished / WORK / _STARTED
    print_of = fingerprint_of(config)
    if record.exists():
        body = sealed_json.load(
            record, format=_FORMAT, version=_VERSION, what="an unfinished preparation"
        )
        changed = _first_difference(body["fingerprint"], print_of)
        if changed is not None:
            raise DataError(
                f"{unfinished}: an unfinished preparation of {folder.name} with other settings or"
                f" other files: {changed}; finish that one, or remove the folder to start anew"
            )
        return unfinished, body["now"]
    if unfinished.exists():
        shutil.rmtree(unfinished)  # it did not get as far as its first record
    record.parent.mkdir(parents=True)
    now = config.policy.now
    second = int(time.time()) if now is None else iso_seconds("policy.now", now)
    body = {"format": _FORMAT, "version": _VERSION, "fingerprint": print_of, "now": second}
    sealed_json.save(record, body)
    return unfinished, second


@contextlib.contextmanager
def alone(unfinished: Path) -> Iterator[None]:
    """Keeps other processes from making the same set at the same time.

    Raises:
      DataError: another one is.
    """
    busy = DataError(
        f"{unfinished}: another process is making this set; let it end, or end it and run the same"
        " command again"
    )
    with locked(unfinished / WORK / _STARTED, busy):
        yield


def publish(unfinished: Path, folder: Path) -> None:
    """Gives a set that is whole its name, then removes the work that led to it.

    In this order: half the work without the set would look like work to go on with.
    """
    if folder.exists():
        folder.rmdir()
    os.replace(unfinished, folder)
    sealed_json.sync(folder.parent)
    shutil.rmtree(folder / WORK)


@contextlib.contextmanager
def to_disk(folder: Path) -> Iterator[None]:
    """Says what to do when the set in `folder` cannot be written.

    Raises:
      DataError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: the set cannot be written ({error}); see to room on the disk and to leave"
            " to write, then run the same command again: it goes on where it stopped"
        ) from error


def _first_difference(then: dict[str, Any], now: dict[str, Any]) -> str | None:
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            was, is_now = (json.dumps(side.get(name)) for side in (then, now))
            return f"{name} was {was}, now it is {is_now}"
    return None
