"""The folder of a run belongs to one run at a time, and to one model."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from dicm_jax.checkpoint.fingerprint import check_same, fingerprint
from dicm_jax.checkpoint.locate import CHECKPOINTS, steps_in
from dicm_jax.config import Config
from dicm_jax.config_file import from_json_dict, to_json_dict
from dicm_jax.errors import CheckpointError
from dicm_jax.locked import locked
from dicm_jax.training.agreement import together
from dicm_jax.training.devices import is_main
from dicm_jax.whole_files import write_json

SETTINGS = "config.json"
_LOCK = ".lock"


@contextlib.contextmanager
def claimed(workdir: Path, config: Config) -> Iterator[None]:
    """Holds the folder of a run, and writes its settings there.

    Every process of the run comes here; the first one does it, and what it fails at all fail at.

    Raises:
      CheckpointError: another run is at work there, its checkpoints are of another model, or it
        cannot be written. Nothing has been changed then.
    """
    with contextlib.ExitStack() as stack:
        with together(CheckpointError):
            if is_main():
                _claim(workdir, config, stack)
        yield


def _claim(workdir: Path, config: Config, stack: contextlib.ExitStack) -> None:
    busy = CheckpointError(
        f"--workdir={workdir}: another run is at work there; let it end, or give this one a folder"
        " of its own"
    )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(workdir / _LOCK, busy))
        if steps_in(workdir / CHECKPOINTS) and (workdir / SETTINGS).exists():
            before = fingerprint(to_json_dict(config_of(workdir)))
            check_same(before, fingerprint(to_json_dict(config)), str(workdir))
        write_json(workdir / SETTINGS, to_json_dict(config))
    except OSError as error:
        raise CheckpointError(
            f"--workdir={workdir} cannot be written ({error}); see to room on the disk and to leave"
            " to write, or name another folder"
        ) from error


def config_of(workdir: Path) -> Config:
    """The settings of the run in `workdir`.

    Raises:
      CheckpointError: there is no run, or its settings cannot be read.
    """
    path = workdir / SETTINGS
    if not path.exists():
        raise CheckpointError(
            f"no run in {workdir}: it has no {SETTINGS}. Name the --workdir of a run of"
            " python -m dicm_jax.train"
        )
    try:
        tree = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(
            f"{path}: no JSON ({error}); bring the file back from a copy, or remove it and run the"
            " command of the run again, which writes it anew"
        ) from error
    return from_json_dict(tree, str(path))
