"""What is said of a prepared set: equal to NumPy on the log it was made of, and clear when bad."""

import dataclasses
import html.parser
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from dicm_jax.data import inspect
from dicm_jax.data.inspection import counting, examples, photos
from dicm_jax.data.inspection.counting import Histogram, KeySet
from dicm_jax.data.inspection.facts import facts_of
from dicm_jax.data.inspection.walk import evenly, open_set, walk
from dicm_jax.data.prepared import manifest
from dicm_jax.data.prepared.from_log import write_log
from dicm_jax.data.prepared.shards import DATASET_FOLDER
from dicm_jax.data.schema import NO_IMAGE, ClickLog, Features, GroupedImpressions, IdField, Items
from dicm_jax.errors import ConfigError, DataError

ITEMS, IMAGES = 70, 50
FIELDS = (
    IdField("age", "age", "user"),
    IdField("likes", "category", "user"),
    IdField("item", "item", "item"),
    IdField("category", "category", "item"),
    IdField("position", "position", "context"),
    IdField("behavior_item", "item", "behavior"),
    IdField("behavior_category", "category", "behavior"),
)
SIZES = {"age": 90, "category": 40, "item": ITEMS, "position": 30}
DAY_S = 86_400


def _keys(rng, *shape):
    """Keys of which few are frequent, so that some of a test are not in train."""
    return (rng.random(shape) ** 3 * np.array([90, 40])[: shape[1]]).astype(np.int32)


def _split(rng, groups, first_day, *, cold):
    lengths_G, sizes_G = rng.integers(0, 12, groups), rng.integers(1, 9, groups)
    behaviors, impressions = int(lengths_G.sum()), int(sizes_G.sum())
    popular = lambda length: (ITEMS * rng.random(length) ** 2).astype(np.int32)  # noqa: E731
    return GroupedImpressions(
        user_G=rng.integers(0, 40, groups).astype(np.int32) * 1000,
        user_ids_GF=_keys(rng, groups, 2),
        behavior_offsets=np.concatenate([[0], np.cumsum(lengths_G)]),
        behavior_item_H=popular(behaviors),
        impression_offsets=np.concatenate([[0], np.cumsum(sizes_G)]),
        item_B=popular(impressions),
        context_ids_BF=(_keys(rng, impressions, 1) // 3).astype(np.int32),
        click_B=rng.integers(0, 2, impressions).astype(np.uint8),
        cold_B=rng.random(impressions) < cold,
        time_G=np.sort(rng.integers(first_day * DAY_S, (first_day + 9) * DAY_S, groups)),
    )


def _log(**changes):
    rng = np.random.default_rng(11)
    image_N = rng.permutation(ITEMS).astype(np.int32)
    image_N[image_N >= IMAGES] = NO_IMAGE
    ids_NF = np.stack([np.arange(ITEMS), rng.integers(0, 40, ITEMS)], axis=1).astype(np.int32)
    log = ClickLog(
        name="small",
        fields=FIELDS,
        vocabulary_sizes=SIZES,
        items=Items(ids_NF, image_N),
        features=Features(rng.normal(size=(IMAGES, 13)).astype(np.float32)),
        train=_split(rng, 150, 20_000, cold=0.0),
        test=_split(rng, 40, 20_009, cold=0.2),
        notes={"rows_dropped": 7.0, "items_without_image": 20.0}
        | {"age_values": 900.0, "age_keys": 90.0, "age_expected_collision_share": 0.25},
    )
    return dataclasses.replace(log, **changes)


def _write(folder, log, **changes):
    settings = {"block_groups": 16, "shard_groups": 64, "storage": "int8", "settings": {}}
    write_log(log, folder, **(settings | changes))
    return folder


@pytest.fixture(scope="module")
def log():
    return _log()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, log):
    """A set that no test changes."""
    return _write(tmp_path_factory.mktemp("whole") / "set", log)


@pytest.fixture
def prepared(tmp_path, whole):
    """A set of the test's own."""
    return shutil.copytree(whole, tmp_path / "set")


