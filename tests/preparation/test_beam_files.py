"""What machines of a distributed preparation hand on in files, and what a runner reports."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from dicm_jax.errors import ConfigError, DataError
from dicm_jax.preparation import plan_files, scan_files
from dicm_jax.preparation.beam_errors import found_in
from dicm_jax.preparation.plan import Plan
from dicm_jax.preparation.scan import Scan, joined
from dicm_jax.preparation.vocabularies import Hashed, Vocabulary
from dicm_jax.preparation.workplace import Workplace, at_once
from tests.preparation import small_log


def _texts(count, prefix):
    return pa.array(sorted(f"{prefix}{number}" for number in range(count)), pa.large_string())


def _scan():
    return Scan(
        rows={"impressions": 900, "users": 3},
        values={"user": _texts(500, "u"), "städte/": _texts(2, ""), "none": _texts(0, "")},
        sketches={"item": np.array([3, 2**64 - 1], np.uint64), "": np.array([], np.uint64)},
        slots={7: 400, 9: 500},
    )


def _same(one, other):
    assert list(one.rows.items()) == list(other.rows.items())
    assert one.slots == other.slots
    assert one.values.keys() == other.values.keys()
    assert all(one.values[field].equals(other.values[field]) for field in one.values)
    assert one.sketches.keys() == other.sketches.keys()
    for field, sketch_K in one.sketches.items():
        np.testing.assert_array_equal(sketch_K, other.sketches[field], strict=True)


def test_a_scan_comes_back_from_its_file(tmp_path):
    scan_files.save(_scan(), tmp_path / "scan.arrow")
    _same(scan_files.load(tmp_path / "scan.arrow"), _scan())
    empty = Scan({}, {}, {}, {})
    scan_files.save(empty, tmp_path / "empty.arrow")
    _same(scan_files.load(tmp_path / "empty.arrow"), empty)


def test_shares_are_the_scan_and_have_no_value_twice(features):
    shares = list(scan_files.shares(_scan(), 8))
    sizes = [len(share.values.get("user", ())) for share in shares]
    assert sum(sizes) == 500
    assert min(sizes) > 30
    config = small_log.config(features, features, **_PATHS)
    _same(joined(config, shares[::-1]), _scan())
    elsewhere = dataclasses.replace(_scan(), values={"user": _texts(30, "u")})
    for share, other in zip(shares, scan_files.shares(elsewhere, 8), strict=True):
        values = other.values.get("user", _texts(0, ""))
        assert set(values.to_pylist()) <= set(share.values["user"].to_pylist())


_PATHS = {"impressions__path": "x", "catalogue__path": "x", "users__fields": ()}


@pytest.fixture(name="plan")
def _plan(features):
    return Plan(
        config=small_log.config(features, features, **_PATHS),
        users=Hashed(977),
        items=Vocabulary(_texts(40, "item-")),
        fields={"page": Vocabulary(_texts(3, "é")), "place": Hashed(12)},
        now=2_000_000_000,
        cuts=(10, 20),
        edges_Q=np.array([5, 10, 20], np.int64),
        partitions=3,
    )


def test_a_plan_comes_back_from_its_files(tmp_path, plan):
    plan_files.save(plan, tmp_path)
    again = plan_files.load(plan.config, tmp_path)
    assert list(again.fields) == ["page", "place"]
    assert again.items.values.equals(plan.items.values)
    page = again.fields["page"]
    assert isinstance(page, Vocabulary)
    assert page.values.equals(_texts(3, "é"))
    np.testing.assert_array_equal(again.edges_Q, plan.edges_Q, strict=True)
    for name in ("config", "users", "now", "cuts", "partitions", "buckets"):
        assert getattr(again, name) == getattr(plan, name)
    assert again.fields["place"] == plan.fields["place"]


def test_a_damaged_plan_is_not_used(tmp_path, plan):
    plan_files.save(plan, tmp_path)
    values = bytearray((tmp_path / "items.arrow").read_bytes())
    values[len(values) // 2] ^= 1
    (tmp_path / "items.arrow").write_bytes(values)
    with pytest.raises(DataError, match=r"items\.arrow: damaged: .* run the same command again"):
        plan_files.load(plan.config, tmp_path)


def test_files_get_their_places_together_or_not_at_all(tmp_path):
    with at_once(tmp_path / "place") as made:
        (made / "b.json").write_text("1")
        (made / "a.npy").write_text("2")
        assert not list((tmp_path / "place").glob("[ab]*"))
    assert sorted(path.name for path in (tmp_path / "place").iterdir()) == ["a.npy", "b.json"]
    with pytest.raises(OSError, match="full"), at_once(tmp_path / "place") as made:  # noqa: PT012
        (made / "c.npy").write_text("3")
        raise OSError("full")
    assert sorted(path.name for path in (tmp_path / "place").iterdir()) == ["a.npy", "b.json"]


def test_the_record_of_what_is_done(tmp_path):
    place = Workplace(tmp_path / "set", tmp_path / "work", 1)
    place.save_done([1, 4], {"dropped": 3})
    place.save_done([1, 4], {"dropped": 3})  # by a second attempt
    assert place.read_done() == ([1, 4], {"dropped": 3})


MESSAGE = "log.csv, row 3: click is '2'; a click is 0 or 1 (1 such rows in this chunk of 9)"
OF_FLINK = f"""\
java.util.concurrent.ExecutionException: Error received from SDK harness for instruction 6:
Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1498, in process
    raise DataError(
dicm_jax.errors.DataError: {MESSAGE}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "mapping.py", line 70, in only
dicm_jax.errors.DataError: {MESSAGE} [while running 'map/ParDo(_Map)']

\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient.handle(FnApi.java:9)
Caused by: java.lang.RuntimeException
"""


@pytest.mark.parametrize(
    "text",
    [
        OF_FLINK,
        f"dicm_jax.errors.DataError: {MESSAGE}",
        f"RuntimeError: dicm_jax.errors.DataError: {MESSAGE} [while running 'a [b] c']\nmore",
    ],
)
def test_an_error_is_found_in_what_a_runner_reports(text):
    found = found_in(text)
    assert type(found) is DataError
    assert str(found) == MESSAGE


def test_classes_are_kept_and_other_errors_are_not_ours():
    found = found_in("dicm_jax.errors.ConfigError: a=1: no; set a=2")
    assert type(found) is ConfigError
    assert found_in("ValueError: dicm_jax") is None
    assert found_in("dicm_jax.errors.NoSuchError: what") is None
