"""The traffic benchmark: the model's tables, and a real step's bytes beside them."""

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from benchmarks._traffic_account import (
    Bytes,
    Flow,
    Rows,
    TrafficError,
    by_model,
    by_scope,
    check_rounds,
    in_program,
    rows_of,
)
from benchmarks._traffic_measured import Measured, measure
from benchmarks._traffic_report import report
from dicm_jax.ams.ledger import PAPER, on_our_wire
from dicm_jax.ams.mesh import MeshShape, colocated
from dicm_jax.ams.plan import UNUSED, Capacity, Request
from dicm_jax.ams.program import Collective, Operand
from dicm_jax.data.synthetic.reader import WorldConfig

ROOT = pathlib.Path(__file__).parents[2]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.traffic", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_without_sizes_it_prints_the_papers_table():
    done = run_benchmark("--measure=0")
    assert done.returncode == 0, done.stderr
    per_step = done.stdout.split("\n\n")[0].splitlines()
    assert len({len(line) for line in per_step}) == 1  # aligned
    assert [" ".join(line.split()) for line in per_step[1:]] == [
        "ps_worker 5.12 GiB 0 B 128.17 MiB 0 B",
        "ps_server 133.98 MB 30.25 MB 5.13 GiB 5.00 GiB",
        "ams 133.98 MB 30.25 MB 158.17 MiB 30.00 MiB",
    ]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == "traffic"
    assert result["ratio"] == pytest.approx(32, rel=0.04)
    assert result["batches"] == 65_000
    assert result["bytes"]["ams"]["image_traffic"]["step"] == 30 * 2**20
    assert {"against", "versions", "date", "sizes"} <= set(result)


