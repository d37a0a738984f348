"""Keys of values: vocabularies exact, hashes as their plain definition says, and well spread."""

import numpy as np
import pyarrow as pa
import pytest

from dicm_jax.preparation import scan as scan_module
from dicm_jax.preparation import vocabularies
from dicm_jax.preparation.scan import Scan, Seen, joined, scan
from dicm_jax.preparation.sources import fragments
from dicm_jax.preparation.vocabularies import (
    Hashed,
    Vocabulary,
    encoded,
    expected_collisions,
    hashed,
    merged,
)
from tests.preparation import oracle, small_log


def _texts(count, seed=0):
    """Texts of 0 to 40 bytes, of one to four bytes a letter."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("ab0 -éß漢字🙂\x00"))
    return ["".join(rng.choice(letters, rng.integers(0, 20))) for _ in range(count)]


def test_the_hash_is_that_of_its_definition():
    texts = [*_texts(500), "", "a", "12345678", "123456789", "0" * 16, "\x00", "\x00\x00"]
    expected = [oracle.hash64(text) for text in texts]
    for kind in (pa.string(), pa.large_string()):
        assert hashed(pa.array(texts, kind)).tolist() == expected
    assert len(set(expected)) == len(set(texts))


def test_the_mixer_is_splitmix64():
    """Its first three outputs from seed 0, as its authors' program prints them."""
    gamma = 0x9E3779B97F4A7C15
    seeds = np.array([0, gamma, 2 * gamma % 2**64], np.uint64)
    outputs = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert vocabularies._mixed(seeds).tolist() == outputs


def test_the_hash_of_a_part_of_an_array():
    texts = _texts(100)
    array = pa.array(texts, pa.large_string())
    assert hashed(array.slice(17, 30)).tolist() == [oracle.hash64(text) for text in texts[17:47]]
    assert hashed(array.slice(100)).tolist() == []
    assert hashed(pa.array([], pa.large_string())).tolist() == []
    assert hashed(pa.array(["", ""])).tolist() == [oracle.hash64("")] * 2


def test_hashes_are_the_same_in_every_version():
    """Sets prepared at different times share keys: these figures must never change."""
    fixed = [0x8507F39E610A2CC8, 0xC13A442F82297CA1]
    assert hashed(pa.array(["a", "0123456789"])).tolist() == fixed


def test_hashed_keys_collide_as_often_as_stated():
    """Also for values that are numbers in a row, the usual IDs."""
    values = pa.array([str(number) for number in range(60_000)], pa.large_string())
    for keys in (2**14, 100_003, 2**20):
        key_U = Hashed(keys).keys(values)
        assert key_U.min() >= 0
        assert key_U.max() < keys
        _, counts = np.unique(key_U, return_counts=True)
        shared = counts[counts > 1].sum() / len(values)
        stated = expected_collisions(len(values), keys)
        spread = np.sqrt(stated * (1 - stated) / len(values))
        assert abs(shared - stated) < 6 * spread + 1e-3
    assert expected_collisions(1, 5) == expected_collisions(0, 5) == 0


@pytest.mark.parametrize("count", [0, 1, 100, 4_095, 5_000, 200_000])
def test_distinct_values_are_known_from_a_sketch(count):
    whole = hashed(pa.array([f"v{number}" for number in range(count)], pa.large_string()))
    sketch = scan_module._smallest(whole)
    seen = Scan({}, {}, {"field": sketch}, {})
    if count < 4_096:
        assert seen.distinct("field") == count
    else:
        assert abs(seen.distinct("field") / count - 1) < 0.05


def test_sketches_of_parts_are_the_sketch_of_the_whole(features, tmp_path):
    config = small_log.config(
        small_log.write(small_log.tables(0), tmp_path / "log"), features, ids__hashed=("city",)
    )
    rng = np.random.default_rng(0)
    hash_U = rng.integers(0, 2**64, 30_000, dtype=np.uint64)
    parts = [scan_module._smallest(part) for part in np.split(hash_U, 3)]
    whole = joined(config, [Scan({}, {}, {"city": part}, {}) for part in parts])
    np.testing.assert_array_equal(whole.sketches["city"], np.unique(hash_U)[:4096])


def test_keys_of_a_vocabulary_are_places():
    texts = list(dict.fromkeys(_texts(300)))
    vocabulary = Vocabulary(pa.array(texts, pa.large_string()))
    rng = np.random.default_rng(1)
    asked = [*(texts[at] for at in rng.integers(0, len(texts), 500)), "nobody", None, "ab" * 9]
    wanted = [texts.index(text) if text in texts else -1 for text in asked]
    assert vocabulary.keys(pa.array(asked, pa.large_string())).tolist() == wanted
    assert vocabulary.keys(pa.array(asked, pa.string())).tolist() == wanted
    assert vocabulary.keys(pa.array([], pa.string())).tolist() == []
    assert vocabulary.size == len(texts)


def test_values_that_share_a_hash_have_keys_of_their_own(monkeypatch):
    monkeypatch.setattr(
        vocabularies, "hashed", lambda values: np.array([len(str(v)) for v in values], np.uint64)
    )
    texts = ["a", "b", "cc", "dd", "e"]
    vocabulary = Vocabulary(pa.array(texts, pa.large_string()))
    asked = ["b", "dd", "x", "e", "a", "yy", "cc", "long"]
    assert vocabulary.keys(pa.array(asked)).tolist() == [1, 3, -1, 4, 0, -1, 2, -1]


def test_an_empty_vocabulary_knows_nothing():
    empty = Vocabulary(pa.array([], pa.large_string()))
    assert empty.keys(pa.array(["a", ""])).tolist() == [-1, -1]


def test_missing_values_are_the_empty_text():
    vocabulary = Vocabulary(pa.array(["", "a"], pa.large_string()))
    column = pa.array(["a", None, "", "a"], pa.large_string())
    assert encoded(column, vocabulary).tolist() == [1, 0, 0, 1]
    nothing = oracle.hash64("") % 101
    assert encoded(column, Hashed(101)).tolist()[1:3] == [nothing, nothing]


def test_merged_texts_are_sorted_by_their_bytes():
    texts = _texts(200)
    found = merged([pa.array(texts[:90]), pa.array(texts[60:], pa.large_string())])
    assert found.to_pylist() == sorted(set(texts), key=lambda text: text.encode())


def test_scans_are_joined_as_they_come(features, tmp_path, monkeypatch):
    """What is held does not grow with the number of chunks; the result is the same."""
    log = small_log.write(small_log.tables(5), tmp_path / "log")
    config = small_log.config(log, features, ids__hashed=("city",), runner__chunk_rows=3)
    pieces = fragments(config)
    whole = joined(config, [scan(config, piece) for piece in pieces])
    monkeypatch.setattr(scan_module, "_LEAST_JOINED", 5)
    held = []
    real = scan_module.joined
    monkeypatch.setattr(
        scan_module, "joined", lambda config, scans: held.append(len(scans)) or real(config, scans)
    )
    seen = Seen(config)
    for piece in pieces:
        seen.add(scan(config, piece))
    found = seen.all()
    assert len(held) > 10
    assert max(held) < 50
    assert found.rows == whole.rows == {"impressions": 300, "behaviors": 240, "users": 18}
    assert found.slots == whole.slots
    assert list(found.slots) == sorted(found.slots)
    assert {name: found.values[name].to_pylist() for name in found.values} == {
        name: whole.values[name].to_pylist() for name in whole.values
    }
    np.testing.assert_array_equal(found.sketches["city"], whole.sketches["city"])
