"""The bytes that leave the devices in a real training step, beside the model's at the same sizes.

The step is the one that training runs, on a ``(1, N)`` mesh, for one batch of the built-in data. It
is compiled, its collectives are read from the compiled text, and it is run: its own report says how
many rows there were.
"""

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax

from benchmarks._traffic_account import (
    Flow,
    by_model,
    by_scope,
    check_rounds,
    in_program,
    rows_of,
)
from dicm_jax.ams.collectives import Collective, collectives
from dicm_jax.ams.exchange import OVERFLOWN
from dicm_jax.ams.ledger import Sizes, on_our_wire
from dicm_jax.ams.mesh import Roles
from dicm_jax.config import Config, DataConfig, ExchangeConfig, FeaturesConfig, TrainConfig
from dicm_jax.data.synthetic.reader import WorldConfig, generate
from dicm_jax.training import assemble
from dicm_jax.training.batch import IDS, Batch
from dicm_jax.training.connection import Connection
from dicm_jax.training.feed import lay_out
from dicm_jax.training.model import Model
from dicm_jax.training.state import Params
from dicm_jax.training.step import StepReport

CASES = (
    ("ams", "float32"),
    ("ams", "bfloat16"),
    ("ams", "int8"),
    ("ps_server", "float32"),
    ("ps_worker", "float32"),
)
"""Strategies, and wires of vectors, ID rows and their gradients. Images at rest are float32."""
_FEEDBACK_ROWS = 8192


@dataclasses.dataclass(frozen=True)
class Measured:
    """One strategy on one wire.

    Attributes:
      strategy, wire: which.
      impressions: of the batch, padding left out.
      images, ids: what travels for them.
      dense: bytes of all other all-reduces: the dense gradient, and sums for the report.
      model_dense: bytes of an all-reduce of every dense parameter in float32.
    """

    strategy: str
    wire: str
    impressions: int
    images: Flow
    ids: Flow
    dense: float
    model_dense: float


def measure(
    world: WorldConfig,
    impressions: int,
    roles: Roles,
    cases: Sequence[tuple[str, str]] = CASES,
    compiler_options: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Measured]:
    """Compile and run one step of each case, all on the same batch and from the same parameters.

    Args:
      world: the data; its `content_width` is the images'.
      impressions: of the batch.
      roles: a ``(1, N)`` mesh of devices with both roles.
      cases: strategies and wires.
      compiler_options: of XLA.

    Raises:
      TrafficError: a program whose bytes cannot be told.
    """
    log = generate(world)
    with tempfile.TemporaryDirectory() as folder:
        jobs: dict[bool, assemble.Job] = {}
        made: tuple[Model, Params] | None = None
        for strategy, wire in cases:
            in_batch = strategy == "ps_worker"
            config = _config(world, impressions, strategy, wire, folder if in_batch else None)
            if in_batch not in jobs:
                jobs[in_batch] = assemble.start_job(config, log, roles)
            job = dataclasses.replace(jobs[in_batch], config=config)
            made = assemble.new_model(job) if made is None else made
            yield _measure_one(job, *made, compiler_options)


def _config(
    world: WorldConfig, impressions: int, strategy: Any, wire: Any, folder: str | None
) -> Config:
    return Config(
        data=DataConfig(world=world),
        features=FeaturesConfig(storage="float32", path=folder, verify=False),
        exchange=ExchangeConfig(
            strategy=strategy, wire=wire, id_wire=wire, feedback_rows=_FEEDBACK_ROWS
        ),
        train=TrainConfig(batch_size=impressions),
    )


def _measure_one(
    job: assemble.Job, model: Model, params: Params, compiler_options: Mapping[str, Any]
) -> Measured:
    source = assemble.train_source(job.config, job.log)
    connection = job.connect(source, model)
    moves = assemble.optimizers(job.config.optimizer, source)
    state = assemble.initial_state(job, model, params, moves, connection)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    batch = lay_out(connection.plan(0), job.roles)
    step: Any = connection.train_step(model, moves)
    lowered = step.lower(state, job.tables, batch)
    compiled = lowered.compile(compiler_options=dict(compiler_options))
    # What only runs in an overflown step did not: `check_rounds` sees to that.
    found = [one for one in collectives(compiled.as_text()) if not one.within(OVERFLOWN)]
    _, report = compiled(state, job.tables, batch)
    return _side_by_side(job, connection, batch, found, jax.device_get(report), parameters)


def _side_by_side(
    job: assemble.Job,
    connection: Connection,
    batch: Batch,
    found: Sequence[Collective],
    report: StepReport,
    parameters: int,
) -> Measured:
    check_rounds(found, int(report.rounds))
    exchange, devices = job.config.exchange, job.roles.requesters
    content, capacities = batch.servers.content, connection.planner.capacities
    sorted_out = by_scope(found, list(content))
    sizes = _sizes(job, report)
    model = by_model(sizes, exchange.strategy)
    requests = {
        "images": {name: (content[name], capacities.content[name]) for name in content},
        "ids": {IDS: (batch.servers.ids, capacities.ids)},
    }
    flows = {
        kind: Flow(
            rows_of(
                list(lists.values()),
                _total(report.traffic.listed, lists),
                _total(report.traffic.handled, lists),
            ),
            in_program(sorted_out[kind], devices),
            model[kind],
        )
        for kind, lists in requests.items()
    }
    return Measured(
        exchange.strategy,
        exchange.wire,
        sizes.impressions,
        **flows,
        dense=devices * sum(one.bytes_leaving for one in sorted_out["dense"]),
        model_dense=2 * (devices - 1) * 4 * parameters,
    )


def _sizes(job: assemble.Job, report: StepReport) -> Sizes:
    """The sizes of the step that ran, as the model takes them."""
    listed = dict(report.traffic.listed)
    ids = int(listed.pop(IDS))
    sizes = Sizes(
        impressions=int(report.workers.impressions),
        images=_total(listed, listed),
        ids=ids,
        samples=job.log.train.n_impressions,
        table_images=job.log.features.count,
        content_width=job.config.data.world.content_width,
        embedding_width=job.config.model.embedding_width,
    )
    return on_our_wire(sizes, job.config.exchange.wire)


def _total(counts: Mapping[str, Any], lists: Iterable[str]) -> int:
    return sum(int(counts[name]) for name in lists)
