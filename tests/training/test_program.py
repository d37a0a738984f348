"""What the compiled step does: which collectives it has, and what it keeps in memory."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import table_sharding
from dicm_jax.training.batch import Capacities
from dicm_jax.training.step import make_train_step
from tests import small_world

COLLECTIVE = re.compile(
    r" = (?P<shapes>.*?) (?P<kind>all-to-all|all-gather|all-reduce|reduce-scatter"
    r"|collective-permute|collective-broadcast|ragged-all-to-all)(?:-start)?\("
)
SHAPE = re.compile(r"(?P<dtype>[a-z]+\d*)\[(?P<dims>[\d,]*)\]")
FLOATS = ("f64", "f32", "f16", "bf16")
DENSE = "all-reduce"


def collectives(program: str) -> list[tuple[str, str, tuple[int, ...]]]:
    """Kind, dtype and dims of everything that a collective of a program puts out."""
    found = []
    for line in program.splitlines():
        if match := COLLECTIVE.search(line):
            for shape in SHAPE.finditer(match["shapes"]):
                dims = tuple(int(dim) for dim in shape["dims"].split(",") if dim)
                found.append((match["kind"], shape["dtype"], dims))
    return found


def test_the_reader_of_programs_finds_what_is_there():
    """Also in tuples, with layouts, and in their asynchronous form."""
    program = """
      %a = (f32[2,60]{1,0}, f32[2,60]{1,0}) all-to-all(f32[2,60] %x, f32[2,60] %y), dims={0}
      ROOT %b = bf16[8,37]{1,0:T(8,128)} all-gather-start(bf16[1,37] %x), dimensions={0}
      %c = s32[] add(s32[] %x, s32[] %y)
    """
    assert collectives(program) == [
        ("all-to-all", "f32", (2, 60)),
        ("all-to-all", "f32", (2, 60)),
        ("all-gather", "bf16", (8, 37)),
    ]


def compiled(run: small_world.Run) -> Any:
    return run.step.lower(run.state, run.features, run.batch(run.source[0])).compile()


def test_nothing_of_the_contents_width_travels_but_the_first_layers_gradient():
    room, workers, servers = 2, 2, 4
    run = small_world.run(workers, servers, per_server=room)
    width, hidden = small_world.CONTENT_WIDTH, run.model.spec.compressor.widths[0]
    found = collectives(compiled(run).as_text())
    assert {kind for kind, _, _ in found} >= {"all-to-all", DENSE}
    # The width is a prime that divides no other dim: it cannot hide in a flattened one.
    wide = [(kind, dims) for kind, _, dims in found if any(dim % width == 0 for dim in dims)]
    assert wide == [(DENSE, (width, hidden))] * 2
    exchanged = [(dtype, dims) for kind, dtype, dims in found if kind == "all-to-all"]
    floats = [dims for dtype, dims in exchanged if dtype in FLOATS]
    assert floats
    narrow = small_world.EMBEDDING_WIDTH * room
    assert {int(np.prod(dims)) for dims in floats} <= {narrow, narrow * servers}


def sized(run: small_world.Run, times: int) -> Any:
    """The run's step, compiled for tables that many times larger."""
    grow = lambda layout: RowLayout(layout.n_keys * times)  # noqa: E731
    old = run.capacities
    ids = dataclasses.replace(old.ids, layout=grow(old.ids.layout))
    content = {
        name: dataclasses.replace(capacity, layout=grow(capacity.layout))
        for name, capacity in old.content.items()
    }
    by_rows = table_sharding(run.mesh)

    def table(array: Any, n_rows: int, dtype: Any, sharding: NamedSharding) -> Any:
        return jax.ShapeDtypeStruct((n_rows, *array.shape[1:]), dtype, sharding=sharding)

    n_rows = ids.layout.n_rows
    state = dataclasses.replace(
        run.state,
        ids={name: table(x, n_rows, x.dtype, by_rows) for name, x in run.state.ids.items()},
    )
    stored = table(
        run.features.stored_VD, content["ad"].layout.n_rows, jnp.uint16, by_rows
    )  # bfloat16 at rest: XLA:CPU would convert a whole table of it if let
    step: Any = make_train_step(run.model, small_world.adam(), Capacities(ids, content), run.mesh)
    batch = run.batch(run.source[0])
    return step.lower(state, FeatureTable(stored, None), batch).compile().memory_analysis()


def test_tables_are_updated_where_they_lie_and_never_copied():
    run, times = small_world.run(1, 2), 1000
    memory = sized(run, times)
    n_rows = RowLayout(run.capacities.ids.layout.n_keys * times).n_rows
    one_table = n_rows // 2 * small_world.EMBEDDING_WIDTH * 4  # on one of two servers
    assert memory.alias_size_in_bytes >= 3 * one_table  # rows and both moments
    assert memory.temp_size_in_bytes < 0.1 * one_table
    assert memory.output_size_in_bytes - memory.alias_size_in_bytes < 0.01 * one_table
