"""The Beam pipelines of a preparation; the transforms are those of the other engines.

Rows travel as ``(partition, (target, job, chunk, bytes))``, where ``bytes`` is an Arrow stream of
one record batch. Beam has no order: a partition sorts what it gets by job and chunk, and so sees
its rows in the order of the tables, as on one machine.
"""

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.pvalue import TaggedOutput
from apache_beam.runners.runner import PipelineState
from apache_beam.utils.shared import Shared

from dicm_jax.errors import ConfigError
from dicm_jax.preparation import mapping, plan_files, scan_files
from dicm_jax.preparation.beam_errors import one_message
from dicm_jax.preparation.by_item import with_item_statistics
from dicm_jax.preparation.by_user import groups_of_users
from dicm_jax.preparation.config import PrepareConfig
from dicm_jax.preparation.output import write_bucket, written_bucket
from dicm_jax.preparation.partition import Parts, columns_of
from dicm_jax.preparation.partition import joined as joined_rows
from dicm_jax.preparation.plan import Plan
from dicm_jax.preparation.scan import Scan, joined, scan
from dicm_jax.preparation.tables import Fragment
from dicm_jax.preparation.unfinished import to_disk
from dicm_jax.preparation.workplace import Workplace, at_once

Sent = tuple[str, int, int, bytes]
"""Rows on their way: what they are, the job and the chunk they come from, and the rows."""

Tally = tuple[list[int], dict[str, int]]
"""Buckets that became shards, and things counted."""

_THIS_PROCESS = "FnApiRunner"  # DirectRunner would first look for Prism on the network
_TO_ITEMS, _TO_USERS, _COUNTS = "to_items", "to_users", "counts"
_GROUPS = "groups"
_OF_ITEMS = (mapping.SHOWN, mapping.CLICKED_BY_ITEM)
_VALUES_WAITING = 1 << 20


def options_of(flags: Sequence[str]) -> PipelineOptions:
    """Beam's options; without a runner, all is run in this process.

    Raises:
      ConfigError: Beam refuses one.
    """
    options = PipelineOptions(list(flags))
    standard = options.view_as(StandardOptions)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options.get_all_options()
    except SystemExit as error:  # of Beam's parser
        raise ConfigError(
            f"--beam-option={' --beam-option='.join(flags)}: Beam refuses it:"
            f" {said.getvalue().strip().splitlines()[-1]}; docs/beam.md has examples"
        ) from error
    standard.runner = standard.runner or _THIS_PROCESS
    return options


def scan_tables(
    options: PipelineOptions, config: PrepareConfig, place: Workplace, pieces: Sequence[Fragment]
) -> None:
    """Runs the first pipeline: the shares of the scan, in files."""
    with _finished(options) as pipeline:
        _ = (
            pipeline
            | "fragments" >> beam.Create(pieces)
            | "spread" >> beam.Reshuffle()
            | "scan" >> beam.ParDo(_Scan(config, place.shares))
            | "join" >> beam.CombinePerKey(_Join(config))
            | "save" >> beam.ParDo(_SaveShare(place))
        )


def make_groups(
    options: PipelineOptions, config: PrepareConfig, place: Workplace, pieces: Sequence[Fragment]
) -> None:
    """Runs the second pipeline: the shards, and the record of what was made."""
    plan = _PlanFile(config, place)
    with _finished(options) as pipeline:
        mapped = (
            pipeline
            | "fragments" >> beam.Create(list(enumerate(pieces)))
            | "spread" >> beam.Reshuffle()
            | "map" >> beam.ParDo(_Map(plan)).with_outputs(_TO_ITEMS, _TO_USERS, main=_COUNTS)
        )
        with_statistics = (
            mapped[_TO_ITEMS]
            | "items together" >> beam.GroupByKey()
            | "by item" >> beam.ParDo(_ByItem(plan))
        )
        written = (
            (mapped[_TO_USERS], with_statistics)
            | "for users" >> beam.Flatten()
            | "users together" >> beam.GroupByKey()
            | "by user" >> beam.ParDo(_ByUser(plan))
            | "times together" >> beam.GroupByKey()
            | "write" >> beam.ParDo(_Write(plan))
        )
        _ = (
            (mapped[_COUNTS], written)
            | "all counts" >> beam.Flatten()
            | "sum" >> beam.CombineGlobally(_summed)
            | "record" >> beam.ParDo(_Record(place))
        )


@contextlib.contextmanager
def _finished(options: PipelineOptions) -> Iterator[beam.Pipeline]:
    """A pipeline to be filled, which then runs to its end."""
    with one_message(str(options.view_as(StandardOptions).runner)):
        pipeline = beam.Pipeline(options=options)
        yield pipeline
        state = pipeline.run().wait_until_finish()
        if state != PipelineState.DONE:
            raise RuntimeError(f"the pipeline ended in state {state}")


class _Scan(beam.DoFn):
    """From a fragment to the shares of its scan."""

    def __init__(self, config: PrepareConfig, shares: int):
        self._config, self._shares = config, shares

    def process(self, element: Fragment) -> Iterator[tuple[int, Any]]:
        yield from enumerate(scan_files.shares(scan(self._config, element), self._shares))


