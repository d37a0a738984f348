"""ID rows find their IDs again, against a walk over the keys one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import MeshShape, colocated, table_sharding
from dicm_jax.checkpoint import carried_rows, known_ids
from dicm_jax.checkpoint.carried_rows import NEW, Carried, carry, match
from dicm_jax.checkpoint.known_ids import Keys, crc_of
from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.checkpoint.surgery.stored import open_arrays
from dicm_jax.errors import CheckpointError
from tests import small_world


def keys(sizes: dict[str, int], **ids: list[str]) -> Keys:
    arrays = {name: pa.array(values) for name, values in ids.items()}
    crcs = {name: crc_of(values) for name, values in arrays.items()}
    return Keys({**sizes, **{n: len(v) for n, v in ids.items()}}, crcs, arrays.__getitem__)


def some_ids(rng: np.random.Generator, count: int) -> list[str]:
    return [f"item {n}" for n in rng.permutation(4000)[:count]]


@pytest.mark.parametrize(("before", "after"), [(1500, 2100), (2100, 1500), (1500, 1500)])
def test_rows_follow_their_ids(before, after):
    rng = np.random.default_rng(before + after)
    old_ids, new_ids = some_ids(rng, before), some_ids(rng, after)
    old = keys({"bucket": 10, "gone": 5}, item=old_ids)
    new = keys({"new": 7, "bucket": 10}, item=new_ids)
    row_V, counts = match(old, new, "there")
    expected_V = np.full(RowLayout(17 + after).n_rows, NEW)
    for key in range(10):
        expected_V[RowLayout(17 + after).row(np.array([7 + key]))] = RowLayout(15 + before).row(
            np.array([key])
        )
    for key, name in enumerate(new_ids):
        if name in old_ids:
            was = np.array([15 + old_ids.index(name)])
            expected_V[RowLayout(17 + after).row(np.array([17 + key]))] = RowLayout(
                15 + before
            ).row(was)
    np.testing.assert_array_equal(row_V, expected_V)
    both = len({*old_ids} & {*new_ids})
    assert counts == {
        "new": Carried(0, 7, 0),
        "bucket": Carried(10, 0, 0),
        "item": Carried(both, after - both, before - both),
        "gone": Carried(0, 0, 5),
    }


@pytest.mark.parametrize("shape", [(1, 8), (2, 4)])
def test_tables_are_carried_in_pieces_to_every_server(shape, tmp_path, monkeypatch):
    run = small_world.run(1, 2)
    with Checkpoints(tmp_path, keep=1, settings={}) as checkpoints:
        checkpoints.save(1, run.state)
    monkeypatch.setattr(carried_rows, "_BLOCK_BYTES", 1000)
    old_VE = np.asarray(run.state.ids["row"])
    rng = np.random.default_rng(0)
    row_V = rng.integers(-1, len(old_VE), 4096)
    on_servers = table_sharding(colocated(MeshShape(*shape)).servers)
    fresh = jax.device_put(jnp.asarray(rng.normal(size=(4096, 5)), jnp.float32), on_servers)
    made = carry(open_arrays(tmp_path / "1" / "state")["ids.row"], fresh, row_V)
    assert made.sharding == fresh.sharding
    expected_VE = np.where(row_V[:, None] < 0, np.asarray(fresh), old_VE[row_V])
    np.testing.assert_array_equal(np.asarray(made), expected_VE)
    assert (row_V < 0).any()


def test_ids_that_are_not_known_are_not_guessed():
    known, unknown = keys({}, item=["a", "b"]), keys({"item": 2})
    for old, new in ((known, unknown), (unknown, known)):
        with pytest.raises(CheckpointError, match=r"2 keys whose IDs one log tells .*'partial'"):
            match(old, new, "there")
    with pytest.raises(CheckpointError, match=r"item was 2, is 3\).*prepare both"):
        match(unknown, keys({"item": 3}), "there")
    row_V, _ = match(unknown, unknown, "there")
    np.testing.assert_array_equal(row_V[[0, 1]], [0, 1])


def test_ids_are_kept_and_known_again(tmp_path):
    of_run = keys({"bucket": 3}, item=["a", "", "c"])
    known_ids.keep(tmp_path, of_run)
    assert known_ids.kept(tmp_path, "item", of_run.crcs["item"]).to_pylist() == ["a", "", "c"]
    with pytest.raises(CheckpointError, match=r"item.parquet: these are not the IDs .*partial"):
        known_ids.kept(tmp_path, "item", 5)
    with pytest.raises(CheckpointError, match=r"bucket.parquet: the IDs .* cannot be read"):
        known_ids.kept(tmp_path, "bucket", 5)


def test_a_crc_is_that_of_the_texts():
    texts = pa.array(["x", "ab", "c", "", "d"])
    assert crc_of(texts.slice(1, 3)) == crc_of(pa.array(["ab", "c", ""], pa.large_string()))
    assert crc_of(pa.array(["ab", "c"])) != crc_of(pa.array(["a", "bc"]))
    assert crc_of(pa.array(["a", ""])) != crc_of(pa.array(["a"]))
    assert crc_of(pa.array([], pa.string())) == crc_of(texts.slice(2, 0))