def _facts(folder, blocks=None):
    opened = open_set(folder, verify=False)
    return facts_of(opened, walk(opened, blocks), None)


def _with_record(folder, **changes):
    """The set with another record, as a wrong program might have left it."""
    manifest.save(dataclasses.replace(manifest.load(folder), **changes), folder)


def _with_image_ids(folder, names):
    """The set with names of images, as a preparation from tables leaves them."""
    path = folder / manifest.ITEM_IDS
    ids = pa.table({"item": [f"i{n}" for n in range(len(names))], "image": names})
    pyarrow.parquet.write_table(ids, path)
    files = manifest.load(folder).files | {manifest.ITEM_IDS: manifest.record_of(path)}
    _with_record(folder, files=files)
    return folder


def _photo(folder, name, size=(64, 96)):
    path = folder / name[:2] / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


# ---- Numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train", "test"])
def test_counts_of_a_split_are_those_of_the_log(log, whole, name):
    facts, split = _facts(whole).splits[name], log.split(name)
    lengths, sizes = np.diff(split.behavior_offsets), np.diff(split.impression_offsets)
    imaged_N = log.items.image_N != NO_IMAGE
    assert facts.groups == len(split.user_G)
    assert facts.impressions == len(split.item_B)
    assert facts.behaviors == len(split.behavior_item_H)
    assert facts.clicks == split.click_B.sum()
    assert facts.click_rate == pytest.approx(split.click_B.mean())
    assert facts.users == len(np.unique(split.user_G))
    assert facts.first == str(split.time_G.min().astype("M8[s]")).replace("T", " ")
    assert facts.last == str(split.time_G.max().astype("M8[s]")).replace("T", " ")
    for spread, counts in (
        (facts.behaviors_per_group, lengths),
        (facts.impressions_per_group, sizes),
    ):
        assert spread is not None
        assert spread.mean == pytest.approx(counts.mean())
        assert spread.median == np.median(counts)
        assert spread.most == counts.max()
        assert spread.none_share == pytest.approx((counts == 0).mean())
    assert facts.cold_impressions == pytest.approx(split.cold_B.mean())
    assert facts.cold_clicks == pytest.approx(split.cold_B[split.click_B == 1].mean())
    assert facts.impressions_with_image == pytest.approx(imaged_N[split.item_B].mean())
    assert facts.behaviors_with_image == pytest.approx(imaged_N[split.behavior_item_H].mean())


def test_files_of_a_split_are_those_on_disk(log, whole):
    facts = _facts(whole)
    for name, split in facts.splits.items():
        files = list((whole / DATASET_FOLDER).glob(f"*-{name}.array_record-*"))
        assert split.shards == len(files)
        assert split.bytes == sum(path.stat().st_size for path in files)
        assert split.bytes_per_group == pytest.approx(split.bytes / split.groups)
        assert split.blocks == split.blocks_looked_at
    assert facts.splits["train"].blocks_per_shard == (2, 4)  # 64, 64 and 22 groups in 16s
    everything = [p for p in whole.rglob("*") if p.is_file() and "features/" not in str(p)]
    assert facts.bytes == sum(p.stat().st_size for p in everything if p.name != "prepared.json")


def _keys_of(log, split, field):
    """Every key of a field in a split, and the impressions or behaviors that each stands for."""
    sizes = np.diff(split.impression_offsets)
    column = [f.name for f in log.fields_of(field.level)].index(field.name)
    if field.level == "user":
        return np.repeat(split.user_ids_GF[:, column], sizes)
    if field.level == "context":
        return split.context_ids_BF[:, column]
    if field.level == "item":
        return log.items.ids_NF[split.item_B, column]
    vocabularies = [f.vocabulary for f in log.fields_of("item")]
    column = vocabularies.index(field.vocabulary)
    return log.items.ids_NF[split.behavior_item_H, column]


