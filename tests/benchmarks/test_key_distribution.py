import numpy as np
import pytest
from scipy import stats

from benchmarks._key_distribution import (
    BatchSize,
    Load,
    Popularity,
    draw_batch,
    fit_exponent,
    load,
    measure,
    poisson_tail,
    room,
    scatter_ranks,
)
from dicm_jax.ams.layout import RowLayout
from dicm_jax.errors import DicmError

SMALL = BatchSize(impressions=400, behaviors=(2, 6), user_fields=1, impression_fields=3)


@pytest.mark.parametrize("n_keys", [2, 5, 1000, 4099])
def test_scattered_ranks_are_a_permutation(n_keys: int):
    keys = scatter_ranks(np.arange(n_keys), n_keys)
    np.testing.assert_array_equal(np.sort(keys), np.arange(n_keys))


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 1.3])
def test_distinct_keys_among_draws_are_as_many_as_expected(exponent: float):
    law = Popularity(50_000, exponent)
    drawn = [len(np.unique(law.draw(np.random.default_rng(i), 20_000))) for i in range(5)]
    assert np.mean(drawn) == pytest.approx(law.expected_unique(20_000), rel=0.01)


def test_popular_keys_are_drawn_as_often_as_the_law_says():
    n_keys, draws = 1000, 200_000
    keys = Popularity(n_keys, 1.0).draw(np.random.default_rng(0), draws)
    share = np.bincount(keys, minlength=n_keys)[scatter_ranks(np.arange(3), n_keys)] / draws
    expected = np.log([2 / 1, 3 / 2, 4 / 3]) / np.log(n_keys + 1)
    np.testing.assert_allclose(share, expected, rtol=0.05)


def test_the_fitted_exponent_gives_the_distinct_keys_that_were_asked_for():
    exponent = fit_exponent(100_000, 30_000, 12_000)
    found = len(np.unique(Popularity(100_000, exponent).draw(np.random.default_rng(1), 30_000)))
    assert found == pytest.approx(12_000, rel=0.02)


def test_more_distinct_keys_than_draws_can_hold_are_refused():
    with pytest.raises(DicmError, match=r"99 distinct keys .* 100 draws .*equally popular"):
        fit_exponent(1000, 100, 99)


def test_a_load_counts_what_each_device_wants_of_each_server_once():
    rng = np.random.default_rng(2)
    layout, devices, servers = RowLayout(3000), 6, 4
    device, key = rng.integers(0, devices, 500), rng.integers(0, 60, 500) * 37
    found = load(device, key, layout, devices, servers)
    expected = np.zeros((devices, servers), int)
    for of, row in {(d, int(layout.row(np.array([k]))[0])) for d, k in zip(device, key)}:  # noqa: B905
        expected[of, row // layout.rows_per_server(servers)] += 1
    np.testing.assert_array_equal(found.pair_NS, expected)
    np.testing.assert_array_equal(found.unique_N, expected.sum(axis=1))
    assert found.owner_S.sum() == len(np.unique(key))


@pytest.mark.parametrize("mean", [0.0, 0.3, 5.6, 28.7, 7000.0])
def test_the_tail_is_that_of_a_poisson_number(mean: float):
    for n in (int(mean), int(mean + 4 * mean**0.5) + 1):
        assert poisson_tail(mean, n) == pytest.approx(stats.poisson.sf(n, mean), rel=1e-6, abs=0)


def test_the_room_is_overflown_as_seldom_as_stated():
    rng, quantile = np.random.default_rng(3), 0.9
    batch = lambda: Load(rng.poisson(4.0, (16, 8)), np.zeros(8, int))  # noqa: E731
    found = room([batch() for _ in range(20)], quantile)
    overflown = np.mean([batch().pair_NS.max() > found.per_server for _ in range(2000)])
    assert overflown <= 1 - quantile
    assert np.mean([batch().pair_NS.max() > found.per_server - 3 for _ in range(500)]) > 0.1


def test_a_batch_has_the_keys_of_its_places_on_their_devices():
    images, ids = Popularity(5000, 0.8), Popularity(9000, 0.6)
    drawn = draw_batch(np.random.default_rng(4), SMALL, images, ids, devices=8)
    behaviors = len(drawn["behavior"][1])
    assert len(drawn["ad"][1]) == SMALL.impressions
    assert SMALL.groups * 2 <= behaviors <= SMALL.groups * 6
    assert len(drawn["ids"][1]) == SMALL.id_places + SMALL.impressions + behaviors
    np.testing.assert_array_equal(np.bincount(drawn["ad"][0]), np.full(8, 50))
    fields = drawn["ids"][1][: SMALL.id_places]
    assert fields.max() < ids.n_keys <= drawn["ids"][1][SMALL.id_places :].min()


def test_a_measurement_is_the_same_for_the_same_seed_and_covers_its_draws():
    images, ids = Popularity(5000, 0.8), Popularity(9000, 0.6)
    sizes = {"draws": 2, "quantile": 0.99, "seed": 5}
    first = measure(SMALL, images, ids, (2, 4), **sizes)
    assert first == measure(SMALL, images, ids, (2, 4), **sizes)
    for found in first.values():
        assert found.mean <= found.most <= found.per_server <= found.unique
        assert found.total >= found.distinct
