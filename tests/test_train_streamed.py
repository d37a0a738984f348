"""Training on a prepared set that stays on disk: from its blocks to its result."""

import json
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from dicm_jax.config_file import load_config
from dicm_jax.data.batches import BatchSource, Source
from dicm_jax.data.prepared.from_log import write_log
from dicm_jax.data.readers import read_log
from dicm_jax.data.streaming.source import StreamSource
from dicm_jax.errors import DataError
from dicm_jax.train import train
from dicm_jax.training.assemble import train_source
from dicm_jax.training.planning import Planner

CONFIG = str(Path(__file__).parents[1] / "configs/dicm.py")
WORLD = (
    "data.world.items=400",
    "data.world.users=150",
    "data.world.content_width=37",
    "data.world.train_days=4",
    "data.world.test_days=2",
)
SMALL = (
    "model.compressor_widths=16,8,12",
    "model.attention_widths=8,4",
    "model.head_widths=16,8",
    "features.storage=float32",
    "train.batch_size=64",
    "train.epochs=2",
    "train.log_every=1",
    "train.baseline=false",
    "evaluate.batch_size=256",
)


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "world"
    log = read_log(load_config(CONFIG, WORLD).data)
    write_log(log, folder, block_groups=6, shard_groups=50, storage="float32", settings={})
    return folder


def run(workdir: Path, folder: Path, *more: str) -> dict:
    of_set = ("data.kind=prepared", f"data.path={folder}", "data.stream=true")
    assert train(CONFIG, workdir, [*of_set, "data.window_blocks=2", *SMALL, *more]) == 0
    return json.loads((workdir / "result.json").read_text())


def losses(workdir: Path) -> list[float]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


def arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint."""
    with ocp.CheckpointManager(
        (workdir / "checkpoints").absolute(), item_names=("state", "record")
    ) as manager:
        args = ocp.args.Composite(state=ocp.args.StandardRestore())
        restored = manager.restore(manager.latest_step(), args=args)
    return {name: np.asarray(array) for name, array in restored["state"].items()}


@pytest.fixture(scope="module", name="straight")
def _straight(tmp_path_factory, folder) -> Path:
    """A run of all its epochs."""
    workdir = tmp_path_factory.mktemp("runs") / "straight"
    run(workdir, folder)
    return workdir


def test_a_streamed_set_is_learned_like_one_in_memory(straight, folder, tmp_path):
    streamed = json.loads((straight / "result.json").read_text())
    in_memory = run(tmp_path, folder, "data.stream=false")
    assert streamed["logloss"] == pytest.approx(in_memory["logloss"], abs=0.02)
    n = len(losses(tmp_path)) // 2
    of_last = [np.mean(losses(workdir)[-n:]) for workdir in (straight, tmp_path)]
    assert of_last[0] == pytest.approx(of_last[1], abs=0.02)
    assert losses(straight) != losses(tmp_path)  # another order
    assert streamed["steps"] == pytest.approx(in_memory["steps"], abs=4)


def test_a_run_says_how_long_it_waited_for_input(straight):
    lines = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    shares = [line["input_wait_share"] for line in lines if line["kind"] == "train"]
    shares += [json.loads((straight / "result.json").read_text())["input_wait_share"]]
    assert all(0 <= share < 1 for share in shares)
    assert shares[-1] > 0


def test_a_streamed_run_that_goes_on_equals_the_straight_run(straight, folder, tmp_path):
    run(tmp_path, folder, "train.steps=5")
    run(tmp_path, folder)
    assert losses(tmp_path) == losses(straight)
    equal_bits(arrays(tmp_path), arrays(straight))


def test_a_block_that_cannot_be_read_ends_the_run_and_loses_nothing(
    straight, folder, tmp_path, monkeypatch
):
    read = Planner.read

    def failing(planner, source, batch, own):
        if batch == 5:
            raise DataError("record 3 of split 'train' cannot be read")
        return read(planner, source, batch, own)

    monkeypatch.setattr(Planner, "read", failing)
    with pytest.raises(DataError, match="record 3 of split 'train' cannot be read"):
        run(tmp_path, folder)
    assert losses(tmp_path) == losses(straight)[:5]
    assert not (tmp_path / "result.json").exists()
    monkeypatch.setattr(Planner, "read", read)
    run(tmp_path, folder)
    equal_bits(arrays(tmp_path), arrays(straight))


@pytest.mark.parametrize("stream", ["true", "false"])
def test_the_split_says_where_batches_come_from(folder, stream):
    of_set = ("data.kind=prepared", f"data.path={folder}", f"data.stream={stream}")
    config = load_config(CONFIG, [*of_set, *SMALL, "train.whole_groups=true"])
    source = train_source(config, read_log(config.data))
    assert isinstance(source, StreamSource if stream == "true" else BatchSource)
    assert source.shape.whole_groups
    assert isinstance(source, Source)


def equal_bits(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
