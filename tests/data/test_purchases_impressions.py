"""Sampled impressions: who may be a negative, how often, and what the draw depends on."""

import numpy as np
import pytest

from dicm_jax.data.purchases.impressions import WEEK_DAYS, Purchases, sample_impressions

N_ITEMS = 40


def _purchases(seed=0, *, n=3000, n_customers=60, days=30, first_day=17_794):
    rng = np.random.default_rng(seed)
    item_P = np.minimum(rng.exponential(8, n).astype(np.int32), N_ITEMS - 1)
    triples = np.stack([rng.integers(n_customers, size=n), rng.integers(days, size=n), item_P], 1)
    customer_P, day_P, item_P = np.unique(triples, axis=0).astype(np.int32).T
    return Purchases(customer_P, day_P + np.int32(first_day), item_P)


def _rows(impressions):
    return zip(
        impressions.customer_B.tolist(),
        impressions.day_B.tolist(),
        impressions.item_B.tolist(),
        impressions.click_B.tolist(),
        strict=True,
    )


def test_every_purchase_is_a_click_and_no_week_shows_what_its_customer_bought():
    purchases = _purchases()
    impressions, short = sample_impressions(purchases, n_items=N_ITEMS, negatives=4, seed=0)
    assert short == 0
    bought = {*zip(*(column.tolist() for column in vars(purchases).values()), strict=True)}
    clicks = [row[:3] for row in _rows(impressions) if row[3]]
    assert sorted(clicks) == sorted(bought)
    first = purchases.day_P.min()
    owned = {(customer, (day - first) // WEEK_DAYS, item) for customer, day, item in bought}
    sold = {(week, item) for _, week, item in owned}
    negatives = [row for row in _rows(impressions) if not row[3]]
    assert len(negatives) == 4 * len(clicks)
    for customer, day, item, _ in negatives:
        week = (day - first) // WEEK_DAYS
        assert (customer, week, item) not in owned
        assert (week, item) in sold


def test_requests_are_runs_of_distinct_articles_with_the_click_anywhere():
    impressions, _ = sample_impressions(_purchases(), n_items=N_ITEMS, negatives=4, seed=0)
    assert (np.diff(impressions.day_B) >= 0).all()
    item_RK, click_RK = impressions.item_B.reshape(-1, 5), impressions.click_B.reshape(-1, 5)
    assert (np.diff(np.sort(item_RK, axis=1), axis=1) > 0).all()
    assert (click_RK.sum(axis=1) == 1).all()
    share_K = click_RK.mean(axis=0)
    np.testing.assert_allclose(share_K, 0.2, atol=4 * np.sqrt(0.16 / len(click_RK)))


def test_one_negative_is_drawn_in_proportion_to_what_the_others_bought():
    counts_N = np.array([1, 2, 4, 8, 16, 32])
    # Customer 0 buys article 0 every day of a week; the others buy in the given proportions.
    item_P = np.repeat(np.arange(6), counts_N)
    others = np.arange(1, len(item_P) + 1)
    customer_P = np.concatenate([np.zeros(7, int), others]).astype(np.int32)
    day_P = np.concatenate([np.arange(7), np.zeros(len(item_P), int)]).astype(np.int32)
    item_P = np.concatenate([np.zeros(7, int), item_P]).astype(np.int32)
    drawn_N = np.zeros(6)
    for seed in range(400):
        impressions, _ = sample_impressions(
            Purchases(customer_P, day_P, item_P), n_items=6, negatives=1, seed=seed
        )
        of_first_B = (impressions.customer_B == 0) & (impressions.click_B == 0)
        drawn_N += np.bincount(impressions.item_B[of_first_B], minlength=6)
    assert drawn_N[0] == 0
    share_N = counts_N[1:] / counts_N[1:].sum()
    deviation_N = np.sqrt(share_N * (1 - share_N) / drawn_N.sum())
    assert drawn_N.sum() == 400 * 7
    np.testing.assert_array_less(np.abs(drawn_N[1:] / drawn_N.sum() - share_N), 4 * deviation_N)


def test_draws_without_replacement_match_numpy():
    counts_N = np.array([1, 3, 6, 10, 20])
    item_P = np.concatenate([[5], np.repeat(np.arange(5), counts_N)]).astype(np.int32)
    purchases = Purchases(
        np.arange(len(item_P), dtype=np.int32), np.zeros(len(item_P), np.int32), item_P
    )
    rng, n = np.random.default_rng(0), 3000
    expected_N, drawn_N = np.zeros(5), np.zeros(5)
    share_N = counts_N / counts_N.sum()
    for seed in range(n):
        impressions, _ = sample_impressions(purchases, n_items=6, negatives=3, seed=seed)
        of_first_B = (impressions.customer_B == 0) & (impressions.click_B == 0)
        drawn_N[impressions.item_B[of_first_B]] += 1
        expected_N[rng.choice(5, size=3, replace=False, p=share_N)] += 1
    np.testing.assert_allclose(drawn_N / n, expected_N / n, atol=4 * np.sqrt(0.5 / n))


def test_short_weeks_give_what_they_have_and_are_counted():
    # Two customers, three articles: customer 0 owns two of them, customer 1 the third.
    purchases = Purchases(*np.array([[0, 0, 1], [0, 1, 0], [0, 1, 2]], np.int32).reshape(3, 3))
    impressions, short = sample_impressions(purchases, n_items=3, negatives=4, seed=0)
    assert short == 3
    assert sorted(_rows(impressions)) == [
        (0, 0, 0, 1), (0, 0, 2, 0), (0, 1, 1, 1), (0, 1, 2, 0),
        (1, 0, 0, 0), (1, 0, 1, 0), (1, 0, 2, 1),
    ]  # fmt: skip


def test_customer_alone_in_his_week_has_clicks_alone():
    purchases = Purchases(*np.zeros((3, 1), np.int32))
    impressions, short = sample_impressions(purchases, n_items=1, negatives=4, seed=0)
    assert (impressions.click_B.tolist(), short) == ([1], 1)


def test_one_article_that_outweighs_all_others_does_not_stall_the_draw():
    n = 3_000
    item_P = np.zeros(n, np.int32)
    item_P[:2] = (1, 2)
    purchases = Purchases(np.arange(n, dtype=np.int32), np.zeros(n, np.int32), item_P)
    impressions, short = sample_impressions(purchases, n_items=3, negatives=1, seed=0)
    assert short == 0
    assert len(impressions.item_B) == 2 * n


@pytest.mark.parametrize(("seed", "same"), [(0, True), (1, False)])
def test_draw_depends_on_the_seed_alone(seed, same):
    reference, _ = sample_impressions(_purchases(), n_items=N_ITEMS, negatives=4, seed=0)
    again, _ = sample_impressions(_purchases(), n_items=N_ITEMS, negatives=4, seed=seed)
    assert np.array_equal(reference.item_B, again.item_B) == same
