"""Inspect, diff and verify, against NumPy on what Orbax reads."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from dicm_jax.checkpoint.surgery import blocks
from tests.checkpoint.surgery import made
from tests.checkpoint.surgery.made import arrays, run, told


@pytest.fixture(scope="module", name="source")
def _source(tmp_path_factory):
    return made.save(tmp_path_factory.mktemp("source"), made.state())


@pytest.mark.parametrize("block_bytes", [blocks.BLOCK_BYTES, 50])
def test_inspect_in_numbers(source, capsys, monkeypatch, block_bytes):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    said = told(capsys, "inspect", source, "--json")
    expected = arrays(source)
    assert list(said["arrays"]) == sorted(expected)
    for name, array in expected.items():
        found, wide = said["arrays"][name], array.astype(np.float64)
        assert found["shape"] == list(array.shape)
        assert found["dtype"] == array.dtype.name
        assert found["bytes"] == array.nbytes
        norm = np.linalg.norm(wide[np.isfinite(wide)])
        assert found["norm"] == pytest.approx(norm, rel=1e-12), name
        assert found["zeros"] == pytest.approx((wide == 0).mean())
        assert found["not_finite"] == pytest.approx((~np.isfinite(wide)).mean())
    assert said["bytes"] == sum(array.nbytes for array in expected.values())
    assert said["record"] == made.record(source)
    assert said["step"] == made.STEP


def test_inspect_in_words(source, capsys):
    assert run("inspect", source) == 0
    out = capsys.readouterr().out
    for line in (
        f"{source / '5'}: step 5, 10 arrays, 72.4 KiB",
        "  ids: 72.0 KiB",
        "    row  float32 2048 x 3  24.0 KiB  norm ",
        "      bias  float32 5  20 B  norm 3.4e+38, zero 20.0%, NaN OR INFINITE 40.000%",
        "  step  int32 scalar  4 B  norm 5, zero 0.0%",
        "vocabularies: 3, 1,641 keys",
        "  item: 900",
        "next_batch: 5",
    ):
        assert line in out, out
    assert run("inspect", source, "ids.m*", "step") == 0
    out = capsys.readouterr().out
    assert "step 5, 2 arrays, 24.0 KiB" in out
    assert "nu" not in out
    assert run("inspect", source, "--quick") == 0
    assert "norm" not in capsys.readouterr().out


def test_diff_of_equal_checkpoints(source, tmp_path, capsys):
    again = made.save(tmp_path, made.state())
    assert run("diff", source, again) == 0
    assert capsys.readouterr().out == "10 of 10 shared arrays are equal\n"


@pytest.mark.parametrize("block_bytes", [blocks.BLOCK_BYTES, 60])
def test_diff_in_numbers(source, tmp_path, capsys, monkeypatch, block_bytes):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    first = made.state()
    net = dict(first.params.net)
    net["kernel"] = net["kernel"].astype(jnp.float32) + 0.5
    net["bias"] = jnp.asarray([1.0, 0.0, np.inf, 1e-45, 3.4e38], jnp.float32)
    net["more"] = net.pop("counts")
    params = dataclasses.replace(first.params, net=net)
    rows = first.ids["row"].at[7, 1].add(-3.0)
    ids = {"row": rows, "mu": first.ids["mu"][:1024], "nu": first.ids["nu"]}
    other = made.save(tmp_path, dataclasses.replace(first, params=params, ids=ids))
    assert run("diff", source, other, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    differing = {each["name"]: each for each in said["differing"]}
    assert not said["equal"]
    assert said["only_in_first"] == ["params.net.counts"]
    assert said["only_in_second"] == ["params.net.more"]
    assert differing.keys() == {"ids.mu", "ids.row", "params.net.bias", "params.net.kernel"}
    before = np.asarray(first.ids["row"], np.float64)
    gap = np.asarray(rows, np.float64) - before
    row = differing["ids.row"]
    assert row["elements"] == 1
    assert row["largest"] == pytest.approx(3.0)
    assert row["relative"] == pytest.approx(np.linalg.norm(gap) / np.linalg.norm(before))
    assert differing["ids.mu"]["shapes"] == [[2048, 3], [1024, 3]]
    assert differing["params.net.kernel"]["dtypes"] == ["bfloat16", "float32"]
    assert differing["params.net.kernel"]["largest"] == pytest.approx(0.5)
    bias = differing["params.net.bias"]  # NaN is a number now, and -0 is 0: another bit
    assert (bias["elements"], bias["not_numbers"], bias["largest"]) == (2, 1, 0.0)


def test_diff_in_words(source, tmp_path, capsys):
    first = made.state()
    rows = first.ids["row"].at[7, 1].add(-3.0)
    ids = first.ids | {"row": rows, "mu": first.ids["mu"][:1024]}
    sizes = made.SIZES | {"shop": 40}
    other = made.save(tmp_path, dataclasses.replace(first, ids=ids), sizes)
    assert run("diff", source, other) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ids.mu: shape [2048, 3], then [1024, 3]"
    assert lines[1].startswith(
        "ids.row: 1 of 6,144 elements differ; largest difference 3, relative norm 0.03"
    )
    assert lines[2] == "records differ in vocabularies (which is not counted)"
    assert lines[3] == "8 of 10 shared arrays are equal"


def test_diff_ends_with_2_on_trouble(source, tmp_path, capsys):
    assert run("diff", source, tmp_path / "nothing") == 2
    assert "no finished checkpoint in" in capsys.readouterr().err


def test_verify_of_a_whole_checkpoint(source, capsys):
    said = told(capsys, "verify", source)
    assert said["whole"]
    assert said["arrays"] == 10
    assert said["folder"] == str(source / "5")


@pytest.mark.parametrize("folder", ["run", "run/checkpoints", "run/checkpoints/5"])
def test_any_folder_that_holds_it_names_a_checkpoint(tmp_path, capsys, folder):
    made.save(tmp_path / "run" / "checkpoints", made.state())
    said = told(capsys, "inspect", tmp_path / folder, "--json", "--quick")
    assert said["folder"] == str(tmp_path / "run" / "checkpoints" / "5")
    made.save(tmp_path / "run" / "best", made.state(1))
    if folder == "run":
        said = told(capsys, "inspect", tmp_path / folder, "--json", "--quick")
        assert said["folder"] == str(tmp_path / "run" / "best" / "5")
