"""Where checkpoints lie: in a run's folder, in a folder of checkpoints, or alone."""

from pathlib import Path

from dicm_jax.errors import CheckpointError

CHECKPOINTS, BEST = "checkpoints", "best"
"""Folders of a run: its newest checkpoints, and that of its best step where it stops early."""


def trained(workdir: Path) -> Path:
    """Where the checkpoint lies that a run ends with.

    Its best, where it looked for one and has found it; else its newest.
    """
    best = workdir / BEST
    return best if steps_in(best) else workdir / CHECKPOINTS


def steps_in(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, ascending; empty where there is none."""
    return sorted(int(entry.name) for entry in folder.glob("*") if entry.name.isdigit())


def step_folder(source: Path, asked: str) -> Path:
    """The checkpoint that is meant by a folder: of a run, of checkpoints, or the checkpoint itself.

    Args:
      source: the folder.
      asked: what names it, for the message.

    Raises:
      CheckpointError: there is none.
    """
    if (source / "state").is_dir():
        return source.absolute()
    for folder in (trained(source), source):
        if steps := steps_in(folder):
            return (folder / str(steps[-1])).absolute()
    raise CheckpointError(
        f"{asked}: no finished checkpoint in {source}; name the folder of a run of python -m"
        " dicm_jax.train that has saved one"
    )