def test_keys_of_fields_are_those_of_the_log(log, whole):
    found = {field.name: field for field in _facts(whole).fields}
    assert list(found) == [field.name for field in FIELDS]
    some_unseen = 0
    for field in FIELDS:
        sharing = [f for f in FIELDS if f.vocabulary == field.vocabulary]
        seen = np.concatenate([_keys_of(log, log.train, f) for f in sharing])
        unseen = ~np.isin(_keys_of(log, log.test, field), seen)
        some_unseen += unseen.any()
        facts = found[field.name]
        assert facts.keys == SIZES[field.vocabulary]
        assert facts.keys_in_train == len(np.unique(_keys_of(log, log.train, field)))
        assert facts.unseen == {"test": pytest.approx(unseen.mean())}
    assert some_unseen >= 2  # or the test would say little
    assert found["age"].expected_collisions == 0.25
    assert found["item"].expected_collisions is None


def test_items_and_notes(log, whole):
    facts = _facts(whole)
    shown = np.bincount(log.train.item_B, minlength=ITEMS)
    assert (facts.items, facts.items_with_image) == (ITEMS, IMAGES)
    assert facts.items_shown_in_train == (shown > 0).sum()
    assert facts.top_percent_of_impressions == pytest.approx(shown.max() / shown.sum())
    assert facts.notes == {"rows_dropped": 7.0}  # the others are told elsewhere
    assert facts.hashed == {
        "age": {"values": 900.0, "keys": 90.0, "expected_collision_share": 0.25}
    }
    table = facts.contents["image"]
    assert (table.rows, table.width, table.storage) == (IMAGES, 13, "int8")
    assert table.encoder == "log small"
    assert table.bytes == IMAGES * (13 + 4)  # a row of int8 and its scale


def test_a_validation_split_is_counted_like_the_test(tmp_path):
    validation = _split(np.random.default_rng(3), 30, 20_005, cold=0.1)
    facts = _facts(_write(tmp_path / "set", _log(validation=validation)))
    assert list(facts.splits) == ["train", "validation", "test"]
    assert facts.splits["validation"].clicks == validation.click_B.sum()
    assert set(facts.fields[0].unseen) == {"validation", "test"}


def test_a_log_without_times_has_none(tmp_path, capsys):
    log = _log()
    no_times = {
        name: dataclasses.replace(log.split(name), time_G=None) for name in ("train", "test")
    }
    folder = _write(tmp_path / "set", dataclasses.replace(log, **no_times))
    inspect.inspect(folder, page=tmp_path / "page.html")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["splits"]["test"]["first"] is None
    assert "The log has no times that are kept." in (tmp_path / "page.html").read_text()


def test_a_sample_is_even_and_says_so(log, whole, capsys):
    inspect.inspect(whole, blocks=3)
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    assert "An even sample: 3 of 10 blocks of train, 3 of 3 blocks of test." in out
    assert not found["whole"]
    assert found["splits"]["train"]["blocks_looked_at"] == 3
    assert found["splits"]["train"]["impressions"] == len(log.train.item_B)
    first = lambda block: range(16 * block, min(16 * block + 16, 150))  # noqa: E731
    groups = np.concatenate([first(block) for block in (0, 4, 9)])  # of 0 to 9
    lengths = np.diff(log.train.behavior_offsets)[groups]
    assert found["splits"]["train"]["behaviors_per_group"]["mean"] == pytest.approx(lengths.mean())
    assert found["splits"]["train"]["users"] == len(np.unique(log.train.user_G[groups]))


def test_even_samples_have_both_ends():
    assert evenly(5, None) == range(5)
    assert evenly(5, 9) == range(5)
    for records, most in ((10, 2), (1000, 7), (7, 6)):
        chosen = evenly(records, most)
        assert (len(chosen), chosen[0], chosen[-1]) == (most, 0, records - 1)
        assert max(np.diff(chosen)) - min(np.diff(chosen)) <= 1


