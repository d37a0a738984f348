import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import _step_model as model
from benchmarks._key_distribution import BatchSize
from benchmarks._step_model import H100, H200, PAPER_HOURS, TPU_V5E, Counts, Widths
from dicm_jax.ams.feature_table import ContentRows
from dicm_jax.ams.keys import IMAGE
from dicm_jax.nn.compressor import Compressor
from dicm_jax.nn.spec import NetSpec
from dicm_jax.training.model import CompressorSpec, ModelSpec, build_model

UNIQUE = (327_680.0, 1.4e6)
COUNTS = Counts(1e12, 1e11, 1e9, 1e7, 32, 1e7, 0.0, all_to_alls=12, others=3)


def test_dense_parameters_are_those_of_the_model():
    spec = ModelSpec(NetSpec(2, 25, (0,), (1,)), CompressorSpec(), {IMAGE: 4096})
    params = jax.eval_shape(lambda: build_model(spec, seed=0)[1])
    built = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    missing_vectors = 2 * 12
    assert model.dense_parameters(Widths(), fields=28) == built - missing_vectors


def test_an_embedding_models_products_are_those_that_the_compiler_counts():
    widths, rows = Widths(content=512), 256
    compressor = Compressor(512, widths.compressor, compute_dtype="float32", rngs=nnx.Rngs(0))
    graph, params = nnx.split(compressor, nnx.Param)
    made = jnp.ones((rows, 256))

    def backward(params, x, gradients):
        narrow = lambda p, hidden: nnx.merge(graph, p).narrow(hidden)  # noqa: E731
        _, back = jax.vjp(narrow, params, made)
        of_narrow, of_hidden = back(gradients)
        _, back = jax.vjp(lambda p: nnx.merge(graph, p).wide(ContentRows(x, None)), params)
        return of_narrow, back(of_hidden)

    forward = lambda params, x: nnx.merge(graph, params)(ContentRows(x, None))  # noqa: E731
    x, gradients = jnp.ones((rows, 512)), jnp.ones((rows, 12))
    counted = sum(
        (jax.jit(f).lower(*arguments).compile().cost_analysis() or {})["flops"]
        for f, arguments in ((forward, (params, x)), (backward, (params, x, gradients)))
    )
    assert model.embed_flops(widths, rows) == pytest.approx(counted, rel=0.03)


def test_half_of_what_all_send_crosses_the_bisection_of_a_pod():
    crossing = 256 / 2 * model.all_to_all_rate(TPU_V5E, 256) / 2
    assert crossing == pytest.approx(1.6e12)  # the data sheet's bisection of a v5e pod


def test_sending_beyond_a_host_is_slower_and_slower():
    rates = [model.all_to_all_rate(H100, n) for n in (8, 16, 32, 256)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == H100.near
    assert rates[-1] == pytest.approx(H100.far, rel=0.04)


def test_one_device_sends_nothing_and_waits_for_nobody():
    alone = model.step_time(dataclasses.replace(COUNTS, group=1), H100, 1)
    assert alone.exchange == alone.reduce == alone.latency == 0
    assert alone.total == pytest.approx(1.1e12 / H100.matmul + 1e9 / H100.memory_bandwidth)


def test_each_part_of_a_step_follows_its_own_roof():
    faster = dataclasses.replace(H100, matmul=2 * H100.matmul)
    base, changed = (model.step_time(COUNTS, each, 32) for each in (H100, faster))
    assert changed.arithmetic == pytest.approx(base.arithmetic / 2)
    assert dataclasses.replace(changed, arithmetic=base.arithmetic) == base
    wider = model.step_time(COUNTS, H200, 32)
    assert wider.memory < base.memory
    assert wider.arithmetic == base.arithmetic


def test_exchange_within_a_group_is_cheaper_than_among_all():
    among_all = model.step_time(COUNTS, H100, 32)
    within_hosts = model.step_time(dataclasses.replace(COUNTS, group=8), H100, 32)
    assert within_hosts.exchange < among_all.exchange
    assert within_hosts.latency < among_all.latency
    assert within_hosts.reduce == among_all.reduce


def test_servers_own_uneven_numbers_of_shards_unless_they_divide_1024():
    assert model.uneven(256) == 1
    for n in (5, 20, 40):
        owned = np.bincount(np.arange(1024) % n)
        assert model.uneven(n) == pytest.approx(owned.max() / owned.mean())


def test_table_1_is_fitted_to_5_gpus_and_predicts_the_others():
    size, widths = BatchSize(), Widths(row_bytes=4)
    gpu = model.fitted(size, widths, UNIQUE)
    hours = model.table_1(gpu, size, widths, UNIQUE, (5, 10, 20, 40, 256))
    assert hours[5] == pytest.approx(PAPER_HOURS[5], rel=1e-9)
    assert hours[10] == pytest.approx(PAPER_HOURS[10], rel=0.01)
    assert hours[20] == pytest.approx(PAPER_HOURS[20], rel=0.10)
    assert hours[40] == pytest.approx(PAPER_HOURS[40], rel=0.20)
    share = model.efficiency(hours)
    assert share[5] == 1
    assert list(share.values()) == sorted(share.values(), reverse=True)
    assert 0.01e12 < gpu.matmul < 20e12  # of the size of what a GPU of 2017 could do


def test_efficiency_is_the_share_of_linear_speed():
    assert model.efficiency({5: 60.0, 10: 40.0}) == {5: 1.0, 10: 0.75}
