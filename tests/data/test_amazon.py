"""The Amazon reader against a plain reading of its protocol, group by group."""

import bisect
import collections
import dataclasses

import numpy as np
import pytest

from dicm_jax.config import DataConfig
from dicm_jax.data.amazon import reader as amazon
from dicm_jax.data.amazon.config import AmazonConfig
from dicm_jax.data.purchases.impressions import WEEK_DAYS
from dicm_jax.data.readers import read_log
from dicm_jax.data.schema import NO_IMAGE, ClickLog, Features
from dicm_jax.data.statistics import BUCKET_EDGES
from dicm_jax.data.validate import validate
from tests.data import amazon_set
from tests.data.amazon_set import CUT, FIRST_DAY, Review, asin

CUT_DAY = FIRST_DAY + 84
ASINS = sorted({row.asin for row in amazon_set.reviews()})


def _load(folder, rows=None, least_rating=1.0, **options) -> ClickLog:
    amazon_set.write_set(folder, rows)
    config = AmazonConfig(cut=CUT, least_rating=least_rating)
    return amazon.load(str(folder), config=config, **options)


def _bucket(count):
    return bisect.bisect_right(BUCKET_EDGES.tolist(), count)


def _equal(one, other, *, but=()):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert (a is None) == (b is None), field.name
        if a is not None and field.name not in but:
            np.testing.assert_array_equal(a, b, err_msg=field.name)


def _equal_logs(one, other):
    for split in ("train", "test"):
        _equal(one.split(split), other.split(split))
    _equal(one.items, other.items)
    assert one.vocabulary_sizes == other.vocabulary_sizes
    assert one.notes == other.notes


def _groups_of(rows, of_split):
    """(day, user) of every group of a split, in their order: of time, then of the user's ID."""
    return sorted({(row.day, row.user) for row in rows if of_split(row.day)})


def _plain_group(bought, sold, day, user):
    """Behaviors and user ids of a group, and the context ids of any product on its day."""
    history = sorted((d, product) for u, d, product in bought if u == user and d < day)
    since = day - history[-1][0] if history else 0

    def context(product):
        before = [sale for sale in sold[product] if sale < day]
        return (_bucket(len(before)), _bucket(day - min(before) if before else 0))

    behaviors = [product for _, product in history]
    return behaviors, (_bucket(len(history)), _bucket(since)), context


@pytest.mark.parametrize("least", [1, 4])
def test_groups_equal_a_plain_reading_of_the_protocol(tmp_path, least):
    rows = [row for row in amazon_set.reviews() if row.stars >= least]
    names = sorted({row.asin for row in rows})
    log = _load(tmp_path, least_rating=least, behaviors=5)
    bought = {(row.user, row.day, row.asin) for row in rows}
    sold = collections.defaultdict(list)
    for _, day, product in bought:
        sold[product].append(day)
    for name, of_split in (("train", lambda day: day < CUT_DAY), ("test", lambda d: d >= CUT_DAY)):
        split, longest = log.split(name), 0
        groups = _groups_of(rows, of_split)
        assert split.n_groups == len(groups)
        for group, (day, user) in enumerate(groups):
            behaviors, user_ids, context = _plain_group(bought, sold, day, user)
            own = slice(*split.behavior_offsets[group : group + 2])
            read = [names[item] for item in split.behavior_item_H[own]]
            assert read == behaviors[-5:]
            assert tuple(split.user_ids_GF[group].tolist()) == user_ids
            own = slice(*split.impression_offsets[group : group + 2])
            shown = [names[item] for item in split.item_B[own]]
            assert [tuple(ids) for ids in split.context_ids_BF[own].tolist()] == list(
                map(context, shown)
            )
            clicked = {
                product for product, click in zip(shown, split.click_B[own], strict=True) if click
            }
            assert clicked == {product for u, d, product in bought if (u, d) == (user, day)}
            longest = max(longest, len(behaviors))
        assert longest > 5, "the limit was never met, so the test shows nothing about it"