class _Join(beam.CombineFn):
    """Joins scans wherever Beam has them; what waits to be joined is not much more than is."""

    def __init__(self, config: PrepareConfig):
        self._config = config

    def create_accumulator(self) -> list[Scan]:
        return []

    def add_input(self, accumulator: list[Scan], element: Scan) -> list[Scan]:
        accumulator.append(element)
        first, *rest = map(_values, accumulator)
        return self.compact(accumulator) if sum(rest) > first + _VALUES_WAITING else accumulator

    def merge_accumulators(self, accumulators: Iterable[list[Scan]]) -> list[Scan]:
        return self.compact([seen for held in accumulators for seen in held])

    def compact(self, accumulator: list[Scan]) -> list[Scan]:
        return [joined(self._config, accumulator)]

    def extract_output(self, accumulator: list[Scan]) -> Scan:
        return joined(self._config, accumulator)


def _values(seen: Scan) -> int:
    return sum(map(len, seen.values.values()))


class _SaveShare(beam.DoFn):
    """Writes a share of the scan."""

    def __init__(self, place: Workplace):
        self._place = place

    def process(self, element: tuple[int, Any]) -> None:
        number, share = element
        path = self._place.share(number)
        with to_disk(self._place.set_folder), at_once(path.parent) as made:
            scan_files.save(share, made / path.name)


class _PlanFile:
    """The plan, which each process of a worker reads once."""

    def __init__(self, config: PrepareConfig, place: Workplace):
        self.place = place
        self._config, self._shared = config, Shared()

    def load(self) -> Plan:
        return self._shared.acquire(lambda: plan_files.load(self._config, self.place.plan))


class _Planned(beam.DoFn):
    """A stage that knows the plan."""

    def __init__(self, plan_file: _PlanFile):
        self._plan_file = plan_file

    def setup(self) -> None:
        self._plan = self._plan_file.load()


class _Map(_Planned):
    """From a fragment to rows for items and for users, and counts."""

    def process(self, element: tuple[int, Fragment]) -> Iterator[Any]:
        job, fragment = element
        for chunk, done in enumerate(mapping.mapped(self._plan, fragment)):
            for target, parts in done.parts.items():
                to = _TO_ITEMS if target in _OF_ITEMS else _TO_USERS
                for sent in _sent(target, job, chunk, parts):
                    yield TaggedOutput(to, sent)
            yield [], done.counts


class _ByItem(_Planned):
    """From the rows of some items to impressions for their users."""

    def process(self, element: tuple[int, Any]) -> Iterator[tuple[int, Sent]]:
        partition, sent = element
        rows = _by_target(sent)
        parts = with_item_statistics(self._plan, *(columns_of(rows(name)) for name in _OF_ITEMS))
        yield from _sent(mapping.SHOWN, partition, 0, parts)


class _ByUser(_Planned):
    """From the rows of some users to groups for the buckets of their times."""

    def process(self, element: tuple[int, Any]) -> Iterator[tuple[int, Sent]]:
        partition, sent = element
        rows = _by_target(sent)
        targets = (mapping.SHOWN, mapping.CLICKED_BY_USER, mapping.PROFILES)
        parts = groups_of_users(self._plan, *(columns_of(rows(name)) for name in targets))
        yield from _sent(_GROUPS, partition, 0, parts)


class _Write(_Planned):
    """From the groups of a bucket to a shard."""

    def process(self, element: tuple[int, Any]) -> Iterator[Tally]:
        bucket, sent = element
        place = self._plan_file.place
        if written_bucket(bucket, place.written) is None:  # nor by an earlier run
            groups = joined_rows(_by_target(sent)(_GROUPS))
            with to_disk(place.set_folder), at_once(place.written) as made:
                write_bucket(self._plan, bucket, groups, made)
        yield [bucket], {}


class _Record(beam.DoFn):
    """Writes down that all is written."""

    def __init__(self, place: Workplace):
        self._place = place

    def process(self, element: Tally) -> None:
        buckets, counts = element
        with to_disk(self._place.set_folder):
            self._place.save_done(buckets, counts)


def _summed(tallies: Iterable[Tally]) -> Tally:
    buckets: set[int] = set()
    counts: dict[str, int] = {}
    for more, counted in tallies:
        buckets.update(more)
        for name, count in counted.items():
            counts[name] = counts.get(name, 0) + count
    return sorted(buckets), counts


def _sent(target: str, job: int, chunk: int, parts: Parts) -> Iterator[tuple[int, Sent]]:
    """The rows for each partition that gets some, ready to travel."""
    for partition, rows in enumerate(parts):
        if rows.num_rows:
            yield partition, (target, job, chunk, _packed(rows))


def _by_target(sent: Iterable[Sent]) -> Callable[[str], Iterator[pa.RecordBatch]]:
    """The rows that came for a target, in the order of job and chunk."""
    in_order = sorted(sent, key=lambda one: one[:3])
    return lambda target: (_unpacked(one[3]) for one in in_order if one[0] == target)


def _packed(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, rows.schema, options=options) as stream:
        stream.write_batch(rows)
    return sink.getvalue().to_pybytes()


def _unpacked(data: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(data) as stream:
        return stream.read_next_batch()
