"""What the compiled step does: which collectives it has, and what it keeps in memory."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from dicm_jax.ams import ledger
from dicm_jax.ams.collectives import Collective, collectives
from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.keys import IMAGE
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import table_sharding
from dicm_jax.config import ExchangeConfig
from dicm_jax.training.step import colocated_train_step
from tests import small_world
from tests.small_world import CONTENT_WIDTH, EMBEDDING_WIDTH, TEXT_WIDTH

FLOATS = ("f64", "f32", "f16", "bf16")
DENSE = "all-reduce"
ROOM, WORKERS, SERVERS = 2, 2, 4


def compiled(**options: Any) -> list[Collective]:
    """The collectives of the step, compiled."""
    run = small_world.run(WORKERS, SERVERS, per_server=ROOM, **options)
    batch = run.batch(run.source[0])
    return collectives(run.step.lower(run.state, run.tables, batch).compile().as_text())


def wide(found: list[Collective], width: int) -> list[tuple[str, tuple[int, ...]]]:
    """Kind and sorted dims of what has a dim that holds `width`.

    Widths are primes that divide no other dim: they cannot hide in a flattened one.
    """
    return [
        (one.kind, tuple(sorted(operand.dims)))
        for one in found
        for operand in one.operands
        if any(dim % width == 0 for dim in operand.dims)
    ]


def exchanged(found: list[Collective]) -> list[tuple[str, int]]:
    """Type and number of elements that a device puts into each all-to-all."""
    totals = []
    for one in found:
        if one.kind == "all-to-all":
            elements = sum(int(np.prod(operand.dims)) for operand in one.operands)
            totals.append((one.operands[0].dtype, elements))
    return totals


def test_nothing_of_the_contents_width_travels_but_the_first_layers_gradient():
    found = compiled()
    assert {one.kind for one in found} >= {"all-to-all", DENSE}
    hidden = small_world.model_spec().compressor.widths[0]
    assert wide(found, CONTENT_WIDTH) == [(DENSE, (hidden, CONTENT_WIDTH))] * 2
    floats = {elements for dtype, elements in exchanged(found) if dtype in FLOATS}
    assert floats == {EMBEDDING_WIDTH * ROOM * SERVERS}


def test_nothing_of_any_contents_width_travels_but_first_layers_gradients():
    found = compiled(
        spec=small_world.model_spec(contents=(IMAGE, small_world.TEXT)),
        click_log=small_world.log_with_texts(),
    )
    hidden = small_world.model_spec().compressor.widths[0]
    for width in (CONTENT_WIDTH, TEXT_WIDTH):
        assert wide(found, width) == [(DENSE, tuple(sorted((hidden, width))))] * 2
    floats = {elements for dtype, elements in exchanged(found) if dtype in FLOATS}
    assert floats == {EMBEDDING_WIDTH * ROOM * SERVERS}


@pytest.mark.parametrize(("wire", "dtype"), [("bfloat16", "u16"), ("int8", "s8")])
def test_narrow_wires_carry_the_bytes_of_the_ledger_and_no_float(wire, dtype):
    found = compiled(settings=ExchangeConfig(chunk=64, wire=wire, id_wire=wire))
    size = ledger.wire_bytes(wire, EMBEDDING_WIDTH) * ROOM * SERVERS
    vectors = [one for one in found if one.kind == "all-to-all" and not _numbers_of_rows(one)]
    assert {operand.dtype for one in vectors for operand in one.operands} == {dtype}
    assert {one.operand_bytes for one in vectors} == {size}


def _numbers_of_rows(one: Collective) -> bool:
    return one.operands[0].dtype == "s32"


def test_a_parameter_server_sends_rows_one_way_and_no_vectors():
    found = compiled(settings=ExchangeConfig(chunk=64, strategy="ps_server"))
    rows = [one for one in wide(found, CONTENT_WIDTH) if one[0] == "all-to-all"]
    pulls = [one for one in found if one.kind == "all-to-all" and one.within("pull_content_ad")]
    pushes = [one for one in found if one.kind == "all-to-all" and one.within("push_content_ad")]
    assert rows
    assert CONTENT_WIDTH * ROOM * SERVERS in {elements for _, elements in exchanged(pulls)}
    assert not pushes


def test_rows_in_the_batch_leave_only_ids_to_exchange():
    found = compiled(settings=ExchangeConfig(chunk=64, strategy="ps_worker"))
    exchanges = [one for one in found if one.kind == "all-to-all"]
    assert exchanges
    assert all(one.within("pull_ids") or one.within("push_ids") for one in exchanges)


def sized(run: small_world.Run, times: int) -> Any:
    """The run's step, compiled for tables that many times larger."""
    n_ids = RowLayout(run.source.stack.n_keys * times).n_rows
    n_images = RowLayout(small_world.IMAGES * times).n_rows
    servers = run.roles.servers.size
    old = run.exchanges
    grown = lambda capacity, n_rows: dataclasses.replace(  # noqa: E731
        capacity, rows_per_server=n_rows // servers
    )
    content = {
        name: dataclasses.replace(channel, capacity=grown(channel.capacity, n_images))
        for name, channel in old.content.items()
    }
    exchanges = dataclasses.replace(old, ids=grown(old.ids, n_ids), content=content)
    by_rows = table_sharding(run.mesh)

    def table(array: Any, n_rows: int, dtype: Any, sharding: NamedSharding) -> Any:
        return jax.ShapeDtypeStruct((n_rows, *array.shape[1:]), dtype, sharding=sharding)

    state = dataclasses.replace(
        run.state,
        ids={name: table(x, n_ids, x.dtype, by_rows) for name, x in run.state.ids.items()},
    )
    # bfloat16 at rest: XLA:CPU would convert a whole table of it if let.
    stored = table(run.tables[IMAGE].stored_VD, n_images, jnp.uint16, by_rows)
    step: Any = colocated_train_step(run.model, small_world.adam(), exchanges, run.roles)
    batch = run.batch(run.source[0])
    tables = {IMAGE: FeatureTable(stored, None)}
    return step.lower(state, tables, batch).compile().memory_analysis()


def test_tables_are_updated_where_they_lie_and_never_copied():
    run, times = small_world.run(1, 2), 1000
    memory = sized(run, times)
    n_rows = RowLayout(run.source.stack.n_keys * times).n_rows
    one_table = n_rows // 2 * EMBEDDING_WIDTH * 4  # on one of two servers
    assert memory.alias_size_in_bytes >= 3 * one_table  # rows and both moments
    assert memory.temp_size_in_bytes < 0.1 * one_table
    assert memory.output_size_in_bytes - memory.alias_size_in_bytes < 0.01 * one_table
