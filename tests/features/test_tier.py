"""Runs with feature tables in host memory, from the command line to the result."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dicm_jax.ams.feature_table import statistics
from dicm_jax.errors import DataError
from dicm_jax.features import table_shards, table_writing
from dicm_jax.features.table_files import open_table
from dicm_jax.train import train

ROOT = Path(__file__).parents[2]
TINY = [
    "data.world.users=120",
    "data.world.items=1300",
    "data.world.scenes=2",
    "model.compressor_widths=(16,8,12)",
    "model.attention_widths=(8,)",
    "model.head_widths=(16,)",
    "train.batch_size=256",
    "train.steps=3",
    "train.baseline=false",
    "train.log_every=1",
    "evaluate.batch_size=1024",
]


def run(workdir: Path, tables: Path | None, tier: str, *more: str) -> None:
    where = [] if tables is None else [f"features.path={tables}"]
    overrides = [*TINY, *where, f"features.tier={tier}", *more]
    assert train(str(ROOT / "configs/dicm.py"), workdir, overrides) == 0


def scores(workdir: Path) -> dict:
    result = json.loads((workdir / "result.json").read_text())
    return {name: result[name] for name in ("gauc", "auc", "logloss", "steps")}


def losses(workdir: Path) -> list[float]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


@pytest.fixture(scope="module", name="tables")
def _tables(tmp_path_factory) -> Path:
    """A folder of tables, written by a first run."""
    folder = tmp_path_factory.mktemp("tier")
    run(folder / "first", folder / "tables", "host")
    return folder / "tables"


def test_the_tiers_give_the_same_numbers(tables, tmp_path):
    first = tables.parent / "first"
    assert len(losses(first)) == 3
    for name, path in [("of the log", None), ("of the files", tables)]:
        run(tmp_path / name, path, "device")
        assert losses(tmp_path / name) == losses(first)
        assert scores(tmp_path / name) == scores(first)


def test_tables_that_are_found_are_used_as_they_are(tables, tmp_path):
    def when_written() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (tables / "image").iterdir()}

    before = when_written()
    run(tmp_path / "second", tables, "host")
    assert when_written() == before
    assert losses(tmp_path / "second") == losses(tables.parent / "first")
    assert scores(tmp_path / "second") == scores(tables.parent / "first")


@pytest.mark.parametrize("tier", ["host", "device"])
def test_nothing_is_trained_from_a_damaged_table(tables, tmp_path, tier):
    shard = tables / "image" / "shard-0007.rows"
    whole = shard.read_bytes()
    changed = bytearray(whole)
    changed[-1] ^= 1
    shard.write_bytes(changed)
    try:
        with pytest.raises(DataError, match=r"shard-0007\.rows: damaged: [0-9a-f]{8} is the CRC"):
            run(tmp_path / "run", tables, tier)
    finally:
        shard.write_bytes(whole)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_command_line_ends_with_one_message_for_a_damaged_table(tables, tmp_path):
    shard = tables / "image" / "shard-0009.rows"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    command = [sys.executable, "-m", "dicm_jax.train", "--config=configs/dicm.py"]
    command += [f"--workdir={tmp_path}/run", *(f"--config.{setting}" for setting in TINY)]
    command += ["--config.features.tier=host", f"--config.features.path={tables}"]
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        shard.write_bytes(whole)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "shard-0009.rows: truncated" in last
    assert "write the table again" in last
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_mapped_pages_are_given_back_before_they_are_many(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    count, width = 8192, 4096  # 32 KiB of each shard, 32 MiB
    rows_ND = rng.integers(-100, 100, (count, width), np.int8)
    scale_N = np.ones(count, np.float32)
    stats = statistics(rows_ND[:64], scale_N[:64])
    table_writing.write(tmp_path / "table", rows_ND, scale_N, stats, "int8", encoder="test")
    table = open_table(tmp_path / "table")

    def mapped_mib(limit: int) -> float:
        monkeypatch.setattr(table_shards, "_MAPPED_BYTES", limit)
        table.release()
        before, most = _file_mib(), 0.0
        for keys_K in np.split(rng.permutation(count), 64):
            table.gather(keys_K)
            most = max(most, _file_mib() - before)
        return most

    assert mapped_mib(2**40) > 28
    assert mapped_mib(2**23) < 18


def _file_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssFile:")[1].split()[0]) / 1024
