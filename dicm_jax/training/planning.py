"""From keys to a planned batch: what every device asks for, and what it finds where.

Shape legend
    A   lanes of a batch     G   groups     B   impressions     L   behaviors per group
    F   ID fields of a level
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dicm_jax.ams import staging
from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.plan import Capacity, Request, plan
from dicm_jax.ams.staging import HostTable, Staged
from dicm_jax.data.batches import Source
from dicm_jax.data.key_batch import KeyBatch
from dicm_jax.training.batch import (
    IDS,
    Batch,
    Capacities,
    ContentInput,
    Samples,
    ServerBatch,
)


@dataclasses.dataclass(frozen=True)
class Layouts:
    """Where the rows of every table lie.

    Attributes:
      ids: of the ID table.
      content: by embedding model, of the table behind it.
    """

    ids: RowLayout
    content: dict[str, RowLayout]


@dataclasses.dataclass(frozen=True)
class HostRows:
    """Feature tables that stay on the host.

    Attributes:
      tables: by embedding model.
      rooms: rows of a staged table in the usual case, by embedding model.
      on_workers: rows go to workers, in the order of their lists, instead of to servers.
    """

    tables: Mapping[str, HostTable]
    rooms: Mapping[str, int]
    on_workers: bool

    def stage(
        self, model: str, requests: Mapping[int, Request], own: Sequence[int], capacity: Capacity
    ) -> Staged:
        """The rows of one batch for one embedding model."""
        table, room = self.tables[model], self.rooms[model]
        if self.on_workers:
            return staging.at_workers(requests, own, table, room)
        return staging.at_servers(requests, own, table, capacity, room)


@dataclasses.dataclass(frozen=True)
class PlannedList:
    """A batch's part for one requester, as NumPy arrays.

    Attributes:
      servers: for the server that asks.
      samples: for each of its workers.
      lists: its requests again, for its workers.
      rows: raw rows for its workers.
    """

    servers: ServerBatch
    samples: list[Samples]
    lists: dict[str, Request]
    rows: dict[str, FeatureTable]


@dataclasses.dataclass(frozen=True)
class Planner:
    """Plans batches for the devices of a process.

    Attributes:
      requesters: lists of a batch, over all processes.
      workers_per_list: workers that each list is made for.
      capacities: what the step is compiled for.
      layouts: where rows lie.
      inputs: where the model sees content.
      distinct: a list holds each row once (de-duplication within a worker).
      host_rows: tables that stay on the host; None where all lie in device memory.
    """

    requesters: int
    workers_per_list: int
    capacities: Capacities
    layouts: Layouts
    inputs: tuple[ContentInput, ...]
    distinct: bool = True
    host_rows: HostRows | None = None

    def plan(self, keys: KeyBatch, own: Sequence[int]) -> list[PlannedList]:
        """Plan the parts of the requesters `own` of a whole batch."""
        lanes_of = self._lanes_of(self._needed(own), len(keys.label_AB))
        return self._plan_lists({n: keys.take(lanes) for n, lanes in lanes_of.items()}, own)

    def read(self, source: Source, batch: int, own: Sequence[int]) -> list[PlannedList]:
        """Plan the parts of the requesters `own` of a batch; no lane is read that they can spare.

        They need the lanes of their own workers, and those of all where rows of feature tables are
        sent along: a server is sent rows for whoever asks it.
        """
        lanes_of = self._lanes_of(self._needed(own), source.shape.lanes)
        keys = source.lanes(batch, np.concatenate(list(lanes_of.values())))
        each = len(keys.label_AB) // len(lanes_of)
        return self._plan_lists(
            {n: keys.take(slice(i * each, (i + 1) * each)) for i, n in enumerate(lanes_of)}, own
        )

    def _needed(self, own: Sequence[int]) -> Sequence[int]:
        """The requesters whose lists take part in the plan of `own`."""
        return own if self.host_rows is None else range(self.requesters)

    def _lanes_of(self, requesters: Sequence[int], lanes: int) -> dict[int, np.ndarray]:
        """The lanes of each requester's workers: worker ``(i, number)`` has block ``i R + number``.

        Workers take the lanes of a batch in order, all the same number.
        """
        blocks = np.arange(lanes).reshape(self.workers_per_list, self.requesters, -1)
        return {number: blocks[:, number].reshape(-1) for number in requesters}

    def _plan_lists(
        self, lanes_of: Mapping[int, KeyBatch], own: Sequence[int]
    ) -> list[PlannedList]:
        parts = {number: self._plan_list(lanes) for number, lanes in lanes_of.items()}
        if self.host_rows is None:
            return [parts[number] for number in own]
        return self._staged(parts, own, self.host_rows)

    def _plan_list(self, lanes: KeyBatch) -> PlannedList:
        ids, id_slots = _plan_together(
            {
                "user": lanes.user_AGF,
                "impression": lanes.impression_ABF,
                "behavior": lanes.behavior_AGLF,
            },
            lambda flat: plan(flat, self.layouts.ids, self.capacities.ids, distinct=self.distinct),
        )
        content, content_slots = {}, {}
        for model in sorted({seen.model for seen in self.inputs}):
            content[model], slots_of = self._plan_content(lanes, model)
            content_slots |= slots_of
        count = self.workers_per_list
        samples = [_samples(lanes, id_slots, content_slots, i, count) for i in range(count)]
        return PlannedList(ServerBatch(ids, content, {}), samples, {IDS: ids} | content, {})

    def _plan_content(
        self, keys: KeyBatch, model: str
    ) -> tuple[Request, dict[tuple[str, str], np.ndarray]]:
        """One request for all inputs that an embedding model sees."""
        inputs = [seen for seen in self.inputs if seen.model == model]
        layout, capacity = self.layouts.content[model], self.capacities.content[model]
        return _plan_together(
            {(seen.side, seen.content): _content_keys(keys, seen) for seen in inputs},
            lambda flat: plan(flat, layout, capacity, distinct=self.distinct),
        )

    def _staged(
        self, parts: dict[int, PlannedList], own: Sequence[int], host_rows: HostRows
    ) -> list[PlannedList]:
        staged = {
            model: host_rows.stage(
                model,
                {number: part.servers.content[model] for number, part in parts.items()},
                own,
                self.capacities.content[model],
            )
            for model in self.capacities.content
        }
        return [_with_rows(parts[number], staged, number, host_rows.on_workers) for number in own]


def _with_rows(
    part: PlannedList, staged: Mapping[str, Staged], number: int, on_workers: bool
) -> PlannedList:
    tables = {model: made.tables[number] for model, made in staged.items()}
    if on_workers:
        return dataclasses.replace(part, rows=tables)
    requests = {model: made.requests[number] for model, made in staged.items()}
    return dataclasses.replace(part, servers=ServerBatch(part.servers.ids, requests, tables))


def _content_keys(keys: KeyBatch, seen: ContentInput) -> np.ndarray:
    of_side = keys.ad_AB if seen.side == "ad" else keys.behavior_content_AGL
    return of_side[seen.content]


def _plan_together(
    keys_of: dict, plan_flat: Callable[[np.ndarray], tuple[Request, np.ndarray]]
) -> tuple[Request, dict]:
    """One list for several arrays of keys, and the slots of each."""
    request, slots = plan_flat(np.concatenate([keys.reshape(-1) for keys in keys_of.values()]))
    ends = np.cumsum([keys.size for keys in keys_of.values()])[:-1]
    parts = zip(keys_of.items(), np.split(slots, ends), strict=True)
    return request, {name: part.reshape(keys.shape) for (name, keys), part in parts}


def _samples(
    keys: KeyBatch,
    id_slots: dict[str, np.ndarray],
    content_slots: dict[tuple[str, str], np.ndarray],
    worker: int,
    workers: int,
) -> Samples:
    """The part of worker number `worker` of the `workers` that share these lanes."""
    size = len(keys.label_AB) // workers
    mine = slice(worker * size, (worker + 1) * size)
    flat = lambda x: x[mine].reshape(-1, *x.shape[2:])  # noqa: E731  (joins lanes)
    first_group_A1 = np.arange(size, dtype=np.int32)[:, None] * keys.mask_AGL.shape[1]
    slots_of = lambda side: {  # noqa: E731
        content: flat(slots) for (of, content), slots in content_slots.items() if of == side
    }
    return Samples(
        user_slot_GF=flat(id_slots["user"]),
        impression_slot_BF=flat(id_slots["impression"]),
        behavior_slot_GLF=flat(id_slots["behavior"]),
        ad_slot_B=slots_of("ad"),
        behavior_content_slot_GL=slots_of("behavior"),
        behavior_mask_GL=flat(keys.mask_AGL),
        group_B=(keys.group_AB[mine] + first_group_A1).reshape(-1),
        label_B=flat(keys.label_AB),
        weight_B=flat(keys.weight_AB),
        stop=np.zeros(1, np.int32),
    )


def batch_of(parts: list[PlannedList]) -> Batch:
    """The shape that a planned batch has on the devices, from a process's parts of it."""
    return Batch(parts[0].servers, parts[0].samples[0], parts[0].lists, parts[0].rows)
