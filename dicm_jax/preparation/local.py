"""A preparation on one machine: stages of jobs in threads, each of which is done once.

Stages, in order; the rows of one wait in files (`Spill`) for the next:

    scan       each fragment of each table: which values there are, when impressions were
    map        each fragment: rows as integers, to the partitions of their items and users
    by_item    each partition of items: statistics of earlier periods, to the users
    by_user    each partition of users: sample groups, to the buckets of their times
    write      each bucket: a shard of the set

Killed at any point and started again, it goes on with the jobs that are not done.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from dicm_jax.data.prepared.assembly import check_free
from dicm_jax.data.prepared.manifest import Prepared
from dicm_jax.preparation import mapping
from dicm_jax.preparation.by_item import with_item_statistics
from dicm_jax.preparation.by_user import groups_of_users
from dicm_jax.preparation.catalogue import read_items
from dicm_jax.preparation.config import PrepareConfig
from dicm_jax.preparation.output import Written, finished, write_bucket, written_bucket
from dicm_jax.preparation.partition import Parts, columns_of, joined
from dicm_jax.preparation.plan import Plan, make_plan
from dicm_jax.preparation.scan import Scan, Seen, scan
from dicm_jax.preparation.sources import fragments
from dicm_jax.preparation.spill import Spill
from dicm_jax.preparation.tables import Fragment
from dicm_jax.preparation.unfinished import WORK, alone, begun, publish, to_disk

T = TypeVar("T")
GROUPS = "groups"

Job = Callable[[int], Iterator[tuple[Mapping[str, Parts], Mapping[str, int]]]]
"""From the number of a job to what it produces, chunk after chunk."""


def prepare(config: PrepareConfig, folder: Path) -> Prepared:
    """Makes the prepared set of some log tables.

    Args:
      config: the settings.
      folder: of the set; must not exist, or be empty.

    Raises:
      DataError: anything that is wrong with the tables, with the row where it is; another
        preparation stands unfinished in the folder's place; the disk is full.
    """
    check_free(folder)
    with to_disk(folder):
        pieces = fragments(config)
        unfinished, now = begun(config, folder)
        with alone(unfinished):
            stages = _Stages(unfinished / WORK, config.runner.workers or os.cpu_count() or 1)
            items = read_items(config)
            seen = stages.scan(config, pieces)
            plan = make_plan(config, seen, items, now)
            counts = _run(plan, stages, pieces)
            written = stages.each("write", range(plan.buckets), _writing(plan, stages))
            prepared = finished(plan, items, seen, written, counts, unfinished)
            publish(unfinished, folder)
    return prepared


def _run(plan: Plan, stages: "_Stages", pieces: Sequence[Fragment]) -> dict[str, int]:
    """The stages between the tables and the groups; what they counted."""
    shares = plan.partitions
    by_map, by_item = stages.spill("map"), stages.spill("by_item")

    def map_fragment(job: int) -> Iterator[tuple[Mapping[str, Parts], Mapping[str, int]]]:
        for done in mapping.mapped(plan, pieces[job]):
            yield done.parts, done.counts

    def of_items(job: int) -> Iterator[tuple[Mapping[str, Parts], Mapping[str, int]]]:
        rows = [
            columns_of(by_map.read(target, job, shares))
            for target in (mapping.SHOWN, mapping.CLICKED_BY_ITEM)
        ]
        yield {mapping.SHOWN: with_item_statistics(plan, *rows)}, {}

    def of_users(job: int) -> Iterator[tuple[Mapping[str, Parts], Mapping[str, int]]]:
        shown = columns_of(by_item.read(mapping.SHOWN, job, shares))
        clicked = columns_of(by_map.read(mapping.CLICKED_BY_USER, job, shares))
        profiles = columns_of(by_map.read(mapping.PROFILES, job, shares))
        yield {GROUPS: groups_of_users(plan, shown, clicked, profiles)}, {}

    counts = stages.run("map", len(pieces), map_fragment)
    counts |= stages.run("by_item", shares, of_items)
    stages.forget("map", mapping.SHOWN, mapping.CLICKED_BY_ITEM)
    counts |= stages.run("by_user", shares, of_users)
    return counts


def _writing(plan: Plan, stages: "_Stages") -> Callable[[int], Written | None]:
    spill = stages.spill("by_user")

    def write(bucket: int) -> Written | None:
        known = written_bucket(bucket, stages.folder("write"))
        if known is not None:
            return known
        groups = joined(spill.read(GROUPS, bucket, plan.buckets))
        return write_bucket(plan, bucket, groups, stages.folder("write"))

    return write


class _Stages:
    """Runs the jobs of stages in threads, those that are not done yet.

    Args:
      folder: where the files of the stages lie.
      workers: threads.
    """

    def __init__(self, folder: Path, workers: int):
        self._folder, self._workers = folder, workers

    def folder(self, stage: str) -> Path:
        """Where the files of a stage lie."""
        return self._folder / stage

    def spill(self, stage: str) -> Spill:
        """The rows that a stage leaves for the next."""
        return Spill(self.folder(stage))

    def run(self, stage: str, jobs: int, work: Job) -> dict[str, int]:
        """Runs a stage; what its jobs counted, in sum."""
        spill = self.spill(stage)

        def once(job: int) -> dict[str, int]:
            known = spill.counts(job)
            return spill.write(job, work(job)) if known is None else known

        sums: dict[str, int] = {}
        for counts in self.each(stage, range(jobs), once):
            for name, count in counts.items():
                sums[name] = sums.get(name, 0) + count
        return sums

    def scan(self, config: PrepareConfig, pieces: Sequence[Fragment]) -> Scan:
        """What is in all fragments; quick enough to look again after a stop."""
        seen = Seen(config)
        self.each("scan", pieces, lambda piece: seen.add(scan(config, piece)))
        return seen.all()

    def each(self, stage: str, jobs: Sequence[Any], work: Callable[[Any], T]) -> list[T]:
        """The results of jobs, in order, with a progress bar; the first error ends them all."""
        results: dict[int, T] = {}
        pause = 0.1 if sys.stderr.isatty() else 5.0
        with (
            ThreadPoolExecutor(self._workers) as pool,
            tqdm(total=len(jobs), desc=stage, unit="job", mininterval=pause) as bar,
        ):
            numbers = {pool.submit(work, job): number for number, job in enumerate(jobs)}
            try:
                for done in as_completed(numbers):
                    results[numbers[done]] = done.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [results[number] for number in range(len(jobs))]

    def forget(self, stage: str, *targets: str) -> None:
        """Removes rows that all later stages have done with."""
        for target in targets:
            for path in (self._folder / stage).glob(f"{target}-*.arrow"):
                path.unlink()
