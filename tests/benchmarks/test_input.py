"""The benchmark of input runs to its end, and its loaders bring what is in the log."""

import json
import pathlib
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest

from benchmarks import _input_turns
from benchmarks._input_log import COLUMNS, PER_GROUP, random_log, rows_of
from benchmarks._input_ours import EPOCHS, Ours
from benchmarks._input_records import Records
from benchmarks._input_turns import Loader, take_turns
from dicm_jax.data.prepared.from_log import write_log

pytestmark = pytest.mark.filterwarnings("ignore:label:DeprecationWarning")  # TFDS on protobuf 6

ROOT = pathlib.Path(__file__).parents[2]
GROUPS, BATCH = 60, 80
TINY = ["--groups=60", "--rival_groups=40", "--batch_size=80", "--workers=0"]
TINY += ["--rounds=1", "--seconds=0.01"]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.input", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_small_run_ends_with_the_result(tmp_path):
    done = run_benchmark(*TINY, "--wait_steps=0", f"--folder={tmp_path}")
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == "input"
    assert {"against", "ratio", "ratio_cpu", "versions", "date"} <= result.keys()
    loaders = {"ours, ready", "ours, read", "a group a record, ready", "a group a record, read"}
    assert loaders <= result["impressions_per_s"].keys()
    assert "ours, ready / a group a record, read" in result["ratios_cpu"]
    for rival in result["left_out"]:
        assert not any(rival in pair for pair in result["ratios"])
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def log():
    return random_log(GROUPS)


@pytest.fixture(scope="module")
def sets(log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    for name, block_groups in (("blocks", 4), ("records", 1)):
        write_log(
            log,
            folder / name,
            block_groups=block_groups,
            shard_groups=32,
            storage="int8",
            settings={},
        )
    return folder


def test_groups_have_the_stated_shape(log):
    lengths = np.diff(log.train.behavior_offsets)
    assert log.train.n_impressions == GROUPS * PER_GROUP
    assert 17 <= lengths.min() <= lengths.max() <= 50
    rows = rows_of(log)
    assert rows.ids_BF.shape == (GROUPS * PER_GROUP, len(COLUMNS))
    np.testing.assert_array_equal(rows.ids_BF[:, 2], log.train.item_B)
    np.testing.assert_array_equal(rows.ids_BF[:, 0], log.train.user_B)


@pytest.mark.parametrize("stream", [True, False])
def test_ours_brings_every_impression_of_every_epoch(log, sets, stream):
    ours = Ours(sets / "blocks", BATCH, stream=stream)
    for batches in (ours.read(), ours.ready()):
        assert sum(islice(batches, len(ours.source))) == EPOCHS * log.train.n_impressions


def test_one_group_a_record_makes_the_same_kind_of_batches(sets):
    ours = Ours(sets / "blocks", BATCH, stream=True)
    records = Records(sets / "records", ours)
    for batches in (records.read(0), records.read(1), records.ready(0), records.by_hand()):
        assert list(islice(batches, 3)) == [BATCH] * 3


def test_parquet_brings_the_rows_of_the_log(log, tmp_path):
    torch_loader = _of("torch", "_input_torch")
    rows = rows_of(log)
    torch_loader.write_parquet(rows, tmp_path / "rows.parquet")
    data = torch_loader.Impressions(tmp_path / "rows.parquet")
    epoch = list(islice(torch_loader.batches(data, 100, workers=0), GROUPS * PER_GROUP // 100))
    ids_BF = np.concatenate([batch["ids"] for batch in epoch])
    np.testing.assert_array_equal(_sorted_rows(ids_BF), _sorted_rows(rows.ids_BF))
    sample, group = data[PER_GROUP * 7 + 3], slice(*log.train.behavior_offsets[[7, 8]])
    behaviors = log.train.behavior_item_H[group]
    np.testing.assert_array_equal(sample["behaviors"][: len(behaviors)], behaviors)
    assert (sample["behaviors"][len(behaviors) :] == -1).all()


def test_blocks_bring_the_rows_of_the_log(log, tmp_path):
    fuxictr_loader = _of("fuxictr", "_input_fuxictr")
    rows = rows_of(log)
    fuxictr_loader.write_blocks(rows, tmp_path / "blocks")
    epoch = list(
        islice(fuxictr_loader.batches(tmp_path / "blocks", 100, 0), GROUPS * PER_GROUP // 100)
    )
    ids_BF = np.concatenate([[batch[name].numpy() for name in COLUMNS] for batch in epoch], axis=1)
    np.testing.assert_array_equal(_sorted_rows(ids_BF.T), _sorted_rows(rows.ids_BF + 1))
    real = sum(int((batch["behaviors"] > 0).sum()) for batch in epoch)
    assert real == PER_GROUP * len(log.train.behavior_item_H)


def _of(package: str, module: str):
    pytest.importorskip(package, reason=f"{package} is not installed; it is a rival, not a need")
    return __import__(f"benchmarks.{module}", fromlist=[module])


def _sorted_rows(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T)]


def test_what_lay_ready_is_not_counted(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(_input_turns.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(_input_turns, "cpu_seconds", lambda: 2.0 * next(clock))
    taken = []

    def batches():
        for number in range(1000):
            taken.append(number)
            yield 1000 if number < 4 else 1

    turns = take_turns({"some": [Loader("", batches, ahead=3)]}, rounds=1, seconds=5)
    (pace,) = turns.paces["some"]
    assert len(taken) > 4
    assert pace.per_second < 1
    assert pace.per_cpu_second < 1


@pytest.mark.parametrize("wrong", ["--batch_size=5", "--rival_groups=500000", "--rounds=0"])
def test_impossible_sizes_are_wrong_usage(wrong):
    done = run_benchmark(wrong)
    assert done.returncode == 2
    assert "needs" in done.stderr


def test_help_has_an_example():
    assert "example:\n  python -m benchmarks.input --hm=" in run_benchmark("--help").stdout
