import dataclasses
import importlib.util

import jax
import pytest

from benchmarks import compile_at_scale as scale
from benchmarks._abstract_step import Sizes, places, whole_tiles
from benchmarks._key_distribution import BatchSize
from benchmarks._step_model import H100, TPU_V5E, Widths, dense_parameters
from benchmarks._targets import TargetError, parse_target, target_mesh
from dicm_jax.ams.collectives import Collective, Operand
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import make_mesh, mesh_shape

SMALL = Sizes(
    batch=BatchSize(impressions=160, behaviors=(1, 3), user_fields=1, impression_fields=2),
    images=50_000,
    ids=80_000,
    content_width=67,  # a prime: it shows wherever it is hidden in a flattened dim
    storage="int8",
)


@pytest.fixture(scope="module")
def compiled() -> tuple:
    mesh = make_mesh(mesh_shape(len(jax.devices()), worker=2))
    rooms = scale.keys.measure(
        SMALL.batch,
        scale.Popularity(SMALL.images, 0.8),
        scale.Popularity(SMALL.ids - SMALL.images, 0.6),
        (2, 4),
        draws=2,
        quantile=0.9,
        seed=0,
    )
    return mesh, rooms, *scale.compile_step(SMALL, rooms, mesh, H100)


def test_arguments_are_the_share_of_the_tables_the_dense_state_and_little_else(compiled: tuple):
    mesh, _, memory, _ = compiled
    tables = RowLayout(SMALL.images).n_rows * (67 + 4) + RowLayout(SMALL.ids).n_rows * 12 * 4 * 3
    dense = 3 * 4 * dense_parameters(Widths(content=67), fields=1 + 3 + 1)  # and two moments
    share = tables / mesh.shape["server"]
    assert share + dense < memory.arguments < 1.02 * (share + dense)
    assert memory.outputs < 0.01 * share  # the state is updated in its place
    assert scale.table_bytes(SMALL) == pytest.approx(tables, rel=0.03)


def test_nothing_of_the_contents_width_travels_but_the_first_layers_gradient(compiled: tuple):
    _, _, _, found = compiled
    wide = {
        (one.kind, operand.dims)
        for one in found
        for operand in one.operands
        if any(dim % 67 == 0 for dim in operand.dims if dim)
    }
    assert wide <= {("all-reduce", (67, 256))}


def test_counts_hold_the_programs_exchanges_and_the_drawn_rows(compiled: tuple):
    mesh, rooms, _, found = compiled
    share = places(SMALL.batch, mesh.size)
    of_step = scale.counts(SMALL, rooms, share, found)
    assert of_step.all_to_alls == 9  # keys once, vectors there and back, of three lists
    sent = sum(
        mesh.shape["server"] * min(whole_tiles(room.per_server, 12), bound) * 4 * (12 + 12 + 1)
        for room, bound in (
            (rooms["ad"], share.impressions),
            (rooms["behavior"], share.groups * share.behaviors),
            (rooms["ids"], share.ids),
        )
    )
    assert of_step.exchanged_bytes == sent
    assert of_step.group == mesh.shape["server"]
    assert of_step.summed_bytes > 2 * 67 * 256 * 4
    gathered = mesh.shape["server"] * min(whole_tiles(rooms["ids"].per_server, 12), share.ids)
    assert of_step.gathered_bytes == gathered * 4 * 13  # ID gradients and rows, to one replica
    padded = scale.counts(SMALL, rooms, share, found, tile=128)
    assert padded.exchanged_bytes > of_step.exchanged_bytes
    more = scale.counts(SMALL, _doubled(rooms), share, found)
    assert more.embed_flops == 2 * of_step.embed_flops


def _doubled(rooms: dict) -> dict:
    return {name: dataclasses.replace(room, owner=2 * room.owner) for name, room in rooms.items()}


