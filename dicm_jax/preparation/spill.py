"""Rows on their way between the stages of a preparation, kept in files: a shuffle on one machine.

Every job of a stage writes one Arrow file for each place its rows go to, which holds a record batch
for each partition, again and again for each chunk that the job handled. A partition is read by
taking its batches from the files of all jobs. The record of a job is written when its files are on
disk: no record, the job is done again.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from dicm_jax import sealed_json
from dicm_jax.preparation.partition import Parts

_FORMAT, _VERSION = "dicm_jax preparation job", 1


class Spill:
    """The files of one stage.

    Args:
      folder: of the stage.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def counts(self, job: int) -> dict[str, int] | None:
        """What a job counted, or None if it is not done."""
        record = self._record(job)
        if not record.exists():
            return None
        body = sealed_json.load(
            record, format=_FORMAT, version=_VERSION, what="a job of a preparation"
        )
        return body["counts"]

    def write(
        self, job: int, produced: Iterable[tuple[Mapping[str, Parts], Mapping[str, int]]]
    ) -> dict[str, int]:
        """Writes what a job produces, chunk after chunk; returns the sums of its counts.

        Args:
          job: its number.
          produced: for each chunk, rows for each partition by where they go, and counts.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        counts: dict[str, int] = {}
        with contextlib.ExitStack() as stack:
            writers: dict[str, pa.ipc.RecordBatchFileWriter] = {}
            for parts_of, counted in produced:
                for target, parts in parts_of.items():
                    for batch in parts:
                        if target not in writers:
                            writers[target] = stack.enter_context(
                                _writer(self._path(target, job), batch.schema)
                            )
                        writers[target].write_batch(batch)
                for name, count in counted.items():
                    counts[name] = counts.get(name, 0) + count
        for target in writers:
            sealed_json.sync(self._path(target, job))
        body = {"format": _FORMAT, "version": _VERSION, "counts": counts}
        sealed_json.save(self._record(job), body)
        return counts

    def read(self, target: str, partition: int, partitions: int) -> Iterator[pa.RecordBatch]:
        """The rows that all jobs sent to a partition, in the order of the jobs."""
        for path in sorted(self._folder.glob(f"{target}-*.arrow")):
            with pa.memory_map(str(path)) as file:
                reader = pa.ipc.open_file(file)
                for number in range(partition, reader.num_record_batches, partitions):
                    batch = reader.get_batch(number)
                    if batch.num_rows:
                        yield batch

    def _path(self, target: str, job: int) -> Path:
        return self._folder / f"{target}-{job:06d}.arrow"

    def _record(self, job: int) -> Path:
        return self._folder / f"job-{job:06d}.json"


@contextlib.contextmanager
def _writer(path: Path, schema: pa.Schema) -> Iterator[pa.ipc.RecordBatchFileWriter]:
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema, options=options) as made:
        yield made