def test_other_sizes_on_our_wire():
    done = run_benchmark(
        "--impressions=1024",
        "--images=1923",
        "--ids=20000",
        "--width=37",
        "--embedding=4",
        "--samples=10240",
        "--table-images=5000",
        "--content-bytes=2",
        "--wire=int8",
        "--measure=0",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["batches"] == 10
    assert result["bytes"]["ams"]["image_traffic"]["step"] == 1923 * (2 * (4 + 1) + 4)
    assert result["bytes"]["ps_server"]["image_traffic"]["step"] == 1923 * (37 * 2 + 4)
    assert result["bytes"]["ps_server"]["server_storage"]["run"] == 5000 * 37 * 2


def test_help_has_an_example():
    done = run_benchmark("--help")
    assert done.returncode == 0
    assert "examples:\n  python -m benchmarks.traffic" in done.stdout


def test_sizes_that_make_no_run_are_wrong_usage():
    done = run_benchmark("--images=0")
    assert done.returncode == 2
    assert "images=0: every size must be at least 1" in done.stderr


def test_a_batch_that_cannot_be_dealt_to_the_devices_is_wrong_usage():
    done = run_benchmark("--measure=12")
    assert done.returncode == 2
    assert "--measure=12: give a multiple of 8, or 0" in done.stderr


# ----------------------------------------------------------------- a real step, counted

WIDTH, EMBEDDING = 37, 12
"""A prime, so that content cannot be mistaken for vectors, and the configuration's default."""


@pytest.fixture(scope="module")
def counted() -> dict[tuple[str, str], Measured]:
    world = WorldConfig(content_width=WIDTH, items=1200, users=150)
    roles = colocated(MeshShape(worker=1, server=8))
    cases = ("ams", "float32"), ("ps_server", "float32"), ("ps_worker", "bfloat16")
    # Quicker machine code to make; the collectives are the same.
    quickly = {"xla_backend_optimization_level": 0}
    found = measure(world, 256, roles, cases, quickly)
    return {(one.strategy, one.wire): one for one in found}


def test_programs_are_within_five_percent_of_the_model(counted):
    for one in counted.values():
        assert one.ids.agreement == pytest.approx(1, abs=0.05)
        if one.strategy != "ps_worker":
            assert one.images.agreement == pytest.approx(1, abs=0.05)
        assert one.dense == pytest.approx(one.model_dense, rel=0.05)
        rows = one.images.rows
        assert 0 < rows.leaving < rows.listed <= rows.places
        assert rows.handled <= rows.listed


def test_a_row_costs_its_vector_and_its_gradient(counted):
    flows = [
        (counted["ams", "float32"].images, 4),
        (counted["ams", "float32"].ids, 4),
        (counted["ps_worker", "bfloat16"].ids, 2),
    ]
    for flow, element in flows:
        assert flow.per_row.vectors <= EMBEDDING * element * 2 * 1.0001
        assert flow.per_row.keys <= 4 * 1.0001
        assert flow.per_row.rest < 1


def test_ps_server_sends_content_and_ps_worker_sends_none(counted):
    against, ours = (counted[name, "float32"].images for name in ("ps_server", "ams"))
    at_paper_widths = against.per_row.vectors / ours.per_row.vectors * 4096 / WIDTH
    assert at_paper_widths >= 160
    assert against.per_row.vectors == pytest.approx(WIDTH * 4)
    nothing = counted["ps_worker", "bfloat16"].images
    assert nothing.counted == Bytes(0, 0)
    assert nothing.agreement is None
    assert nothing.rows == against.rows  # of the same batch


def test_the_report_says_what_was_counted(counted, capsys):
    figures: Any = report(counted.values())
    printed = capsys.readouterr().out
    assert "program within 5% of the model: holds" in printed
    assert "ps_server sends 1.54 times an image's bytes, 1.52 with row numbers" in printed
    assert figures["ratio_images"] == pytest.approx(WIDTH / (2 * EMBEDDING), abs=0.01)
    assert figures["cases"]["ps_worker/bfloat16"]["images"]["program"] == 0
    assert json.loads(json.dumps(figures)) == figures


# ----------------------------------------------------------------- the account


def collective(kind: str, op_name: str, *dtypes: str, loop: bool = False) -> Collective:
    return Collective(kind, tuple(Operand(dtype, (8, 3)) for dtype in dtypes), 8, loop, op_name)


def test_rows_at_home_and_places_are_counted_in_requests():
    rows_RK = np.array([[0, 3, 4, UNUSED], [1, 5, 7, UNUSED]], np.int32)
    request = Request(rows_RK.reshape(-1), np.ones(2), np.ones(2))
    capacity = Capacity(unique=4, per_server=3, servers=2, rows_per_server=4)
    # Server 0 owns rows 0 to 3: of the first list 4 is away, of the second 1.
    assert rows_of([(request, capacity)], 6, 5) == Rows(6, leaving=2, handled=5, places=6)


def test_what_is_widened_or_sent_twice_shows():
    rows = Rows(listed=100, leaving=80, handled=60, places=200)
    model = Bytes(vectors=100 * 48, keys=100 * 4)
    sent = model.times(200 / 100)  # every place, used or not
    assert Flow(rows, sent, model).agreement == pytest.approx(1)
    widened = Bytes(sent.vectors * 2, sent.keys)
    of_widened = Flow(rows, widened, model).agreement
    assert of_widened is not None
    assert of_widened > 2
    nothing = Bytes(0, 0)
    assert Flow(rows, nothing, nothing).agreement is None
    assert Flow(rows, sent, nothing).agreement == float("inf")


def test_the_models_bytes_split_into_vectors_and_row_numbers():
    of = by_model(on_our_wire(PAPER, "int8"), "ams")
    assert of["images"] == Bytes(PAPER.images * 2 * 13, PAPER.images * 4)
    assert of["ids"] == Bytes(PAPER.ids * 2 * 13, PAPER.ids * 4)


def test_collectives_are_sorted_by_scope_and_bytes_by_what_they_are():
    keys = collective("all-to-all", "jit(step)/pull_content_ad/while/all_to_all", "s32")
    vectors = collective("all-to-all", "jit(step)/push_content_ad/all_to_all", "u16")
    rounds = collective("all-reduce", "jit(step)/pull_content_ad/pmax", "s32")
    ids = collective("all-to-all", "jit(step)/pull_ids/all_to_all", "f32")
    dense = collective("all-reduce", "jit(step)/psum", "f32", "f32")
    sorted_out = by_scope([keys, vectors, rounds, ids, dense], ["ad"])
    assert sorted_out == {"images": [keys, vectors, rounds], "ids": [ids], "dense": [dense]}
    share = 8 * 24 * 7 / 8  # devices x elements x what leaves
    assert in_program(sorted_out["images"], 8) == Bytes(share * 2, share * 4, rest=share * 2 * 4)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (("all-to-all", "jit(step)/other", "f32"), r"all-to-all named .*other.* to no exchange"),
        (("all-reduce", "pull_ids/psum:push_content_ad/psum", "f32"), r"to images and ids: look"),
    ],
)
def test_bytes_of_no_known_exchange_are_not_counted(found, message):
    with pytest.raises(TrafficError, match=message):
        by_scope([collective(*found)], ["ad"])


def test_row_numbers_and_vectors_together_are_not_counted():
    with pytest.raises(TrafficError, match=r"of f32, s32, row numbers and vectors together"):
        in_program([collective("all-to-all", "pull_ids", "s32", "f32")], 8)


def test_a_loop_of_several_rounds_is_not_counted():
    loop = collective("all-to-all", "pull_ids", "f32", loop=True)
    check_rounds([loop], rounds=1)
    with pytest.raises(TrafficError, match=r"2 rounds of exchange, .* shows one: measure a batch"):
        check_rounds([loop], rounds=2)
