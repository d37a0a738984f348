"""The daily command: chains of days, promotion and refusal, kills, mistakes."""

import fcntl
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicm_jax import daily as command
from dicm_jax.checkpoint.restore import restore_run
from dicm_jax.checkpoint.surgery.stored import open_arrays
from dicm_jax.cli import DONE, PREEMPTED, run_command
from dicm_jax.daily import REFUSED, daily
from dicm_jax.data.readers import read_log
from dicm_jax.evaluate import evaluate
from dicm_jax.training import assemble
from dicm_jax.training.evaluation import predictor, score_split
from dicm_jax.training.preemption import Preemption
from dicm_jax.updates import lineage
from dicm_jax.updates.daily_file import load_day
from dicm_jax.updates.lineage import Lineage

ROOT = Path(__file__).parents[1]
FILE = str(ROOT / "configs/daily/synthetic.py")
SMALL = (
    "data.world.items=400",
    "data.world.users=150",
    "data.world.content_width=37",
    "data.world.train_days=4",
    "model.compressor_widths=16,8,12",
    "model.attention_widths=8,4",
    "model.head_widths=16,8",
    "train.batch_size=64",
    "train.epochs=1",
    "train.log_every=2",
    "evaluate.batch_size=256",
    "checkpoint.every=5",
    "rule.min_impressions=50",
    "rule.allowed_gauc_drop=0.9",
    "rule.allowed_logloss_rise=9",
)
"""Days of seconds, which are promoted however they turn out."""
STRICT = "rule.allowed_gauc_drop=-0.9"
"""No day gains that much."""


def _run(line: Path, day: str, *more: str, **options: bool) -> int:
    return daily(FILE, line, day, [*SMALL, *more], **options)


def _entry(line: Path, day: str) -> dict[str, Any]:
    found = lineage.load(line).entry(day)
    assert found is not None
    return found


def _arrays(line: Path, day: str) -> dict[str, np.ndarray]:
    """Every array of the checkpoint that a day came to."""
    of = _entry(line, day)["checkpoint"]
    state = line / day / of["folder"] / str(of["step"]) / "state"
    return {
        name: array.read(tuple(slice(0, size) for size in array.shape))
        for name, array in open_arrays(state).items()
    }


@pytest.fixture(scope="module", name="first")
def _first(tmp_path_factory) -> Path:
    """A line of one day."""
    line = tmp_path_factory.mktemp("first") / "line"
    assert _run(line, "day-0") == DONE
    return line


@pytest.fixture(scope="module", name="line")
def _line(first, tmp_path_factory) -> Path:
    """Three days, the second of them refused."""
    line = tmp_path_factory.mktemp("three") / "line"
    shutil.copytree(first, line)
    assert _run(line, "day-1", STRICT) == DONE
    assert _run(line, "day-2") == DONE
    return line


def test_a_refused_day_is_passed_over(line):
    days = lineage.load(line)
    assert [(entry["day"], entry["parent"]) for entry in days.days] == [
        ("day-0", None),
        ("day-1", "day-0"),
        ("day-2", "day-0"),
    ]
    assert [entry["decision"]["promoted"] for entry in days.days] == [True, False, True]
    assert days.current == "day-2"
    refusal = _entry(line, "day-1")["decision"]["words"]
    assert refusal.startswith("refused: not GAUC")
    assert "before - -0.9" in refusal


def test_before_is_the_parents_whole_model_on_todays_impressions(line):
    """The parent's own restored state, ID rows and all, gives the same scores."""
    log = read_log(load_day(FILE, "day-2", SMALL).config.data)
    run = restore_run(line / "day-0")
    today = assemble.start_job(run.job.config, log, run.job.roles)
    expected = score_split(log.test, predictor(today, "test", run.model)(run.state))
    before = _entry(line, "day-2")["before"]
    assert before["impressions"] == log.test.n_impressions
    assert before["gauc"] == pytest.approx(expected.gauc, abs=1e-9)
    assert before["logloss"] == pytest.approx(expected.logloss, abs=1e-9)


def test_after_is_what_evaluate_says_of_the_days_folder(line, capsys):
    assert evaluate(line / "day-2", None, "test") == DONE
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    after = _entry(line, "day-2")["after"]
    assert found["gauc"] == pytest.approx(after["gauc"], abs=1e-9)
    assert found["impressions"] == after["impressions"]


def test_an_entry_tells_what_a_day_was_made_of(line):
    log = read_log(load_day(FILE, "day-2", SMALL).config.data)
    entry = _entry(line, "day-2")
    assert entry["changed"] == {"data.world.unseen_days": {"was": 20, "is": 18}}
    assert entry["log"]["train_impressions"] == log.train.n_impressions
    assert entry["log"]["vocabularies"] == log.vocabulary_sizes
    assert entry["warm_up"]["parts"] == "partial"
    assert entry["warm_up"]["counts"]["restored"] > 10
    assert entry["settings"]["rule.min_impressions"] == 50
    assert entry["started"] <= entry["ended"]
    assert _entry(line, "day-0")["warm_up"] is None
    assert _entry(line, "day-0")["before"] is None


def test_a_decided_day_is_left_as_it_is(line, capsys, monkeypatch):
    before = (line / lineage.NAME).read_bytes()
    monkeypatch.setattr(command, "fit", None)  # nothing is trained
    assert _run(line, "day-1", STRICT) == DONE
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "day-1 has been decided before; nothing was done"
    last = json.loads(said[-1])
    assert (last["day"], last["promoted"], last["current"]) == ("day-1", False, "day-2")
    assert _run(line, "day-1", STRICT, fail_on_refusal=True) == REFUSED
    assert _run(line, "day-2", fail_on_refusal=True) == DONE
    assert (line / lineage.NAME).read_bytes() == before


