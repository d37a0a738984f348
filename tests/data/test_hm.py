"""The H&M reader against a plain reading of its protocol, row by row."""

import bisect
import collections
import dataclasses

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dicm_jax.data.hm import reader as hm
from dicm_jax.data.schema import NO_IMAGE, ClickLog, GroupedImpressions, in_memory
from dicm_jax.data.statistics import BUCKET_EDGES
from dicm_jax.data.validate import validate
from tests.data import hm_set


@pytest.fixture(name="folder")
def _folder(tmp_path):
    return hm_set.write_set(tmp_path, impressions=True)


def _plain_bucket(count):
    return bisect.bisect_right(BUCKET_EDGES.tolist(), count)


def _epoch_day(text):
    return int(np.datetime64(text).astype(int))


def _plain_groups(rows, shown, behaviors):
    """The protocol, one group at a time: {(customer, day): (behaviors, user ids, impressions)}."""
    bought = sorted({(customer, _epoch_day(day), article) for day, customer, article in rows})
    sold = collections.defaultdict(list)
    for _, day, article in bought:
        sold[article].append(day)
    groups = collections.defaultdict(list)
    for customer, day, article, click in shown:
        before = [sale for sale in sold[article] if sale < day]
        context = (len(before), day - min(before) if before else 0)
        groups[customer, day].append((article, *map(_plain_bucket, context), click))
    plain = {}
    for (customer, day), impressions in groups.items():
        history = [(d, a) for c, d, a in bought if c == customer and d < day]
        since = day - history[-1][0] if history else 0
        user = (_plain_bucket(len(history)), _plain_bucket(since))
        plain[customer, day] = ([a for _, a in history][-behaviors:], user, sorted(impressions))
    return plain


def _read_groups(split: GroupedImpressions, customers):
    """The groups of a split in the form of `_plain_groups`, days left out of the keys."""
    groups = collections.defaultdict(list)
    for group, user in enumerate(split.user_G):
        own = slice(*split.impression_offsets[group : group + 2])
        behaviors = slice(*split.behavior_offsets[group : group + 2])
        impressions = zip(
            split.item_B[own], split.context_ids_BF[own], split.click_B[own], strict=True
        )
        groups[customers[user]].append(
            (
                [hm_set.article_id(item) for item in split.behavior_item_H[behaviors]],
                tuple(split.user_ids_GF[group].tolist()),
                sorted(
                    (hm_set.article_id(item), *map(int, ids), int(click))
                    for item, ids, click in impressions
                ),
            )
        )
    return groups