@pytest.mark.parametrize("most", [400, 2**31 - 1])  # dense, and too sparse for bits
def test_key_sets_are_sets(most, monkeypatch):
    monkeypatch.setattr(counting, "_FEW", 100)  # so that lists are merged several times
    rng, keys, expected = np.random.default_rng(5), KeySet(), set()
    for high in (min(most, 10), most // 2, 300, most):
        drawn = rng.integers(0, high, 200).astype(np.int32)
        keys.add(drawn)
        expected |= set(drawn.tolist())
        asked = np.append(rng.integers(0, most, 500), drawn)
        assert keys.has(asked).tolist() == [key in expected for key in asked.tolist()]
    other, more = KeySet(), rng.integers(0, 900, 50).astype(np.int32)
    other.add(more)
    other.update(keys)
    assert len(keys) == len(expected)
    assert len(other) == len(expected | set(more.tolist()))
    assert not KeySet().has(np.array([0, 5])).any()


def test_histograms_have_the_median_of_numpy():
    rng = np.random.default_rng(6)
    for count in (1, 2, 7, 40):
        histogram, values = Histogram(), rng.integers(0, 30, count)
        for part in np.array_split(values, 3):
            histogram.add(part)
        spread = histogram.spread()
        assert spread is not None
        assert spread.median == np.median(values)
        assert (spread.most, spread.mean) == (values.max(), pytest.approx(values.mean()))
    assert Histogram().spread() is None


# ---- What is printed --------------------------------------------------------------------------


def test_the_last_line_has_the_numbers_of_the_tables(log, whole, capsys):
    assert inspect.inspect(whole, verify=True) == 0
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    assert found["name"] == "small"
    assert found["whole"]
    assert found == json.loads(json.dumps(_facts(whole).as_json())) | {"page": None}
    assert re.search(rf"impressions +{len(log.train.item_B):,} +{len(log.test.item_B):,}\n", out)
    share = 100 * log.test.cold_B.mean()
    assert re.search(rf"impressions of cold items +0\.00 % +{share:.2f} %\n", out)
    assert re.search(r"rows dropped +7\n", out)
    assert re.search(r"age +user +age +90 +\d+ +\d+\.\d\d % +25\.00 %\n", out)
    lines = out.splitlines()
    head = lines.index("SPLITS") + 1
    assert len({len(line) for line in lines[head + 2 : head + 23]}) == 1  # columns are even


def _run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["inspect", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        inspect.main()
    return ended.value.code


def test_exit_codes_and_help(monkeypatch, whole, tmp_path, capsys):
    assert _run(monkeypatch, whole) == 0
    capsys.readouterr()
    assert _run(monkeypatch, tmp_path / "nothing") == 1
    assert "error: " in capsys.readouterr().err
    assert _run(monkeypatch, whole, "--blocks=0") == 2
    assert "0 blocks; give at least 1" in capsys.readouterr().err
    assert _run(monkeypatch) == 2
    assert _run(monkeypatch, "--help") == 0
    assert "python -m dicm_jax.data.inspect hm-set --page=" in capsys.readouterr().out


# ---- Bad input --------------------------------------------------------------------------------


def test_what_is_not_a_set_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"not a prepared set: no prepared.json in it"):
        inspect.inspect(tmp_path / "empty")
    with pytest.raises(DataError, match="not a prepared set: no such folder"):
        inspect.inspect(tmp_path / "nothing")


def test_an_unfinished_set_is_told_from_none(tmp_path):
    (tmp_path / ".set.unfinished").mkdir()
    with pytest.raises(DataError, match=r"not finished, .*again, it goes on"):
        inspect.inspect(tmp_path / "set")


def _damage(path):
    data = bytearray(path.read_bytes())
    first = len(data) // 2 if len(data) < 65_536 else 65_536 // 2
    for place in range(64, first, 97):
        data[place] ^= 0xFF
    path.write_bytes(data)


def test_the_folder_one_stands_in_is_a_set_too(whole, monkeypatch, capsys):
    monkeypatch.chdir(whole)
    inspect.inspect(Path("."))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["set"] == str(whole)


def test_a_damaged_record_is_named(prepared):
    shard = next(iter(sorted((prepared / DATASET_FOLDER).glob("*-test.array_record-*"))))
    _damage(shard)
    with pytest.raises(DataError, match=r"record 0 of split 'test' cannot be read"):
        inspect.inspect(prepared)
    with pytest.raises(DataError, match=rf"{shard.name}: damaged: .*CRC-32"):
        inspect.inspect(prepared, verify=True)


def test_a_shard_cut_short_is_named(prepared):
    shard = next(iter((prepared / DATASET_FOLDER).glob("*-train.array_record-00001*")))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"00001.*bytes found, \d+ are recorded"):
        inspect.inspect(prepared)


