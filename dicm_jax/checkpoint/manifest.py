"""The list of the files of a checkpoint.

Orbax restores a flipped bit without a word, and does not miss every file that is gone. So the list
is written before the checkpoint gets its name, and compared before anything is restored.
"""

from dicm_jax.errors import CheckpointError
from dicm_jax.manifest import NAME, Manifest

__all__ = ["NAME", "check", "read", "write"]

_MANIFEST = Manifest(
    format="dicm_jax checkpoint",
    version=1,
    what="a whole checkpoint",
    remedy=(
        "bring the checkpoint back from a copy, or remove its folder to go on from an older one;"
        " nothing has been changed"
    ),
    error=CheckpointError,
)
write, read, check = _MANIFEST.write, _MANIFEST.read, _MANIFEST.check
