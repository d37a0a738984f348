"""The IDs that the keys of a run stand for, kept beside its checkpoints.

A checkpoint's ID rows mean something only with their vocabularies. Where a log tells the IDs of a
vocabulary (`ClickLog.ids`), a run keeps them in its folder once, and each checkpoint has their
CRC-32. So the rows find their IDs again in a log that gives them other keys.
"""

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from dicm_jax.ams.layout import RowLayout
from dicm_jax.data.schema import ClickLog
from dicm_jax.errors import CheckpointError

FOLDER = "vocabularies"
_COLUMN = "value"


@dataclasses.dataclass(frozen=True)
class Keys:
    """The vocabularies of an ID table.

    Attributes:
      sizes: of the vocabularies, in the order in which they are stacked.
      crcs: of the IDs of those whose IDs are known (`crc_of`).
      ids: the IDs of such a vocabulary, in the order of their keys.
    """

    sizes: Mapping[str, int]
    crcs: Mapping[str, int]
    ids: Callable[[str], pa.Array]

    @property
    def layout(self) -> RowLayout:
        """Where the keys lie."""
        return RowLayout(sum(self.sizes.values()))

    def start(self, name: str) -> int:
        """First key of a vocabulary."""
        names = list(self.sizes)
        return sum(self.sizes[before] for before in names[: names.index(name)])


def keys_of(log: ClickLog) -> Keys:
    """The vocabularies of a log."""
    crcs = {name: crc_of(values()) for name, values in log.ids.items()}
    return Keys(log.vocabulary_sizes, crcs, lambda name: log.ids[name]())


def crc_of(values: pa.Array) -> int:
    """CRC-32 of texts in their order, whatever arrays they lay in."""
    texts = pa.concat_arrays([values.cast(pa.large_string())])  # without what a slice leaves out
    _, offsets, letters = texts.buffers()
    ends = memoryview(offsets)[: (len(texts) + 1) * 8]
    crc = zlib.crc32(ends)
    return crc if letters is None else zlib.crc32(memoryview(letters), crc)


def keep(workdir: Path, keys: Keys) -> None:
    """Writes the IDs of each vocabulary in the order of their keys, ``vocabularies/NAME.parquet``.

    What is there of an earlier try is written again.
    """
    for name in keys.crcs:
        path = workdir / FOLDER / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        pyarrow.parquet.write_table(pa.table({_COLUMN: keys.ids(name)}), new)
        new.replace(path)


def kept(workdir: Path, name: str, crc: int) -> pa.Array:
    """The IDs of a vocabulary of a run.

    Args:
      workdir: folder of the run.
      name: of the vocabulary.
      crc: that its checkpoint says they have.

    Raises:
      CheckpointError: they are not there, or are others.
    """
    path = workdir / FOLDER / f"{name}.parquet"
    remedy = "bring the file back from a copy, or take over no ID rows (warm_parts='partial')"
    try:
        column = pyarrow.parquet.read_table(path, columns=[_COLUMN]).column(_COLUMN)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise CheckpointError(
            f"{path}: the IDs that the rows of the run stand for cannot be read"
            f" ({str(error).splitlines()[0]}); {remedy}"
        ) from error
    values = column.combine_chunks()
    if (found := crc_of(values)) != crc:
        raise CheckpointError(
            f"{path}: these are not the IDs that the checkpoint's rows stand for: their CRC-32 is"
            f" {found:08x}, the checkpoint says {crc:08x}; {remedy}"
        )
    return values