def test_blocks_that_are_not_what_is_recorded_are_refused(prepared):
    splits = manifest.load(prepared).splits
    shard = splits["test"][0]
    wrong = dataclasses.replace(shard, clicks=shard.clicks + 1)
    _with_record(prepared, splits=splits | {"test": [wrong, *splits["test"][1:]]})
    with pytest.raises(DataError, match=r"clicks found in the blocks of split 'test', \d+ are rec"):
        inspect.inspect(prepared)


def test_numbers_that_are_not_of_the_set_are_refused(prepared):
    _with_record(prepared, vocabulary_sizes=SIZES | {"position": 3})
    with pytest.raises(DataError, match=r"position \d+ is not of this set, .* 0 to 2"):
        inspect.inspect(prepared)


def test_a_catalogue_of_another_set_is_refused(prepared):
    _with_record(prepared, items=ITEMS - 1)
    with pytest.raises(DataError, match=r"items.npz: 70 items, 69 are recorded"):
        inspect.inspect(prepared)


@pytest.mark.parametrize("name", ["items.npz", "dicm_log/1.0.0/dataset_info.json"])
def test_damage_beside_the_groups_is_seen_without_being_asked_for(prepared, name):
    path = prepared / name
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DataError, match=rf"{name}: damaged: .*CRC-32"):
        inspect.inspect(prepared)


def test_a_feature_table_that_is_gone_is_stated(prepared, tmp_path, capsys):
    moved = tmp_path / "moved"
    shutil.move(prepared / "features", moved)
    inspect.inspect(prepared, page=tmp_path / "page.html")
    out = capsys.readouterr().out
    assert "image: cannot be opened: " in out
    assert json.loads(out.splitlines()[-1])["contents"]["image"]["width"] is None
    assert "Each picture is left blank." in (tmp_path / "page.html").read_text()
    inspect.inspect(prepared, features=str(moved))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["contents"]["image"]["width"] == 13
    with pytest.raises(DataError, match="not a feature table: no such folder"):
        inspect.inspect(prepared, features=str(tmp_path / "elsewhere"))


# ---- Photos and the page ----------------------------------------------------------------------


NAMES = [f"{number % 7:02d}photo{number}" for number in range(ITEMS)]


def test_bad_photos_folders_are_refused(prepared, tmp_path):
    page = tmp_path / "page.html"
    with pytest.raises(ConfigError, match="without --page"):
        inspect.inspect(prepared, photos=tmp_path)
    with pytest.raises(DataError, match=r"--photos=.*nothing: no such folder"):
        inspect.inspect(prepared, page=page, photos=tmp_path / "nothing")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("no photo")
    with pytest.raises(DataError, match="no images, but 1 other files"):
        inspect.inspect(prepared, page=page, photos=tmp_path / "texts")
    _photo(tmp_path / "photos", "other")
    with pytest.raises(DataError, match=r"no column image, .*leave out --photos"):
        inspect.inspect(prepared, page=page, photos=tmp_path / "photos")
    _with_image_ids(prepared, NAMES)
    with pytest.raises(DataError, match=r"none of its 1 photos is of the \d+ items .*ot/other.jpg"):
        inspect.inspect(prepared, page=page, photos=tmp_path / "photos")
    assert not page.exists()


def test_the_page_may_not_lie_in_the_set(whole, tmp_path):
    with pytest.raises(ConfigError, match="lies in the set"):
        inspect.inspect(whole, page=whole / "page.html")
    with pytest.raises(ConfigError, match="is a folder; give a file"):
        inspect.inspect(whole, page=tmp_path)


