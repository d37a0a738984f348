"""A checkpoint gets its name last: after all its files, and after the list of them.

Orbax writes into a temporary folder and renames it. Here it is renamed twice: Orbax gives it a name
that no reader takes for a checkpoint's, the manifest is written into it, and then it gets its own.
Whatever moment a run is killed at, a folder with a checkpoint's name has all its files.
"""

import asyncio
import os
import shutil
from pathlib import Path

import orbax.checkpoint as ocp
from etils import epath

from dicm_jax import sealed_json
from dicm_jax.checkpoint import manifest

_UNLISTED = ".unlisted"


_Renamed = ocp.path.atomicity.AtomicRenameTemporaryPath


class PublishedWhole(_Renamed):
    """Orbax's temporary folder of a checkpoint, which ends with a manifest in it."""

    @classmethod
    def from_final(cls, final_path: epath.Path, **options):
        """The temporary folder of a checkpoint, or of an item in it, that will be `final_path`."""
        if not final_path.name.isdigit():
            return _Renamed.from_final(final_path, **options)  # an item: the checkpoint lists it
        return super().from_final(final_path.with_name(final_path.name + _UNLISTED), **options)

    def get_final(self) -> epath.Path:
        """Where the checkpoint will lie."""
        unlisted = super().get_final()
        return unlisted.with_name(unlisted.name.removesuffix(_UNLISTED))

    async def finalize(self) -> None:
        """Lists the files and gives the folder its name."""
        await super().finalize()
        await asyncio.to_thread(publish, Path(super().get_final()), Path(self.get_final()))


def publish(unlisted: Path, final: Path) -> None:
    """Writes the manifest of the finished files in `unlisted`, then renames it to `final`."""
    manifest.write(unlisted)
    os.rename(unlisted, final)
    sealed_json.sync(final.parent)


def remove_unlisted(folder: Path) -> None:
    """Removes what a kill between the two names has left in a folder of checkpoints."""
    for left in folder.glob(f"*{_UNLISTED}"):
        shutil.rmtree(left)
