"""How a configuration connects workers and servers: strategy, wires, capacities and the plan."""

import dataclasses
from collections.abc import Mapping

from dicm_jax.ams.content import ModelServer
from dicm_jax.ams.embedding import Chunks
from dicm_jax.ams.mesh import Roles
from dicm_jax.ams.parameter_server import ParameterServer, RowsInBatch
from dicm_jax.ams.staging import HostTable
from dicm_jax.ams.strategy import Channel, Strategy
from dicm_jax.ams.wire import WIRES
from dicm_jax.config import Config, ExchangeConfig
from dicm_jax.data.batches import Source
from dicm_jax.training.capacity import Room, measured_room
from dicm_jax.training.dedicated import dedicated_predict_step, dedicated_train_step
from dicm_jax.training.feed import Plan, own_requesters
from dicm_jax.training.model import Model, Read, click_probability
from dicm_jax.training.planning import HostRows, Layouts, Planner
from dicm_jax.training.servers import Exchanges
from dicm_jax.training.step import (
    Optimizers,
    PredictStep,
    TrainStep,
    colocated_predict_step,
    colocated_train_step,
)

STRATEGIES: dict[str, Strategy] = {
    "ams": ModelServer(),
    "ps_server": ParameterServer(),
    "ps_worker": RowsInBatch(),
}


@dataclasses.dataclass(frozen=True)
class Connection:
    """Workers and servers, connected for the batches of one source.

    Attributes:
      roles: the devices.
      exchanges: how rows and vectors travel.
      planner: how batches are planned for that.
      source: the batches.
    """

    roles: Roles
    exchanges: Exchanges
    planner: Planner
    source: Source

    @property
    def plan(self) -> Plan:
        """The function that plans batch ``n`` for this process's devices."""
        own = own_requesters(self.roles)
        return lambda number: self.planner.read(self.source, number, own)

    def train_step(self, model: Model, optimizers: Optimizers) -> TrainStep:
        """The training step for the placement."""
        make = colocated_train_step if self.roles.colocated else dedicated_train_step
        return make(model, optimizers, self.exchanges, self.roles)

    def predict_step(self, model: Model, read: Read = click_probability) -> PredictStep:
        """The prediction step for the placement: what `read` says of each impression."""
        make = colocated_predict_step if self.roles.colocated else dedicated_predict_step
        return make(model, self.exchanges, self.roles, read)


def connect(
    config: Config,
    source: Source,
    model: Model,
    layouts: Layouts,
    roles: Roles,
    host: Mapping[str, HostTable],
) -> Connection:
    """Connect the devices for a source of batches.

    Args:
      config: of the run.
      source: where capacities are measured.
      model: what is trained.
      layouts: where rows lie.
      roles: the devices.
      host: tables on the host by content; those of contents in device memory are left out.
    """
    settings, inputs = config.exchange, model.spec.inputs
    room = measured_room(
        source,
        roles,
        layouts,
        inputs,
        settings.capacity_factor,
        distinct=settings.dedup_worker,
    )
    planner = Planner(
        roles.requesters,
        roles.workers_per_list,
        room.capacities,
        layouts,
        inputs,
        distinct=settings.dedup_worker,
        host_rows=_host_rows(config, model, host, room),
    )
    return Connection(roles, exchanges_for(settings, model, room, roles), planner, source)


def exchanges_for(settings: ExchangeConfig, model: Model, room: Room, roles: Roles) -> Exchanges:
    """How rows and vectors travel under `settings`."""
    whole = settings.chunk or _usual_chunk(roles)
    chunks = Chunks(whole, max(8, whole // 8))
    return Exchanges(
        strategy=STRATEGIES[settings.strategy],
        content={
            name: Channel(
                model.embedders[name],
                capacity,
                WIRES[settings.wire],
                chunks,
                merge=settings.dedup_server,
            )
            for name, capacity in sorted(room.capacities.content.items())
        },
        tables=model.spec.tables,
        ids=room.capacities.ids,
        id_wire=WIRES[settings.id_wire],
        distinct=settings.dedup_worker,
    )


def _usual_chunk(roles: Roles) -> int:
    return 512 if roles.servers.devices.flat[0].platform == "cpu" else 8192


def _host_rows(
    config: Config, model: Model, host: Mapping[str, HostTable], room: Room
) -> HostRows | None:
    on_workers = config.exchange.strategy == "ps_worker"
    tables = {name: host[content] for name, content in model.spec.tables.items() if content in host}
    if not tables:
        return None
    rooms = room.staged_at_worker if on_workers else room.staged_at_server
    return HostRows(tables, rooms, on_workers)


def on_host(config: Config) -> bool:
    """Whether the rows of feature tables stay on the host."""
    return config.features.tier == "host" or config.exchange.strategy == "ps_worker"