def test_a_layout_that_the_compiler_lets_pass_is_compared_with_the_devices_memory(compiled: tuple):
    mesh, rooms, memory, _ = compiled
    small = dataclasses.replace(H100, name="small GPU", memory=memory.peak - 1)
    with pytest.raises(scale.DoesNotFitError, match=r"small GPU.* GiB a device.*more servers"):
        scale.compile_step(SMALL, rooms, mesh, small)


@pytest.mark.parametrize(
    "text",
    [
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO"
        " temporaries (45.06G) exceeds available HBM (15.75G).",
        "E1000: CompileTimeHbmOom: 45.06G exceeds available HBM (15.75G)",
    ],
)
def test_the_compilers_word_on_memory_becomes_ours(compiled: tuple, text: str):
    error = scale._explained(RuntimeError(text), SMALL, compiled[0], TPU_V5E)
    assert isinstance(error, scale.DoesNotFitError)
    assert error.needed == pytest.approx(45.06 * 2**30)
    assert "need 45.06 GiB a device" in str(error)
    assert "it has 15.75 GiB" in str(error)


def test_other_errors_of_the_compiler_stay_what_they_are(compiled: tuple):
    error = RuntimeError("INTERNAL: a number exceeds another")
    assert scale._explained(error, SMALL, compiled[0], TPU_V5E) is error


def test_whole_tiles_take_no_more_room_than_the_rows_need_anyway():
    for rows in range(1, 200):
        more = whole_tiles(rows, 12)
        assert more >= rows
        assert -(-more * 12 // 128) == -(-rows * 12 // 128)


def test_padding_fills_the_minor_dim():
    one = Collective("all-to-all", (Operand("f32", (256, 1, 252)), Operand("s32", (4, 7))), 256)
    assert scale.padded_bytes(one, 128) == 4 * (256 * 256 + 4 * 128)
    assert scale.padded_bytes(one, 1) == one.operand_bytes


def test_a_gpu_that_jax_would_not_take_all_of_is_said():
    memory = scale.Memory(arguments=int(0.8 * H100.memory), outputs=0, temporary=0, code=0)
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" in scale.memory_lines(memory, H100)[1]
    assert len(scale.memory_lines(dataclasses.replace(memory, arguments=1), H100)) == 1


def test_table_1_is_printed_with_its_assumptions():
    lines, figures = scale.table_1_lines(Sizes(), H100)
    text = "\n".join(lines)
    assert "assumed of the paper's GPUs" in text
    unfit = [int(line.split()[0]) for line in lines if "do not fit" in line]
    assert unfit == [5, 10]  # 983 GB of bfloat16 rows over GPUs of 80 GB
    assert figures["hours_paper_gpu"][5] == 62.9
    assert set(figures["efficiency_target"]) >= {5, 10, 20, 40, 256}


@pytest.mark.parametrize("name", ["tpu-v5e-256", "tpu-v5e-16", "h100-256", "h100-32", "h100-4"])
def test_targets_have_names(name: str):
    target = parse_target(name)
    assert f"{target.kind}-{target.devices}" == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("abacus-3", "there is no such machine; name one as"),
        ("tpu-v5e-0", "there is no such machine"),
        ("tpu-v5e-100", "slices of 4, 8, 16, 32, 64, 128, 256"),
        ("h100-12", "a host has 8 GPUs"),
    ],
)
def test_machines_that_do_not_exist_are_refused(name: str, message: str):
    with pytest.raises(TargetError, match=message):
        parse_target(name)


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is not None, reason="the compiler for TPUs is installed"
)
def test_a_missing_compiler_is_named_with_how_to_install_it():
    with pytest.raises(TargetError, match=r"tpu-v5e is not at hand .*pip install 'jax\[tpu\]'"):
        target_mesh(parse_target("tpu-v5e-16"), 1)


def test_a_run_without_a_known_target_ends_before_anything_is_drawn():
    with pytest.raises(TargetError, match="no such machine"):
        scale.main(["--target=abacus-3"])
    with pytest.raises(SystemExit):
        scale.parse(["--target=h100-8", "--images=10", "--ids=5"])