def _equal(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert (a is None) == (b is None), field.name
        if a is not None:
            np.testing.assert_array_equal(a, b, err_msg=field.name)


def _names_in_order(rows):
    return sorted({customer for _, customer, _ in rows})


def test_groups_equal_a_plain_reading_of_the_protocol(folder):
    rows = hm_set.purchases()
    table = pq.read_table(folder / "impressions.parquet").to_pylist()
    shown = [
        (row["customer_id"], _epoch_day(row["t_dat"]), row["article_id"], row["click"])
        for row in table
    ]
    plain = _plain_groups(rows, shown, behaviors=5)
    log = hm.load(str(folder), cut=hm_set.CUT, behaviors=5)
    cut = _epoch_day(hm_set.CUT)
    for name, of_split in (("train", lambda day: day < cut), ("test", lambda day: day >= cut)):
        read = _read_groups(log.split(name), _names_in_order(rows))
        expected = collections.defaultdict(list)
        for (customer, day), group in sorted(plain.items(), key=lambda entry: entry[0][1]):
            if of_split(day):
                expected[customer].append(group)
        assert read == expected, name
    longest = max(np.diff(log.test.behavior_offsets))
    assert longest == 5, "the limit was never met, so the test shows nothing about it"


@pytest.mark.parametrize("impressions", [False, True])
def test_log_is_valid(tmp_path, impressions):
    log = hm.load(str(hm_set.write_set(tmp_path, impressions=impressions)), cut=hm_set.CUT)
    validate(log)
    assert log.notes["train_impressions"] == log.train.n_impressions
    assert log.notes["test_groups"] == log.test.n_groups
    assert log.notes["repeated_purchases_dropped"] > 0
    names = [field.name for field in log.fields_of("item")]
    assert names[0] == "image"
    assert "product_type" in names
    assert log.vocabulary_sizes["image"] == hm_set.ARTICLES
    assert [field.vocabulary for field in log.fields_of("behavior")] == ["image"]


def test_article_keys_follow_the_values_of_their_column(folder):
    log = hm.load(str(folder), cut=hm_set.CUT)
    column = [field.name for field in log.fields_of("item")].index("garment_group")
    position = hm_set.ARTICLE_COLUMNS.index("garment_group_no")
    values_N = np.arange(hm_set.ARTICLES) % (2 + position)
    keys_N = log.items.ids_NF[:, column]
    assert len({*zip(values_N, keys_N, strict=True)}) == len(set(values_N)) == len(set(keys_N))
    np.testing.assert_array_equal(log.items.ids_NF[:, 0], np.arange(hm_set.ARTICLES))


def test_future_purchases_change_no_earlier_impression(folder):
    before = hm.load(str(folder), cut=hm_set.CUT)
    rows = hm_set.purchases()
    later = [(hm_set.CUT, customer, article) for _, customer, article in rows]
    later += [(hm_set.date(110), customer, article) for _, customer, article in rows]
    hm_set.write_transactions(folder, rows + later)
    after = hm.load(str(folder), cut=hm_set.CUT)
    _equal(before.train, after.train)
    # Purchases of the day itself are future too: the first test day stands right at the cut.
    cut_groups = int(np.sum(_days_of(folder, "test") == _epoch_day(hm_set.CUT)))
    assert cut_groups > 1
    behaviors = slice(0, before.test.behavior_offsets[cut_groups])
    own = slice(0, before.test.impression_offsets[cut_groups])
    for name, part in (
        ("behavior_item_H", behaviors),
        ("user_ids_GF", slice(cut_groups)),
        ("context_ids_BF", own),
    ):
        a, b = getattr(before.test, name), getattr(after.test, name)
        np.testing.assert_array_equal(a[part], b[part], err_msg=name)
    assert not np.array_equal(before.test.context_ids_BF, after.test.context_ids_BF)


def _days_of(folder, split):
    """Day of each group of a split, from the impressions of the file."""
    table = pq.read_table(folder / "impressions.parquet").to_pylist()
    groups = sorted({(_epoch_day(row["t_dat"]), row["customer_id"]) for row in table})
    cut = _epoch_day(hm_set.CUT)
    return np.array([day for day, _ in groups if (day < cut) == (split == "train")])


def test_longer_log_keeps_the_sampled_impressions_of_earlier_weeks(tmp_path):
    hm_set.write_set(tmp_path)
    before = hm.load(str(tmp_path), cut=hm_set.CUT)
    rows = hm_set.purchases()
    newcomer = (hm_set.date(hm_set.DAYS + 7), "0" * 64, hm_set.article_id(0))
    hm_set.write_transactions(tmp_path, [*rows, newcomer])
    after = hm.load(str(tmp_path), cut=hm_set.CUT)
    for name in ("item_B", "click_B", "context_ids_BF", "behavior_item_H", "user_ids_GF"):
        np.testing.assert_array_equal(
            getattr(before.train, name), getattr(after.train, name), err_msg=name
        )


def test_order_of_the_rows_of_transactions_does_not_matter(tmp_path):
    hm_set.write_set(tmp_path)
    before = hm.load(str(tmp_path), cut=hm_set.CUT)
    hm_set.write_transactions(tmp_path, hm_set.purchases()[::-1])
    after = hm.load(str(tmp_path), cut=hm_set.CUT)
    _equal(before.train, after.train)
    _equal(before.test, after.test)


def test_validation_samples_nothing_from_the_cut_on(tmp_path):
    hm_set.write_set(tmp_path)
    log = hm.load(str(tmp_path), cut=hm_set.CUT, validation_days=20)
    rows = [row for row in hm_set.purchases() if row[0] < hm_set.CUT]
    hm_set.write_transactions(tmp_path, rows)
    truncated = hm.load(str(tmp_path), cut="2018-11-30")
    _equal(log.train, truncated.train)
    _equal(log.test, truncated.test)


def test_validation_uses_no_given_impression_from_the_cut_on(folder):
    log = hm.load(str(folder), cut=hm_set.CUT, validation_days=20)
    rows = [row for row in hm_set.purchases() if row[0] < hm_set.CUT]
    hm_set.write_transactions(folder, rows)
    hm_set.write_impressions(folder, hm_set.purchases())
    table = pq.read_table(folder / "impressions.parquet")
    kept = table.filter(pc.field("t_dat") < hm_set.CUT)
    pq.write_table(kept, folder / "impressions.parquet")
    truncated = hm.load(str(folder), cut="2018-11-30")
    _equal(log.train, truncated.train)
    _equal(log.test, truncated.test)


@pytest.mark.parametrize("given", [True, False])
def test_a_window_of_days_leaves_its_groups_as_they_are(folder, given):
    """Behaviors and statistics of a window know all that came before it."""
    if not given:
        (folder / "impressions.parquet").unlink()
    whole = hm.load(str(folder), cut=hm_set.CUT)
    part = hm.load(str(folder), cut=hm_set.CUT, train_days=25, test_days=10)
    cut = _epoch_day(hm_set.CUT)
    for name, first, end in (("train", cut - 25, cut), ("test", cut, cut + 10)):
        of_whole, of_part = getattr(whole, name), getattr(part, name)
        day_G = of_whole.time_G // 86_400
        chosen_G = (day_G >= first) & (day_G < end)
        assert 0 < chosen_G.sum() < len(day_G)
        chosen_B = np.repeat(chosen_G, np.diff(of_whole.impression_offsets))
        chosen_H = np.repeat(chosen_G, np.diff(of_whole.behavior_offsets))
        for field, chosen in (
            ("user_G", chosen_G),
            ("user_ids_GF", chosen_G),
            ("time_G", chosen_G),
            ("behavior_item_H", chosen_H),
            ("item_B", chosen_B),
            ("context_ids_BF", chosen_B),
            ("click_B", chosen_B),
            ("cold_B", chosen_B),
        ):
            np.testing.assert_array_equal(
                getattr(of_part, field), getattr(of_whole, field)[chosen], err_msg=field
            )
    assert part.vocabulary_sizes == whole.vocabulary_sizes


def test_cold_is_never_sold_before_the_cut(folder):
    # One article is sold on the day of the cut alone, another on the day before alone.
    on_cut, day_before = (hm_set.article_id(article) for article in (47, 48))
    rows = [row for row in hm_set.purchases() if row[2] not in (on_cut, day_before)]
    rows += [(hm_set.CUT, rows[0][1], on_cut), ("2018-12-19", rows[0][1], day_before)]
    sold = {article for day, _, article in rows if day < hm_set.CUT}
    hm_set.write_transactions(folder, rows)
    log = hm.load(str(folder), cut=hm_set.CUT)
    shown = {hm_set.article_id(item) for item in log.test.item_B}
    assert {on_cut, day_before} <= shown
    cold = [hm_set.article_id(item) not in sold for item in log.test.item_B]
    np.testing.assert_array_equal(log.test.cold_B, cold)
    assert 0 < np.sum(cold) < len(cold)
    assert not log.train.cold_B.any()
    expected = np.mean(np.array(cold)[log.test.click_B == 1])
    assert log.notes["cold_share_of_test_clicks"] == pytest.approx(expected)


def _features_of_items(log: ClickLog) -> np.ndarray:
    features = in_memory(log.features)
    scaled_VD = features.rows_VD
    if features.scale_V is not None:
        scaled_VD = scaled_VD * features.scale_V[:, None]
    return scaled_VD[log.items.image_N]


def test_articles_get_their_own_rows_whatever_their_order(folder):
    order = np.random.default_rng(0).permutation(hm_set.ARTICLES)
    features_ND = hm_set.write_features(folder, order)
    log = hm.load(str(folder), cut=hm_set.CUT)
    np.testing.assert_array_equal(_features_of_items(log), features_ND)


def test_npy_rows_stand_in_the_order_of_articles(folder):
    features_ND = hm_set.write_features(folder)
    np.save(folder / "features.npy", features_ND)
    log = hm.load(str(folder), cut=hm_set.CUT, feature_file="features.npy")
    assert in_memory(log.features).scale_V is None
    assert in_memory(log.features).rows_VD.dtype == np.float32
    np.testing.assert_array_equal(_features_of_items(log), features_ND.astype(np.float32))
    validate(log)


def test_integer_rows_without_a_scale_are_the_features(folder):
    rows = np.arange(hm_set.ARTICLES * 3, dtype=np.int8).reshape(-1, 3)
    np.save(folder / "features.npy", rows)
    log = hm.load(str(folder), cut=hm_set.CUT, feature_file=str(folder / "features.npy"))
    validate(log)
    np.testing.assert_array_equal(_features_of_items(log), rows)


def test_articles_without_a_row_are_counted_and_have_no_image(folder):
    hm_set.write_features(folder, np.arange(10, hm_set.ARTICLES))
    log = hm.load(str(folder), cut=hm_set.CUT)
    validate(log)
    assert log.notes["items_without_image"] == 10
    assert (log.items.image_N[:10] == NO_IMAGE).all()
    assert (log.items.image_N[10:] == np.arange(hm_set.ARTICLES - 10)).all()
    np.testing.assert_array_equal(log.items.ids_NF[:, 0], np.arange(hm_set.ARTICLES))


def test_permuted_images_move_photos_and_nothing_else(folder):
    hm_set.write_features(folder, np.arange(10, hm_set.ARTICLES))
    plain = hm.load(str(folder), cut=hm_set.CUT)
    permuted = hm.load(str(folder), cut=hm_set.CUT, permute_images=True, seed=3)
    again = hm.load(str(folder), cut=hm_set.CUT, permute_images=True, seed=3)
    other = hm.load(str(folder), cut=hm_set.CUT, permute_images=True, seed=4)
    np.testing.assert_array_equal(permuted.items.image_N, again.items.image_N)
    assert (permuted.items.image_N != other.items.image_N).any()
    np.testing.assert_array_equal(np.sort(plain.items.image_N), np.sort(permuted.items.image_N))
    np.testing.assert_array_equal(plain.items.image_N < 0, permuted.items.image_N < 0)
    assert np.mean(plain.items.image_N[10:] == permuted.items.image_N[10:]) < 0.2
    np.testing.assert_array_equal(plain.items.ids_NF, permuted.items.ids_NF)
    _equal(plain.train, permuted.train)


def test_customer_of_the_impressions_alone_has_no_behaviors(folder):
    rows = hm_set.purchases()
    stranger = rows[0][1]
    hm_set.write_transactions(folder, [row for row in rows if row[1] != stranger])
    log = hm.load(str(folder), cut=hm_set.CUT)
    validate(log)
    of_stranger_G = log.train.user_G == _names_in_order(rows).index(stranger)
    assert of_stranger_G.any()
    assert (np.diff(log.train.behavior_offsets)[of_stranger_G] == 0).all()
    assert (log.train.user_ids_GF[of_stranger_G] == 0).all()


@pytest.fixture(scope="module", name="real_log")
def _real_log(hm_folder):
    return hm.load(str(hm_folder))


def test_real_log_is_valid(real_log):
    validate(real_log)


def test_real_log_has_the_counts_of_the_protocol(real_log):
    assert (real_log.train.n_impressions, real_log.test.n_impressions) == (114_020, 28_560)
    assert len(np.unique(real_log.test.user_G)) == 628
    assert real_log.notes["cold_share_of_test_clicks"] == pytest.approx(0.69, abs=0.005)
    assert real_log.notes["items_without_image"] == 0
    assert in_memory(real_log.features).rows_VD.shape == (17_033, 4096)
    assert np.diff(real_log.test.behavior_offsets).max() == 50


def test_sampling_looks_like_the_fixed_impressions(real_log, tmp_path, hm_folder):
    for name in ("articles.csv", "transactions_train.csv", "image_features_4096_u8.npz"):
        (tmp_path / name).symlink_to(hm_folder / name)
    sampled = hm.load(str(tmp_path))
    for one, other in ((real_log.train, sampled.train), (real_log.test, sampled.test)):
        assert one.n_impressions == other.n_impressions
        np.testing.assert_array_equal(one.behavior_item_H, other.behavior_item_H)
        fixed, drawn = (
            split.context_ids_BF[split.click_B == 0].mean(axis=0) for split in (one, other)
        )
        np.testing.assert_allclose(drawn, fixed, rtol=0.03)
