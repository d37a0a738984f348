"""Where the workers of a distributed preparation and its main program leave files for each other.

Work may be done twice, even at the same time: when a machine is lost or slow, engines give it to
another one. So every file is made in a folder of its own and then moved to its place in one step;
whoever comes last replaces a file by the same bytes.
"""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dicm_jax import sealed_json

_FORMAT, _VERSION = "dicm_jax preparation groups", 1


@dataclasses.dataclass(frozen=True)
class Workplace:
    """The places of files.

    Attributes:
      set_folder: the folder that the set will have, for messages.
      work: the folder of the work; its path holds on every machine.
      shares: into which the scan of the tables is cut.
    """

    set_folder: Path
    work: Path
    shares: int

    @property
    def plan(self) -> Path:
        """Folder of the plan."""
        return self.work / "plan"

    @property
    def written(self) -> Path:
        """Folder of the shards, the same for every engine."""
        return self.work / "write"

    @property
    def scanned(self) -> Path:
        """The record that the tables were scanned."""
        return self.work / "scanned.json"

    @property
    def done(self) -> Path:
        """The record that all groups are written."""
        return self.work / "groups.json"

    def share(self, number: int) -> Path:
        """A share of the scan."""
        return self.work / "scan" / f"share-{number:03d}.arrow"

    def save_done(self, buckets: list[int], counts: dict[str, int]) -> None:
        """Records the buckets that became shards, and what was counted."""
        body = {"format": _FORMAT, "version": _VERSION, "buckets": buckets, "counts": counts}
        with at_once(self.work) as made:
            sealed_json.save(made / self.done.name, body)

    def read_done(self) -> tuple[list[int], dict[str, int]]:
        """What `save_done` recorded."""
        body = sealed_json.load(
            self.done, format=_FORMAT, version=_VERSION, what="a record of written groups"
        )
        return body["buckets"], body["counts"]


@contextlib.contextmanager
def at_once(folder: Path) -> Iterator[Path]:
    """A new folder for files, which then move to `folder`, records (``.json``) last."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".attempt-", dir=folder) as attempt:
        yield Path(attempt)
        for made in sorted(Path(attempt).iterdir(), key=lambda made: made.suffix == ".json"):
            os.replace(made, folder / made.name)
        sealed_json.sync(folder)
