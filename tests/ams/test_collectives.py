"""The reader of programs finds every collective, in each spelling, and its bytes."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from dicm_jax.ams.collectives import Operand, ProgramError, collectives
from dicm_jax.ams.mesh import BOTH, SERVER, WORKER, MeshShape, make_mesh

ROWS, COLUMNS = 8, 5  # of one device
BYTES = ROWS * COLUMNS * 4


def only(text):
    (found,) = collectives(text)
    return found


# ----------------------------------------------------------------- HLO, written by hand


def test_an_all_to_all_is_a_tuple_of_parts_or_one_array():
    parts = only("""
      %a = (f32[1,60]{1,0}, f32[1,60]{1,0}) all-to-all(f32[1,60] %x, f32[1,60] %y), \
replica_groups={{0,1},{2,3}}, metadata={op_name="jit(step)/pull_ids/all_to_all"}
    """)
    whole = only("""
      %x = f32[2,60]{1,0:T(8,128)S(1)} parameter(0)
      %a = f32[2,60]{1,0:T(8,128)S(1)} all-to-all(%x), replica_groups={{0,1},{2,3}}, dimensions={0}
    """)
    assert parts.operands == (Operand("f32", (1, 60)),) * 2
    assert whole.operands == (Operand("f32", (2, 60)),)
    assert parts.bytes_leaving == whole.bytes_leaving == 60 * 4
    assert parts.within("pull_ids")
    assert not parts.within("pull")
    assert whole.op_name == ""


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1},{2,3}}", 2),
        ("{{0,1,2,3,4,5,6,7}}", 8),
        ("{{0,1,2},{3}}", 3),
        ("{}", 6),
        ("[2,4]<=[8]", 4),
        ("[4,2]<=[2,4]T(1,0)", 2),
        ("mesh['d'=256] {'d'}", 256),
        ("mesh['worker'=2,'server'=4] {'server'}", 4),
        ("mesh['worker'=2,'server'=4] {'worker','server'}", 8),
        ("mesh['d'=8], device_ids=([2,4]T(1,0)) {'d':(2)4}", 4),
    ],
)
def test_group_sizes_in_every_syntax(groups, size):
    text = f"""HloModule m, num_partitions=6
      %c = f32[3]{{0}} all-reduce(f32[3]{{0}} %x), channel_id=1, replica_groups={groups}, dims={{}}
    """
    assert only(text).group_size == size


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("pred", 1), ("s8", 1), ("u8", 1), ("u16", 2), ("bf16", 2), ("s32", 4), ("f32", 4)],
)
def test_bytes_of_every_dtype(dtype, size):
    line = f"%g = {dtype}[4,3] all-gather({dtype}[1,3] %x), replica_groups=[1,4]<=[4]"
    assert only(line).bytes_leaving == 3 * 3 * size


@pytest.mark.parametrize(
    ("instruction", "leaving"),
    [
        ("f32[8] all-to-all(f32[8] %x)", 32 * 3 / 4),
        ("f32[32] all-gather(f32[8] %x)", 32 * 3),
        ("f32[8] all-reduce(f32[8] %x)", 2 * 32 * 3 / 4),
        ("f32[2] reduce-scatter(f32[8] %x)", 32 * 3 / 4),
        ("f32[8] collective-permute(f32[8] %x)", 32),
        ("(f32[8], s8[4]) all-reduce(f32[8] %x, s8[4] %y)", 2 * 36 * 3 / 4),
        ("f32[] all-reduce(f32[] %x)", 2 * 4 * 3 / 4),
    ],
)
def test_bytes_that_leave_a_device_by_kind(instruction, leaving):
    groups = "replica_groups={{0,1,2,3}}, source_target_pairs={{0,1},{1,0}}"
    found = only(f"ROOT %c = {instruction}, {groups}")
    assert found.kind in instruction
    assert found.bytes_leaving == leaving


def test_a_start_and_its_done_count_once():
    text = """HloModule m, num_partitions=4

    %add (a: f32[], b: f32[]) -> f32[] {
      %a = f32[] parameter(0)
      %b = f32[] parameter(1)
      ROOT %sum = f32[] add(%a, %b)
    }

    %wrapped (p: bf16[2,8]) -> bf16[2,8] {
      %p = bf16[2,8]{1,0:T(8,128)(2,1)} parameter(0)
      ROOT %inner = bf16[2,8]{1,0:T(8,128)(2,1)} all-to-all(%p), replica_groups=[2,2]<=[4]
    }, execution_thread="sparsecore"

    ENTRY %main (x: f32[2,8], y: bf16[2,8]) -> f32[2,8] {
      %x = f32[2,8]{1,0} parameter(0)
      %y = bf16[2,8]{1,0} parameter(1)
      %s = ((f32[2,8]{1,0}), f32[2,8]{1,0}) all-to-all-start(%x), replica_groups={{0,1},{2,3}}
      %d = f32[2,8]{1,0} all-to-all-done(%s)
      %gs = (f32[2,8]{1,0}, f32[8,8]{1,0}) all-gather-start(%x), replica_groups={{0,1,2,3}}
      %gd = f32[8,8]{1,0} all-gather-done(%gs)
      %rs = f32[2,8]{1,0} all-reduce-start(/*index=0*/%d), replica_groups={{0,1,2,3}}, to_apply=%add
      %rd = f32[2,8]{1,0} all-reduce-done(%rs)
      %ps = (f32[2,8], f32[2,8], u32[]) collective-permute-start(%x), source_target_pairs={{0,1}}
      %pd = f32[2,8]{1,0} collective-permute-done(%ps)
      %as = ((bf16[2,8]), bf16[2,8], u32[]{:S(2)}) async-start(%y), calls=%wrapped
      %ad = bf16[2,8]{1,0} async-done(%as), calls=%wrapped
      ROOT %r = f32[2,8]{1,0} add(%rd, %pd)
    }
    """
    found = collectives(text)
    assert [(one.kind, one.bytes_leaving) for one in found] == [
        ("all-to-all", 32),
        ("all-gather", 64 * 3),
        ("all-reduce", 2 * 64 * 3 / 4),
        ("collective-permute", 64),
        ("all-to-all", 16),
    ]
    assert found[-1].operands == (Operand("bf16", (2, 8)),)


def test_what_a_loop_runs_is_said_to_be_in_one():
    text = """HloModule m, num_partitions=2
    helper {
      h = s32[4]{0} parameter(0)
      ROOT hg = s32[8]{0} all-gather(h), replica_groups={{0,1}}
    }
    body {
      b = (s32[], s32[4]{0}) parameter(0)
      v = s32[4]{0} get-tuple-element(b), index=1
      g = s32[8]{0} all-gather(v), replica_groups={{0,1}}
      f = s32[8]{0} fusion(v), kind=kCustom, calls=helper
      ROOT t = (s32[], s32[4]{0}) tuple(b, v)
    }
    condition {
      c = (s32[], s32[4]{0}) parameter(0)
      ROOT p = pred[] constant(true)
    }
    ENTRY main {
      x = (s32[], s32[4]{0}) parameter(0)
      w = (s32[], s32[4]{0}) while(x), condition=condition, body=body
      y = s32[4]{0} get-tuple-element(w), index=1
      ROOT z = s32[8]{0} call(y), to_apply=helper
    }
    """
    assert [one.loop for one in collectives(text)] == [True, True, False]


def test_scopes_inside_derivatives_and_merged_names():
    line = '%c = f32[8] all-reduce(f32[8] %x), replica_groups={{0,1}}, metadata={op_name="NAME"}'
    derived = only(line.replace("NAME", "jit(step)/transpose(jvp(pull_ids))/psum"))
    assert derived.within("pull_ids")
    merged = only(line.replace("NAME", "jit(step)/(update_dense/psum:loss/psum)"))
    assert merged.within("update_dense")
    assert merged.within("loss")
    assert not merged.within("dense")


# ----------------------------------------------------------------- StableHLO, written by hand

STABLEHLO = """
module @jit_f attributes {mhlo.num_partitions = 8 : i32} {
  sdy.mesh @mesh = <["worker"=2, "server"=4]> {stablehlo.mesh = {axes = []}} loc(#loc)
  func.func public @main(%arg0: tensor<8x5xbf16> loc("x")) -> (tensor<8x5xbf16>) {
    %0 = call @inner(%arg0) : (tensor<8x5xbf16>) -> tensor<8x5xbf16> loc(#loc1)
    %1:2 = stablehlo.while(%a = %c, %b = %0) : tensor<i32>, tensor<8x5xbf16>
    cond {
      stablehlo.return %t : tensor<i1> loc(#loc)
    } do {
      %2 = func.call @inner(%b) : (tensor<8x5xbf16>) -> tensor<8x5xbf16> loc("again"("f.py":1:2))
      stablehlo.return %a, %2 : tensor<i32>, tensor<8x5xbf16> loc(#loc)
    } loc(#loc)
    %3 = "stablehlo.all_reduce"(%1#1) <{replica_groups = GROUPS, use_global_device_ids}> ({
    ^bb0(%x: tensor<bf16> loc("psum:"(#loc)), %y: tensor<bf16> loc("psum:"(#loc))):
      %4 = stablehlo.add %x, %y : tensor<bf16> loc(#loc)
      stablehlo.return %4 : tensor<bf16> loc(#loc)
    }) : (tensor<8x5xbf16>) -> tensor<8x5xbf16> loc(#loc3)
    %5 = "stablehlo.collective_permute"(%3) <{source_target_pairs = dense<[[0, 1], [1, 0]]> : \
tensor<2x2xi64>}> : (tensor<8x5xbf16>) -> tensor<8x5xbf16> loc(#loc)
    return %5 : tensor<8x5xbf16> loc(#loc)
  } loc(#loc)
  func.func private @inner(%arg0: tensor<8x5xbf16>) -> tensor<8x5xbf16> {
    %0 = "stablehlo.all_to_all"(%arg0) <{concat_dimension = 0 : i64, replica_groups = \
dense<[[0, 1, 2, 3], [4, 5, 6, 7]]> : tensor<2x4xi64>, split_count = 4 : i64}> : \
(tensor<8x5xbf16>) -> tensor<8x5xbf16> loc(#loc2)
    return %0 : tensor<8x5xbf16> loc(#loc)
  } loc(#loc)
} loc(#loc)
#loc = loc(unknown)
#loc1 = loc("pull/jit(inner)"(#loc))
#loc2 = loc("all_to_all"(#loc))
#loc3 = loc("update/psum"(#loc))
"""
AXES = "#stablehlo.replica_group_mesh_axes<mesh = MESH, axes = [#stablehlo.axis_ref<name = NAME>]>"


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("dense<[[0, 4], [1, 5], [2, 6], [3, 7]]> : tensor<4x2xi64>", 2),
        ("dense<0> : tensor<1x1xi64>", 1),
        (AXES.replace("MESH", "@mesh").replace("NAME", '"server"'), 4),
        (
            AXES.replace("MESH", "@mesh").replace(
                "NAME", '"worker">, #stablehlo.axis_ref<name = "server", sub_axis_info = (1)2'
            ),
            4,
        ),
        (
            AXES.replace(
                "MESH", '#stablehlo.mesh<axes = [#stablehlo.mesh_axis<name = "d", size = 3>]>'
            ).replace("NAME", '"d"'),
            3,
        ),
    ],
)
def test_stablehlo_by_hand(groups, size):
    found = collectives(STABLEHLO.replace("GROUPS", groups))
    whole = 8 * 5 * 2
    assert [(one.kind, one.group_size, one.loop, one.bytes_leaving) for one in found] == [
        ("all-to-all", 4, False, whole * 3 / 4),
        ("all-to-all", 4, True, whole * 3 / 4),
        ("all-reduce", size, False, 2 * whole * (size - 1) / size),
        ("collective-permute", 2, False, whole),
    ]
    assert [one.op_name for one in found] == [
        "pull/jit(inner)/all_to_all",
        "again/all_to_all",
        "update/psum",
        "",
    ]


@pytest.mark.parametrize(
    ("stablehlo", "hlo"),
    [("i1", "pred"), ("i8", "s8"), ("ui8", "u8"), ("ui16", "u16"), ("i32", "s32"), ("f32", "f32")],
)
def test_dtypes_of_stablehlo_are_spelled_as_in_hlo(stablehlo, hlo):
    text = STABLEHLO.replace("GROUPS", "dense<0> : tensor<1x1xi64>").replace("bf16", stablehlo)
    assert {one.operands for one in collectives(text)} == {(Operand(hlo, (8, 5)),)}


# ----------------------------------------------------------------- programs that were compiled


def lowered(function, mesh_shape=(2, 4), dtype=jnp.float32):
    mesh = make_mesh(MeshShape(*mesh_shape))
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=P(BOTH), out_specs=P(BOTH), check_vma=False
    )
    return jax.jit(mapped).lower(jnp.zeros((8 * ROWS, COLUMNS), dtype))


def compiled(stage):
    text = stage.compile().as_text()
    assert text
    return text


def exchange(x, axis):
    return lax.all_to_all(x, axis, split_axis=0, concat_axis=0, tiled=True)


PROGRAMS = {
    "all-to-all": (exchange, lambda g: BYTES * (g - 1) // g),
    "all-gather": (
        lambda x, axis: lax.all_gather(x, axis)[0] * 2,
        lambda g: BYTES * (g - 1),
    ),
    "all-reduce": (lax.psum, lambda g: 2 * BYTES * (g - 1) // g),
    "reduce-scatter": (
        lambda x, axis: jnp.tile(lax.psum_scatter(x, axis, tiled=True), (lax.axis_size(axis), 1)),
        lambda g: BYTES * (g - 1) // g,
    ),
    "collective-permute": (
        lambda x, axis: lax.ppermute(x, axis, [(0, 1), (1, 0)]),
        lambda g: BYTES,
    ),
}


@pytest.mark.parametrize(("axis", "size"), [(WORKER, 2), (SERVER, 4)])
@pytest.mark.parametrize("kind", PROGRAMS)
def test_bytes_of_compiled_programs_equal_hand_arithmetic(kind, axis, size):
    operation, leaving = PROGRAMS[kind]

    def program(x):
        with jax.named_scope("pull_vectors_ad"):
            return operation(x, axis)

    stage = lowered(program)
    for text in (stage.as_text(debug_info=True), compiled(stage)):
        found = only(text)
        assert (found.kind, found.loop) == (kind, False)
        assert found.bytes_leaving == leaving(size)
        assert found.group_size == (2 if kind == "collective-permute" else size)
        assert found.within("pull_vectors_ad")


def test_the_whole_mesh_is_one_group():
    assert only(compiled(lowered(lambda x: lax.psum(x, BOTH)))).group_size == 8


def test_a_loop_of_the_source_is_a_loop_of_the_program():
    def program(x):
        with jax.named_scope("outside"):
            x = exchange(x, SERVER)

        def turn(_, carry):
            with jax.named_scope("inside"):
                return exchange(carry, SERVER) + 1

        return lax.fori_loop(0, x[0, 0].astype(jnp.int32), turn, x)

    stage = lowered(program)
    for text in (stage.as_text(debug_info=True), compiled(stage)):
        found = collectives(text)
        assert sorted((one.loop, one.bytes_leaving) for one in found) == [
            (False, BYTES * 3 / 4),
            (True, BYTES * 3 / 4),
        ]
        for one in found:
            assert one.within("inside") == one.loop
            assert one.within("outside") != one.loop


def test_a_function_called_twice_counts_twice():
    shared = jax.jit(functools.partial(exchange, axis=SERVER))

    def program(x):
        with jax.named_scope("first"):
            x = shared(x)
        with jax.named_scope("second"):
            return shared(x * 2)

    stage = lowered(program)
    for text in (stage.as_text(debug_info=True), compiled(stage)):
        found = collectives(text)
        assert [one.bytes_leaving for one in found] == [BYTES * 3 / 4] * 2
        for scope in ("first", "second"):
            assert sum(one.within(scope) for one in found) == 1


def test_bfloat16_is_counted_where_the_cpu_has_not_widened_it():
    stage = lowered(lambda x: exchange(x, SERVER), dtype=jnp.bfloat16)
    found = only(stage.as_text())
    assert found.operands == (Operand("bf16", (ROWS, COLUMNS)),)
    assert found.bytes_leaving == BYTES / 2 * 3 / 4
    bits = lowered(lambda x: exchange(x, SERVER), dtype=jnp.uint16)
    assert only(compiled(bits)).bytes_leaving == BYTES / 2 * 3 / 4


def test_a_program_of_one_device_has_none():
    program = jax.jit(lambda x: x + 1).lower(jnp.zeros(3))
    assert collectives(program.as_text()) == collectives(compiled(program)) == []


# ----------------------------------------------------------------- what cannot be counted

GROUPS = "replica_groups={{0,1}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"neither HLO nor StableHLO: ''; give compiled.as_text"),
        ("%a = f32[8] all-to-all(%x), " + GROUPS, r"a takes 'x', whose shape does not stand"),
        ("%a = f32[8] all-to-all(f32[8] %x), replica_groups=?", r"cannot read .*'a = all-to-all"),
        ("%a = f32[8] all-to-all(f32[8] %x, ", r"cannot read this instruction"),
        ("%a = opaque[] all-reduce(opaque[] %x), " + GROUPS, r"carries 'opaque', of unknown size"),
        ("%a = f32[8] ragged-all-to-all(f32[8] %x), " + GROUPS, r"a ragged-all-to-all, whose"),
        (
            "%a = f32[8] collective-broadcast(f32[8] %x), " + GROUPS,
            r"a collective-broadcast, whose",
        ),
        ("%c (a: f32[]) -> f32[] {\n %a = f32[] parameter(0)\n}", r"\(c, ...\) but no ENTRY"),
        ("ENTRY m {\n %a = f32[] call(), to_apply=%lost\n}", r"runs computation 'lost', which"),
        ('%0 = "stablehlo.all_to_all"(%x) <{}> : (f32)', r"cannot read this operation"),
        (
            '%0 = "stablehlo.all_to_all"(%x) <{}> : (tensor<4xcomplex<f32>>) -> f32',
            r"cannot read this operation",
        ),
        (
            '%0 = "stablehlo.all_to_all"(%x) <{}> : (tensor<4xf32>) -> tensor<4xf32>',
            r"cannot read this operation",
        ),
        ("stablehlo.custom_call @ragged_all_to_all(%x)", r"a ragged-all-to-all, whose"),
        ("func.func @f() {stablehlo.return}", r"functions \(f, ...\) but no main"),
    ],
)
def test_nothing_is_left_out_in_silence(text, message):
    with pytest.raises(ProgramError, match=message):
        _ = [one.bytes_leaving for one in collectives(text)]