def test_what_is_shown_beside_a_click_is_of_its_week_and_not_the_users(tmp_path):
    rows = amazon_set.reviews()
    log = _load(tmp_path, negatives=3)
    week_of = {day: (day - FIRST_DAY) // WEEK_DAYS for day in {row.day for row in rows}}
    owned = {(row.user, week_of[row.day], row.asin) for row in rows}
    sold = {(week, product) for _, week, product in owned}
    users = sorted({row.user for row in rows})
    groups = _groups_of(rows, lambda day: day < CUT_DAY)
    group_B = np.repeat(np.arange(log.train.n_groups), np.diff(log.train.impression_offsets))
    negatives = 0
    for at in np.flatnonzero(log.train.click_B == 0):
        day, user = groups[group_B[at]]
        assert users[log.train.user_G[group_B[at]]] == user
        product = ASINS[log.train.item_B[at]]
        assert (user, week_of[day], product) not in owned
        assert (week_of[day], product) in sold
        negatives += 1
    clicks = int(log.train.click_B.sum())
    assert clicks < negatives <= 3 * clicks


def test_log_is_valid_and_counts_what_it_leaves_out(tmp_path):
    rows = amazon_set.reviews()
    log = _load(tmp_path, least_rating=2)
    validate(log)
    kept = [row for row in rows if row.stars >= 2]
    distinct = {(row.user, row.day, row.asin) for row in kept}
    notes = log.notes
    assert notes["reviews"] == len(rows)
    assert notes["reviews_below_least_rating"] == len(rows) - len(kept) > 0
    assert notes["repeated_purchases_dropped"] == len(kept) - len(distinct) > 0
    reviewed = {row.asin for row in kept}
    listed = set(map(asin, amazon_set.LISTED))
    pictured = {*map(asin, range(amazon_set.PRODUCTS - 1)), *amazon_set.STRANGERS}
    assert notes["products"] == len(reviewed) == len(log.items.image_N)
    assert notes["products_without_metadata"] == len(reviewed - listed) == 1
    assert notes["metadata_without_reviews"] == len(listed - reviewed) == 2
    assert notes["items_without_image"] == len(reviewed - pictured) == 1
    assert notes["features_without_item"] == len(pictured - reviewed) == 4
    assert notes["train_impressions"] == log.train.n_impressions
    assert int(log.train.click_B.sum() + log.test.click_B.sum()) == len(distinct)


def test_all_formats_give_the_same_log(tmp_path):
    rows = amazon_set.reviews()
    reference = _load(tmp_path / "json", rows)
    for form in ("gz", "literals", "packed literals", "ratings"):
        folder = amazon_set.write_set(tmp_path / form, rows)
        if form == "gz":
            amazon_set.pack(folder / amazon_set.REVIEWS)
            amazon_set.pack(folder / amazon_set.METADATA)
        else:
            (folder / amazon_set.REVIEWS).unlink()
        if "literals" in form:
            path = folder / amazon_set.LITERALS
            amazon_set.write_literals(path, map(amazon_set.review_fields, rows))
        if "packed" in form:
            amazon_set.pack(folder / amazon_set.LITERALS)
        if form == "ratings":
            amazon_set.write_ratings(folder / amazon_set.RATINGS, rows)
        _equal_logs(reference, amazon.load(str(folder), config=AmazonConfig(cut=CUT)))


def test_order_of_the_reviews_does_not_matter(tmp_path):
    rows = amazon_set.reviews()
    _equal_logs(_load(tmp_path / "one", rows), _load(tmp_path / "other", rows[::-1]))


def test_a_review_planted_in_the_future_changes_nothing_earlier(tmp_path):
    """Everybody reviews everything in a later week: the log before is a prefix of the log after."""
    rows = amazon_set.reviews()
    later = FIRST_DAY + amazon_set.DAYS + WEEK_DAYS
    users, stars = sorted({row.user for row in rows}), 5.0
    planted = [Review(user, product, stars, later) for user in users for product in ASINS]
    before = _load(tmp_path / "before", rows)
    after = _load(tmp_path / "after", rows + planted)
    _equal(before.train, after.train)
    groups, shown = before.test.n_groups, before.test.n_impressions
    assert after.test.n_groups > groups
    for name, length in (
        ("user_G", groups),
        ("user_ids_GF", groups),
        ("behavior_offsets", groups + 1),
        ("behavior_item_H", len(before.test.behavior_item_H)),
        ("item_B", shown),
        ("context_ids_BF", shown),
        ("click_B", shown),
        ("cold_B", shown),
    ):
        a, b = getattr(before.test, name), getattr(after.test, name)[:length]
        np.testing.assert_array_equal(a, b, err_msg=name)
    _equal(before.items, after.items)


def test_a_review_of_the_same_day_is_future_too(tmp_path):
    rows = amazon_set.reviews()
    of_day = {row.user for row in rows if row.day == CUT_DAY}
    planted = [Review(user, ASINS[-1], 5.0, CUT_DAY) for user in of_day] * 2
    before = _load(tmp_path / "before", rows)
    after = _load(tmp_path / "after", rows + planted)
    _equal(before.train, after.train)
    assert len(of_day) > 2
    of_cut = slice(len(of_day))  # the groups of the day of the cut are the first of test
    for name in ("user_G", "user_ids_GF"):
        np.testing.assert_array_equal(
            getattr(before.test, name)[of_cut], getattr(after.test, name)[of_cut]
        )
    assert len(before.test.behavior_item_H) < len(after.test.behavior_item_H), "nothing was planted"
    end = before.test.behavior_offsets[len(of_day)]
    np.testing.assert_array_equal(
        before.test.behavior_item_H[:end], after.test.behavior_item_H[:end]
    )
    contexts = []
    for log in (before, after):
        shown = slice(log.test.impression_offsets[len(of_day)])
        ids = map(tuple, log.test.context_ids_BF[shown].tolist())
        contexts.append(dict(zip(log.test.item_B[shown].tolist(), ids, strict=True)))
    one, other = contexts
    assert one.keys() & other.keys()
    assert all(one[item] == other[item] for item in one.keys() & other.keys())


def test_sales_ranks_and_related_products_are_not_looked_at(tmp_path):
    """Both are as of the day on which the set was collected: they know the whole log."""
    reference = _load(tmp_path)
    objects = [amazon_set.product_fields(at) for at in amazon_set.LISTED]
    for at, fields in enumerate(objects):
        fields["salesRank"], fields["related"] = {"Clothing": 10**6 - at}, {}
    amazon_set.write_literals(tmp_path / amazon_set.METADATA, objects)
    _equal_logs(reference, amazon.load(str(tmp_path), config=AmazonConfig(cut=CUT)))


def test_cut_by_share_divides_no_day(tmp_path):
    rows = amazon_set.reviews()
    folder = amazon_set.write_set(tmp_path, rows)
    log = amazon.load(str(folder), config=AmazonConfig(test_share=0.3))
    cut = sorted(row.day for row in rows)[int(len(rows) * 0.7)]
    for name, of_split in (("train", lambda day: day < cut), ("test", lambda day: day >= cut)):
        expected = {(row.user, row.day, row.asin) for row in rows if of_split(row.day)}
        assert int(log.split(name).click_B.sum()) == len(expected)


def test_cold_is_never_reviewed_before_the_cut(tmp_path):
    rows = amazon_set.reviews()
    seen = {row.asin for row in rows if row.day < CUT_DAY}
    log = _load(tmp_path)
    cold = [ASINS[item] not in seen for item in log.test.item_B]
    np.testing.assert_array_equal(log.test.cold_B, cold)
    assert 0 < np.sum(cold) < len(cold)


def test_validation_looks_at_nothing_from_the_cut_on(tmp_path):
    rows = amazon_set.reviews()
    log = _load(tmp_path / "whole", rows, validation_days=14)
    folder = amazon_set.write_set(tmp_path / "cut", [row for row in rows if row.day < CUT_DAY])
    short = amazon.load(str(folder), config=AmazonConfig(cut=amazon_set.CUT), validation_days=14)
    assert log.train.n_groups == short.train.n_groups
    both = (log, short)
    names = [ASINS, sorted({row.asin for row in rows if row.day < CUT_DAY})]
    for split in ("train", "test"):
        shown = [
            [of_log[item] for item in one.split(split).item_B]
            for one, of_log in zip(both, names, strict=True)
        ]
        assert shown[0] == shown[1]
        _equal(log.split(split), short.split(split), but=("item_B", "behavior_item_H", "user_G"))


def test_keys_follow_the_values_of_metadata(tmp_path):
    log = _load(tmp_path)
    columns = [field.name for field in log.fields_of("item")]
    assert columns == ["product", "brand", "section", "category", "price"]
    known = {asin(at): amazon_set.product_fields(at) for at in range(1, amazon_set.PRODUCTS)}
    of_product = [known.get(name, {}) for name in ASINS]
    paths = [(fields.get("categories") or [[""]])[0] for fields in of_product]
    for column, values in (
        ("brand", [fields.get("brand", "") for fields in of_product]),
        ("section", [" > ".join(path[:2]) for path in paths]),
        ("category", [path[-1] for path in paths]),
        ("price", [_bucket(round(100 * fields.get("price", 0))) for fields in of_product]),
    ):
        keys = log.items.ids_NF[:, columns.index(column)].tolist()
        assert len(set(zip(keys, values, strict=True))) == len(set(keys)) == len(set(values)) > 3
        assert max(keys) + 1 == log.vocabulary_sizes[column]


def test_without_metadata_all_products_are_alike(tmp_path):
    folder = amazon_set.write_set(tmp_path)
    (folder / amazon_set.METADATA).unlink()
    log = amazon.load(str(folder))
    validate(log)
    assert log.notes["products_without_metadata"] == len(ASINS)
    assert not log.items.ids_NF[:, 1:].any()


def _rows_of_products(log):
    has = log.items.image_N != NO_IMAGE
    names = [name for name, its in zip(ASINS, has, strict=True) if its]
    return dict(zip(names, log.features.rows_VD[log.items.image_N[has]], strict=True))


@pytest.mark.parametrize("few", [False, True], ids=["most rows used", "few rows used"])
def test_products_get_their_own_rows_whatever_their_order(tmp_path, few):
    folder = amazon_set.write_set(tmp_path)
    order = np.random.default_rng(0).permutation(amazon_set.PRODUCTS)[: 2 if few else 30].tolist()
    amazon_set.write_features(folder / amazon_set.FEATURES, order)
    log = amazon.load(str(folder))
    validate(log)
    expected = {asin(at): amazon_set.feature_rows()[at] for at in order}
    read = _rows_of_products(log)
    assert read.keys() == expected.keys()
    for name, row_D in expected.items():
        np.testing.assert_array_equal(read[name], row_D)
    assert isinstance(log.features, Features)
    assert isinstance(log.features.rows_VD, np.memmap) == (not few), "rows are copied or not"
    assert len(log.features.rows_VD) == (2 if few else 33)
    assert log.notes["features_without_item"] == len(amazon_set.STRANGERS)


def test_features_may_come_as_another_encoders_array(tmp_path):
    folder = amazon_set.write_set(tmp_path)
    (folder / amazon_set.FEATURES).unlink()
    rows = amazon_set.feature_rows()[:, :5]
    np.savez(folder / "clip.npz", asin=np.array([asin(at) for at in range(40)]), rows=rows)
    log = amazon.load(str(folder))
    validate(log)
    assert log.notes["items_without_image"] == 0
    read = _rows_of_products(log)
    np.testing.assert_array_equal(read[asin(7)], rows[7])


def test_permuted_images_move_pictures_and_nothing_else(tmp_path):
    plain, permuted = _load(tmp_path), _load(tmp_path, permute_images=True, seed=0)
    assert (plain.items.image_N != permuted.items.image_N).mean() > 0.5
    np.testing.assert_array_equal(np.sort(plain.items.image_N), np.sort(permuted.items.image_N))
    np.testing.assert_array_equal(plain.items.ids_NF, permuted.items.ids_NF)
    _equal(plain.train, permuted.train)


def test_a_configuration_reads_it(tmp_path):
    folder = amazon_set.write_set(tmp_path)
    config = DataConfig(kind="amazon", path=str(folder), behaviors=7, negatives=2, seed=5)
    log = read_log(dataclasses.replace(config, amazon=AmazonConfig(cut=CUT, least_rating=3)))
    direct = _load(folder, least_rating=3, behaviors=7, negatives=2, seed=5)
    _equal_logs(log, direct)
    assert np.diff(log.test.behavior_offsets).max() == 7