def test_photos_are_those_of_the_items(prepared, tmp_path, log):
    _with_image_ids(prepared, NAMES)
    files = {item: _photo(tmp_path / "photos", NAMES[item]) for item in range(0, ITEMS, 2)}
    files[4].write_bytes(b"not a photo")
    opened = open_set(prepared, verify=False)
    items = [2, 3, 4, 6, int(np.argmax(log.items.image_N == NO_IMAGE))]
    found = photos.pictures_of(opened, items, photos.photo_files(tmp_path / "photos"), None)
    row = log.items.image_N
    with_row = [item for item in (2, 6) if row[item] != NO_IMAGE]
    assert found.photos == {row[item]: files[item].read_bytes() for item in with_row}
    assert found.bad == ({"not an image": 1} if row[4] != NO_IMAGE else {})
    assert found.row[items[-1]] == NO_IMAGE
    assert set(found.looks) == {row[item] for item in items} - {NO_IMAGE}


def test_large_photos_are_made_small(tmp_path):
    large = _photo(tmp_path, "large", (900, 600))
    assert large.stat().st_size > photos.LARGEST
    small = photos.small_photo(large)
    assert len(small) <= photos.LARGEST
    path = tmp_path / "small.jpg"
    path.write_bytes(small)
    with Image.open(path) as image:
        assert image.size == (192, 128)


class _Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.used, self.classes, self.open = [], set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "use":
            self.used.add(str(found["href"]).removeprefix("#"))
        self.classes += (found.get("class") or "").split()
        for link in ("src", "href"):
            assert not (found.get(link) or "").startswith(("http", "//", "file")), found

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_shows_groups_as_they_are(prepared, tmp_path, capsys):
    _with_image_ids(prepared, NAMES)
    for name in NAMES[:40]:
        _photo(tmp_path / "photos", name)
    page = tmp_path / "pages" / "set.html"
    inspect.inspect(prepared, page=page, photos=tmp_path / "photos")
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    text = page.read_text()
    parsed = _Page(text)
    assert not parsed.open
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.used <= set(parsed.ids)
    assert text.count("data:image/jpeg") == found["pictures"]["photos"] > 0
    assert found["page"] == str(page)
    chosen = examples.sample_examples(open_set(prepared, verify=False))
    assert parsed.classes.count("user") == len(chosen) == found["pictures"]["groups"]
    clicked = sum(shown.clicked for example in chosen for shown in example.impressions)
    assert text.count('class="shown clicked"') == clicked
    without = found["pictures"]["images"] - found["pictures"]["photos"]
    assert f"{without} of {found['pictures']['images']} images have no photo file" in text
    assert "@media (prefers-color-scheme: dark)" in text


def test_the_page_of_a_sample_says_so(whole, tmp_path):
    inspect.inspect(whole, blocks=2, page=tmp_path / "page.html")
    assert "An even sample: 2 of 10 blocks of train" in (tmp_path / "page.html").read_text()


def test_examples_are_groups_of_the_log(whole, log):
    chosen = examples.sample_examples(open_set(whole, verify=False))
    assert len({example.user for example in chosen}) == len(chosen) == examples.GROUPS
    split = log.test
    for example in chosen:
        (group,) = np.flatnonzero((split.user_G == example.user) & (split.time_G == example.second))
        behaviors = split.behavior_item_H[slice(*split.behavior_offsets[group : group + 2])]
        impressions = slice(*split.impression_offsets[group : group + 2])
        assert list(example.behaviors) == behaviors[-examples.SHOWN_BEHAVIORS :].tolist()
        assert example.all_behaviors == len(behaviors)
        shown = [(s.item, s.clicked, s.cold) for s in example.impressions]
        columns = (split.item_B, split.click_B != 0, split.cold_B)
        expected = list(zip(*(column[impressions].tolist() for column in columns), strict=True))
        assert sorted(shown) == sorted(expected)  # at most 8: all are shown
        assert [s.clicked for s in example.impressions] == sorted(
            (s.clicked for s in example.impressions), reverse=True
        )
    assert chosen == examples.sample_examples(open_set(whole, verify=False))


def test_groups_worth_looking_at_come_first(whole):
    chosen = examples.sample_examples(open_set(whole, verify=False), count=4)
    for example in chosen:
        assert example.all_behaviors >= examples.ENOUGH
        assert 0 < example.all_clicks < example.all_impressions
