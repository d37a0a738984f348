"""A folder that gets its name when all of it is there, and not before."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dicm_jax import sealed_json
from dicm_jax.errors import CheckpointError


@contextlib.contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Gives a folder beside `output` to work in, and calls it `output` at the end.

    After an error it is removed; what a killed process leaves, ``.NAME.unfinished``, the next one
    for the same output removes.

    Raises:
      CheckpointError: the output exists, somebody else is making it, or it cannot be written.
    """
    output = output.absolute()
    if output.exists() or output.is_symlink():
        raise CheckpointError(
            f"--output={output} exists, and nothing is ever changed in place; name a new folder, or"
            " remove that one first"
        )
    work = output.with_name(f".{output.name}.unfinished")
    try:
        with _alone(work):
            yield work
            if output.exists():
                raise CheckpointError(
                    f"--output={output} was made by somebody else meanwhile; name another folder"
                )
            os.rename(work, output)
            sealed_json.sync(output.parent)
    except OSError as error:
        raise CheckpointError(
            f"--output={output} cannot be written ({error}); see to room on the disk and to leave"
            " to write, and run the same command again: nothing was left behind"
        ) from error


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """The empty folder `work`, held by this process; gone after an error."""
    work.mkdir(parents=True, exist_ok=True)
    held = os.open(work, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(
                f"{work}: another process is at work there; let it end, or give another --output"
            ) from None
        try:
            for left in work.iterdir():  # by a process that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    finally:
        os.close(held)
