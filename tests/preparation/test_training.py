"""From a log to a prepared set to a trained model, by the two commands."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dicm_jax.errors import ConfigError, DataError
from dicm_jax.prepare import main, prepare
from dicm_jax.train import train
from tests.preparation import small_log

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/dicm.py")
SMALL = (
    "model.compressor_widths=16,8,12",
    "model.attention_widths=8,4",
    "model.head_widths=16,8",
    "train.batch_size=64",
    "train.steps=3",
    "train.log_every=1",
    "train.baseline=false",
    "evaluate.batch_size=256",
)
WORLD = (
    "data.world.items=400",
    "data.world.users=150",
    "data.world.content_width=37",
    "data.world.train_days=4",
    "data.world.test_days=2",
)


def _run(workdir, *overrides):
    assert train(CONFIG, workdir, [*SMALL, *overrides]) == 0
    result = json.loads((workdir / "result.json").read_text())
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert len(losses) == 3
    scores = ("gauc", "auc", "logloss", "oracle_gauc")
    return losses, {name: result[name] for name in scores if name in result}


def _config(folder, **values):
    path = folder / "config.py"
    path.write_text(f"def get_config():\n    return {values!r}\n")
    return str(path)


def test_a_log_of_a_reader_trains_alike_from_its_set(tmp_path):
    """The built-in world: the same losses and scores to the last bit, the best possible one too."""
    config = _config(tmp_path, source="reader", output={"shard_groups": 100})
    assert prepare(config, tmp_path / "set", WORLD, "local", []) == 0
    of_set = ("data.kind=prepared", f"data.path={tmp_path / 'set'}")
    direct = _run(tmp_path / "direct", *WORLD)
    assert "oracle_gauc" in direct[1]
    assert _run(tmp_path / "prepared", *of_set) == direct


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory, features):
    """A set made by the command, and what it printed last."""
    folder = tmp_path_factory.mktemp("made")
    log = small_log.write(small_log.tables(51, 900), folder / "log")
    paths: dict[str, dict[str, Any]] = {
        name: {"path": str(log / name)} for name in ("impressions", "behaviors", "users")
    }
    paths["catalogue"] = {
        "path": str(log / "catalogue"),
        "image": "picture",
        "fields": ["category", "brand"],
    }
    paths["users"]["fields"] = ["age", "city"]
    config = _config(
        folder,
        **paths,
        split={"test_from": "2020-02-01"},
        features=str(features),
        policy={"now": "2021-01-01"},
    )
    return config, folder / "set"


def test_the_command_makes_a_set_and_says_what_is_in_it(made, monkeypatch, capsys):
    config, place = made
    arguments = ["prepare", f"--config={config}", f"--output={place}", "--config.history.most=9"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  impressions rows: 900" in lines
    result = json.loads(lines[-1])
    assert result["set"] == str(place)
    assert result["items"] == small_log.ITEMS
    counts = result["splits"]
    assert counts.keys() == {"train", "test"}
    assert counts["train"]["impressions"] + counts["test"]["impressions"] == 900
    # Again: one message, no traceback, and a code of its own.
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert "already holds a prepared set; name another --output" in capsys.readouterr().err


def test_tables_become_a_set_that_trains_with_its_rows_on_the_host(made, tmp_path):
    config, place = made
    if not place.exists():
        prepare(config, place, ["history.most=9"], "local", [])
    of_set = ("data.kind=prepared", f"data.path={place}", "features.storage=float32")
    losses, scores = _run(tmp_path / "host", *of_set, "features.tier=host")
    assert 0.3 < losses[0] < 1.5
    assert 0.2 < scores["auc"] < 0.8
    message = r"has its rows in float32, features.storage asks for int8: set features.storage='floa"
    with pytest.raises(DataError, match=message):
        train(CONFIG, tmp_path / "int8", [*SMALL, *of_set[:2]])


def test_a_runner_that_does_not_fit(tmp_path):
    config = _config(tmp_path, source="reader")
    with pytest.raises(ConfigError, match="--runner=beam with source='reader': readers read on"):
        prepare(config, tmp_path / "set", [], "beam", [])
    with pytest.raises(ConfigError, match="--beam-option=--x with --runner=local: add --runner=b"):
        prepare(config, tmp_path / "set", [], "local", ["--x"])


def test_help_has_an_example(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["prepare", "--help"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "python -m dicm_jax.prepare --config=configs/prepare/hm.py" in shown
