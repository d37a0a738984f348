"""IDs that come, go and get other keys from one prepared set to the next keep their rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from dicm_jax.ams.layout import RowLayout
from dicm_jax.checkpoint.restore import restore_run
from dicm_jax.data.prepared.reader import load
from dicm_jax.data.schema import ClickLog
from dicm_jax.errors import CheckpointError
from dicm_jax.preparation import local
from dicm_jax.train import train
from tests.preparation import small_log
from tests.preparation.test_training import CONFIG, SMALL

STILL = ("optimizer.learning_rate=1e-12", "train.steps=1")
"""A run whose parameters stay where they start."""


@pytest.fixture(name="days", scope="module")
def _days(tmp_path_factory, features) -> tuple[Path, Path]:
    """Prepared sets of two days, of other items, users and values, with some in common."""
    sets = []
    for seed in (51, 52):
        folder = tmp_path_factory.mktemp(f"day{seed}")
        log = small_log.write(small_log.tables(seed, 500), folder / "log")
        settings = small_log.config(log, features)
        local.prepare(settings, folder / "set")
        sets.append(folder / "set")
    return sets[0], sets[1]


def rows_by_id(log: ClickLog, rows_VE: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """The ID row of every value of a vocabulary, found key by key."""
    layout, rows, first = RowLayout(sum(log.vocabulary_sizes.values())), {}, 0
    for name, size in log.vocabulary_sizes.items():
        texts = log.ids[name]().to_pylist() if name in log.ids else [str(k) for k in range(size)]
        for key, text in enumerate(texts):
            rows[name, text] = rows_VE[layout.row(np.array([first + key]))[0]]
        first += size
    return rows


def rows_of(folder: Path, workdir: Path) -> dict[tuple[str, str], np.ndarray]:
    return rows_by_id(load(str(folder)), np.asarray(restore_run(workdir).state.ids["row"]))


def test_rows_go_to_where_their_ids_are_today(days, tmp_path, capsys):
    yesterday, today = days
    of = [
        ["data.kind=prepared", f"data.path={folder}", "features.storage=float32"] for folder in days
    ]
    assert train(CONFIG, tmp_path / "1", [*SMALL, *of[0]]) == 0
    assert train(CONFIG, tmp_path / "new", [*SMALL, *of[1], *STILL]) == 0
    capsys.readouterr()
    warm = [f"checkpoint.warm_start={tmp_path / '1'}", "checkpoint.warm_parts=full"]
    assert train(CONFIG, tmp_path / "2", [*SMALL, *of[1], *STILL, *warm]) == 0
    before, after = rows_of(yesterday, tmp_path / "1"), rows_of(today, tmp_path / "2")
    fresh = rows_of(today, tmp_path / "new")
    known = before.keys() & after.keys()
    assert 10 < len(known) < min(len(after), len(before))
    for name, row in after.items():
        expected = before[name] if name in known else fresh[name]
        np.testing.assert_allclose(row, expected, atol=1e-9, err_msg=str(name))
    told = json.loads((tmp_path / "2" / "warm_start.json").read_text())["rows"]
    assert sum(rows["kept"] for rows in told.values()) == len(known)
    assert sum(rows["new"] for rows in told.values()) == len(after) - len(known)
    assert sum(rows["gone"] for rows in told.values()) == len(before) - len(known)
    assert "kept, " in capsys.readouterr().out

    (tmp_path / "1" / "vocabularies" / "brand.parquet").unlink()
    with pytest.raises(CheckpointError, match=r"brand.parquet: the IDs .* cannot be read"):
        train(CONFIG, tmp_path / "3", [*SMALL, *of[1], *STILL, *warm])