def test_a_day_killed_again_and_again_ends_like_one_in_peace(first, line, tmp_path, monkeypatch):
    """Killed before the first step, asked to stop at a step, killed before the entry is written."""
    hurt = tmp_path / "line"
    shutil.copytree(first, hurt)
    untouched = (hurt / lineage.NAME).read_bytes()

    def die(*_: Any, **__: Any) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(command, "fit", die)
        with pytest.raises(SystemExit):
            _run(hurt, "day-2")
    with monkeypatch.context() as patch:
        asked = iter([False] * 12)
        stop = property(lambda _: next(asked, True), lambda *_: None)
        patch.setattr(Preemption, "asked", stop, raising=False)
        assert _run(hurt, "day-2") == PREEMPTED
    steps = [int(path.name) for path in (hurt / "day-2/checkpoints").glob("[0-9]*")]
    assert 0 < max(steps) < _entry(line, "day-2")["steps"]
    with monkeypatch.context() as patch:
        patch.setattr(Lineage, "save", die)
        with pytest.raises(SystemExit):
            _run(hurt, "day-2")
    assert (hurt / lineage.NAME).read_bytes() == untouched
    assert _run(hurt, "day-2") == DONE
    found, expected = _entry(hurt, "day-2"), _entry(line, "day-2")
    for name in ("parent", "settings", "changed", "log", "warm_up", "before", "after", "steps"):
        assert found[name] == expected[name], name
    assert len(lineage.load(hurt).days) == 2
    in_peace = _arrays(line, "day-2")
    assert len(in_peace) > 50
    for name, array in _arrays(hurt, "day-2").items():
        np.testing.assert_array_equal(array, in_peace[name], err_msg=name)


def _message(capsys, line: Path, day: str, *more: str) -> str:
    """What a command that fails says."""
    capsys.readouterr()
    assert run_command(lambda: _run(line, day, *more), debug=False) == 1
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    return error


def test_other_settings_for_a_decided_day_are_refused(line, capsys):
    error = _message(capsys, line, "day-2", "train.epochs=2", "rule.min_impressions=60")
    assert "has been decided with other settings: rule.min_impressions was 50, is 60" in error
    assert "train.epochs was 1, is 2. Give the day another name" in error


def test_a_day_goes_on_only_as_it_was_begun(first, tmp_path, capsys, monkeypatch):
    begun = tmp_path / "line"
    shutil.copytree(first, begun)
    monkeypatch.setattr(command, "read_log", lambda _: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        _run(begun, "day-1")
    error = _message(capsys, begun, "day-1", "train.seed=4")
    assert "--day=day-1 was begun otherwise: train.seed was 0, is 4. Run the command that" in error
    path = begun / "day-1/day.json"
    path.write_bytes(path.read_bytes().replace(b"day-0", b"day-9"))
    assert "day.json: altered since it was written" in _message(capsys, begun, "day-1")


def test_a_folder_of_something_else_is_no_day(first, tmp_path, capsys):
    line = tmp_path / "line"
    shutil.copytree(first, line)
    (line / "day-1").mkdir()
    (line / "day-1/config.json").write_text("{}")
    error = _message(capsys, line, "day-1")
    assert re.search(r"--day=day-1: .*day-1 is the folder of a run that is no day of a line", error)


def test_a_parent_that_is_gone_or_damaged_is_named(first, tmp_path, capsys):
    line = tmp_path / "line"
    shutil.copytree(first, line)
    step = next((line / "day-0/checkpoints").glob("[0-9]*"))
    file = max((step / "state").rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert f"{file.name} was altered since it was written" in _message(capsys, line, "day-1")
    shutil.rmtree(step)
    assert "the current run of the line is 'day-0', and its" in _message(capsys, line, "day-1")
    assert not (line / "day-1/checkpoints").exists()


def test_an_altered_lineage_is_refused(first, tmp_path, capsys):
    line = tmp_path / "line"
    shutil.copytree(first, line)
    path = line / lineage.NAME
    path.write_bytes(path.read_bytes().replace(b'"promoted": true', b'"promoted": 1   '))
    assert "lineage.json: altered since it was written" in _message(capsys, line, "day-1")


def test_a_line_of_another_model_is_refused(first, tmp_path, capsys):
    line = tmp_path / "line"
    shutil.copytree(first, line)
    error = _message(capsys, line, "day-1", "model.head_widths=20,8")
    assert "has shape (16,), of this model (20,); make the sizes of the two models equal" in error
    assert lineage.load(line).current == "day-0"


def test_two_at_once_is_an_error(first, capsys):
    with (first / ".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        error = _message(capsys, first, "day-0")
    assert "another command is updating this line; let it end" in error


def test_a_challenger_of_another_model_is_judged_beside_its_parents_own(
    first, line, tmp_path, capsys, monkeypatch
):
    copy = tmp_path / "line"
    shutil.copytree(first, copy)
    trained = []

    def fit(config: Any, *_: Any) -> None:
        trained.append(config)
        raise SystemExit

    monkeypatch.setattr(command, "fit", fit)
    with pytest.raises(SystemExit):
        _run(copy, "day-2", "model.head_widths=20,8", "checkpoint.warm_parts=none")
    assert trained[0].model.head_widths == (20, 8)
    before = _entry(line, "day-2")["before"]["gauc"]
    assert f"the parent, day-0, on day-2: GAUC {before:.4f}" in capsys.readouterr().out


def test_help_has_an_example(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["daily", "--help"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    assert "example:\n  python -m dicm_jax.daily --config=" in capsys.readouterr().out
