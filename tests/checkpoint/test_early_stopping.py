"""Early stopping: the rule, and runs that stop, are killed, go on and take their best step."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from dicm_jax.checkpoint.early_stopping import Patience, best_step, is_over
from dicm_jax.checkpoint.locate import trained
from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.checkpoint.restore import restore_run
from dicm_jax.checkpoint.run_folder import config_of
from dicm_jax.data.readers import read_log
from dicm_jax.errors import DataError
from dicm_jax.evaluate import evaluate
from dicm_jax.train import train
from tests import small_world
from tests.test_train import SMALL

ROOT = Path(__file__).parents[2]
STOPPING = (
    *SMALL,
    "data.validation_share=0.25",
    "evaluate.every=3",
    "train.patience=2",
    "train.epochs=40",
    "optimizer.learning_rate=0.05",
    "checkpoint.every=2",
)
"""Learns so fast that it soon overfits."""


def run(workdir: Path, *more: str) -> dict:
    assert train(str(ROOT / "configs/dicm.py"), workdir, [*STOPPING, *more]) == 0
    return json.loads((workdir / "result.json").read_text())


def events(workdir: Path) -> list[dict]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "eval"]


@pytest.fixture(scope="module", name="stopped")
def _stopped(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("stopped")
    run(workdir)
    return workdir


def test_it_stops_after_two_evaluations_without_a_better_one(stopped):
    result = json.loads((stopped / "result.json").read_text())
    seen = [(e["step"], e["gauc"]) for e in events(stopped) if e["split"] == "validation"]
    assert result["steps"] == seen[-1][0] == result["best_step"] + 6
    assert result["best_step"] == max(seen, key=lambda pair: pair[1])[0]
    assert [step for step, _ in seen] == list(range(3, result["steps"] + 1, 3))


def test_the_result_is_that_of_the_best_step_on_the_test_split(stopped, capsys):
    result = json.loads((stopped / "result.json").read_text())
    restored = restore_run(stopped)
    assert restored.step == int(restored.state.step) == result["best_step"]
    assert evaluate(stopped, None, "test") == 0
    scored = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert scored["gauc"] == pytest.approx(result["gauc"], abs=1e-9)
    last = events(stopped)[-1]
    assert (last["split"], last["step"]) == ("test", result["best_step"])


def test_a_run_cut_short_goes_on_to_the_same_end(stopped, tmp_path):
    run(tmp_path, "train.steps=4")
    result = run(tmp_path)
    straight = json.loads((stopped / "result.json").read_text())
    assert {k: result[k] for k in ("gauc", "steps", "best_step")} == {
        k: straight[k] for k in ("gauc", "steps", "best_step")
    }
    ours, theirs = restore_run(tmp_path), restore_run(stopped)
    jax.tree.map(np.testing.assert_array_equal, ours.state.params, theirs.state.params)


def test_run_again_a_stopped_run_stays_where_it_is(stopped):
    before = json.loads((stopped / "result.json").read_text())
    after = run(stopped)
    assert (after["gauc"], after["steps"]) == (before["gauc"], before["steps"])


def test_the_rule():
    rising = [(1, 0.5), (2, 0.6), (3, 0.7)]
    assert not is_over([], 1)
    assert not is_over(rising, 1)
    assert best_step([*rising, (4, 0.7)]) == 3
    assert is_over([*rising, (4, 0.7)], 1)
    assert not is_over([*rising, (4, 0.7)], 2)


def test_notes_come_back_with_a_checkpoint(stopped):
    with Checkpoints(stopped / "checkpoints", keep=2, settings={}) as checkpoints:
        newest = checkpoints.latest()
        assert newest is not None
        assert checkpoints.notes(newest)["evaluations"][-1][0] == newest


def test_the_validation_split_is_no_part_of_train(stopped):
    log = read_log(config_of(stopped).data)
    assert log.validation is not None
    assert log.split("validation").n_groups > 0


def test_a_run_that_was_never_evaluated_ends_with_its_last_step(tmp_path):
    run(tmp_path, "train.epochs=1", "train.steps=2", "evaluate.every=50")
    assert restore_run(tmp_path).step == 2


def test_the_best_step_may_be_asked_for_by_its_number(stopped):
    best = json.loads((stopped / "result.json").read_text())["best_step"]
    assert restore_run(stopped, best).step == best
    with Checkpoints(stopped / "checkpoints", keep=2, settings={}) as checkpoints:
        newest = checkpoints.latest()
    assert restore_run(stopped, newest).step == newest


def test_what_a_run_ends_with_is_its_best_where_there_is_one(tmp_path):
    (tmp_path / "checkpoints/12").mkdir(parents=True)
    (tmp_path / "best/9.orbax-checkpoint-tmp").mkdir(parents=True)
    assert trained(tmp_path) == tmp_path / "checkpoints"
    (tmp_path / "best/9").mkdir()
    assert trained(tmp_path) == tmp_path / "best"


def test_a_best_step_of_an_earlier_try_does_not_stand_in_the_way(tmp_path):
    """The earlier try was killed after step 6 and goes on from step 2, to end before step 6."""
    world = small_world.run(1, 1)
    with Checkpoints(tmp_path, keep=1, settings={}) as best:
        Patience(2, best, {}).add(6, 0.7, world.state)
    with Checkpoints(tmp_path, keep=1, settings={}) as best:
        best.forget_after(2)
        again = Patience(2, best, {})
        again.add(3, 0.6, world.state)
        again.add(5, 0.5, world.state)
        step, state = again.chosen(5, world.state)
    assert step == 3
    jax.tree.map(np.testing.assert_array_equal, state.params, world.state.params)


def test_a_best_step_is_on_disk_before_a_checkpoint_can_speak_of_it(tmp_path):
    state = small_world.run(1, 1).state
    with Checkpoints(tmp_path, keep=1, settings={}) as best:
        stopping = Patience(2, best, {})
        for step, gauc in ((3, 0.6), (6, 0.5), (9, 0.7)):
            stopping.add(step, gauc, state)
            assert (tmp_path / str(best_step(stopping.notes["evaluations"]))).is_dir(), step


def test_a_split_without_a_gauc_cannot_tell_when_to_stop(tmp_path):
    with Checkpoints(tmp_path, keep=1, settings={}) as best:
        stopping = Patience(2, best, {})
        with pytest.raises(DataError, match=r"GAUC is undefined on the validation .*hold out more"):
            stopping.add(3, float("nan"), small_world.run(1, 1).state)
        assert not stopping.evaluations
