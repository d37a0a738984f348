"""The search command: trials that train, go on, fail; the best of them; mistakes.

Most tests replace training by a formula in the settings, so that what is asked of Optuna and what
is made of it can be seen in moments.
"""

import json
import math
import re
import shlex
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from dicm_jax import search as search_command
from dicm_jax.cli import run_command
from dicm_jax.command_line import parse_command_line
from dicm_jax.config_file import load_config
from dicm_jax.errors import ConfigError
from dicm_jax.search import search
from dicm_jax.searches import trials
from dicm_jax.searches.search_file import load_search
from dicm_jax.studies.cells import Cell
from dicm_jax.studies.runner import Runner
from dicm_jax.train import PreemptedError
from dicm_jax.whole_files import write_json

ROOT = Path(__file__).parents[1]
BASE = str(ROOT / "configs/dicm.py")
TINY = {
    "data.world.items": 400,
    "data.world.users": 150,
    "data.world.content_width": 37,
    "data.world.train_days": 4,
    "data.world.test_days": 2,
    "model.compressor_widths": (16, 8, 12),
    "model.attention_widths": (8, 4),
    "model.head_widths": (16, 8),
    "train.batch_size": 64,
    "train.steps": 3,
    "evaluate.batch_size": 256,
}
HELD_OUT = {"data.validation_share": 0.2, "evaluate.split": "validation", "train.baseline": False}
RATE = 'trial.suggest_float("rate", 1e-4, 1e-2, log=True)'


def search_file(folder: Path, suggest: str = "", more: str = "", name: str = "tiny") -> str:
    """A search file whose ``suggest`` returns `suggest`, with `more` keys."""
    suggest = suggest or f'{{"optimizer.learning_rate": {RATE}}}'
    path = folder / f"{name}.py"
    path.write_text(
        f"def suggest(trial):\n    return {suggest}\n\n\n"
        "def get_config():\n"
        f"    return {{'base': {BASE!r}, 'settings': {TINY | HELD_OUT!r},\n"
        f"            'suggest': suggest, {more}}}\n"
    )
    return str(path)


class Formula(Runner):
    """Stands for training: the score is a formula in the learning rate, best at 1e-3.

    Args:
      stop_at: the run, of those of this object, in which SIGTERM comes.
    """

    def __init__(self, stop_at: int | None = None):
        self.runs, self.stop_at = 0, stop_at

    def run(self, cell: Cell) -> None:
        self.runs += 1
        write_json(cell.folder / "config.json", {})
        if self.runs == self.stop_at:
            raise PreemptedError
        rate = cell.config.optimizer.learning_rate
        score = 0.8 - 0.01 * abs(math.log10(rate / 1e-3))
        write_json(cell.folder / "result.json", {"gauc": score, "logloss": 1 - score})


@pytest.fixture
def formula(monkeypatch) -> Formula:
    """Trials of the test are scored by a formula."""
    made = Formula()
    monkeypatch.setattr(search_command, "Runner", lambda preemption: made)
    return made


def last_line(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def rates(workdir: Path) -> dict[int, float]:
    """What was suggested, by number of a trial that was not cut short."""
    storage = JournalStorage(JournalFileBackend(str(workdir / "journal.log")))
    study = optuna.load_study(study_name="search", storage=storage)
    return {trial.number: trial.params["rate"] for trial in trials.finished(study)}


# ---- Real trials


def test_trials_train_fail_and_go_on(tmp_path, capsys):
    """The second trial's rate leads to NaN; the first is a run like any."""
    rate = f"1e30 if trial.number == 1 else {RATE}"
    path = search_file(tmp_path, f'{{"optimizer.learning_rate": {rate}}}')
    workdir = tmp_path / "search"
    assert search(path, workdir, trials=1) == 0
    first = last_line(capsys)
    assert (first["search"], first["trials"], first["failed"]) == ("tiny", 1, 0)
    result = json.loads((workdir / "trials/0/result.json").read_text())
    assert first["gauc"] == result["gauc"]
    config = json.loads((workdir / "trials/0/config.json").read_text())
    assert config["optimizer"]["learning_rate"] == first["best"]["optimizer.learning_rate"]
    assert (workdir / "trials/0/checkpoints").is_dir()

    assert search(path, workdir, trials=2) == 0
    printed = capsys.readouterr()
    assert re.search(r"trial 1 failed: .*NaN or infinity", printed.err)
    assert json.loads(printed.out.splitlines()[-1]) == first | {"trials": 2, "failed": 1}
    assert json.loads((workdir / "trials/0/result.json").read_text()) == result, "trained again"


# ---- What is suggested, and what is best


@pytest.mark.parametrize("objective", ["gauc", "logloss"])
def test_the_best_trial_is_that_with_the_best_score(tmp_path, capsys, formula, objective):
    path = search_file(tmp_path, more=f"'objective': {objective!r}")
    assert search(path, tmp_path / "search", trials=12) == 0
    line = last_line(capsys)
    nearest = min(
        rates(tmp_path / "search").values(), key=lambda rate: abs(math.log10(rate / 1e-3))
    )
    assert line["best"] == {"optimizer.learning_rate": nearest}
    saved = json.loads((tmp_path / "search/best.json").read_text())
    assert saved["settings"] == line["best"]
    assert saved[objective] == line[objective]


def test_a_search_cut_short_equals_one_in_peace(tmp_path, capsys, monkeypatch):
    """SIGTERM in the third trial; then the same command, to the end."""
    path = search_file(tmp_path)
    monkeypatch.setattr(search_command, "Runner", lambda preemption: Formula())
    assert search(path, tmp_path / "peace", trials=6) == 0
    in_peace = last_line(capsys)
    monkeypatch.setattr(search_command, "Runner", lambda preemption: Formula(stop_at=3))
    assert search(path, tmp_path / "cut", trials=6) == 75
    assert "run the same command again to go on" in capsys.readouterr().err
    monkeypatch.setattr(search_command, "Runner", lambda preemption: Formula(stop_at=1))
    assert search(path, tmp_path / "cut", trials=6) == 75
    monkeypatch.setattr(search_command, "Runner", lambda preemption: Formula())
    assert search(path, tmp_path / "cut", trials=6) == 0
    assert last_line(capsys) == in_peace
    assert in_peace["failed"] == 0
    assert list(rates(tmp_path / "cut").values()) == list(rates(tmp_path / "peace").values())
    assert (tmp_path / "cut/trials/2/result.json").exists(), "not in the folder it began in"
    assert not (tmp_path / "cut/trials/3").exists(), "a folder of its own for a trial gone on with"


def test_trials_differ_from_one_another_and_between_seeds(tmp_path, formula):
    search(search_file(tmp_path), tmp_path / "one", trials=4)
    search(search_file(tmp_path, more="'seed': 100"), tmp_path / "other", trials=4)
    found = [*rates(tmp_path / "one").values(), *rates(tmp_path / "other").values()]
    assert len(set(found)) == 8


def test_a_search_with_enough_trials_runs_none(tmp_path, capsys, formula):
    path = search_file(tmp_path)
    search(path, tmp_path / "search", trials=3)
    first = last_line(capsys)
    assert search(path, tmp_path / "search", trials=2) == 0
    assert last_line(capsys) == first
    assert formula.runs == 3


def test_a_value_that_its_setting_cannot_have_fails_the_trial_alone(tmp_path, capsys, formula):
    suggest = f'{{"optimizer.learning_rate": -1.0 if trial.number == 0 else {RATE}}}'
    assert search(search_file(tmp_path, suggest), tmp_path / "search", trials=2) == 0
    printed = capsys.readouterr()
    assert "trial 0 failed" in printed.err
    assert "optimizer.learning_rate must be above 0" in printed.err
    assert json.loads(printed.out.splitlines()[-1])["failed"] == 1


def test_a_search_in_which_all_fail_says_so(tmp_path, capsys, formula):
    path = search_file(tmp_path, '{"optimizer.learning_rate": -1.0}')
    assert search(path, tmp_path / "search", trials=2) == 1
    line = last_line(capsys)
    assert line == {"search": "tiny", "trials": 2, "failed": 2, "best": None, "gauc": None}
    assert not (tmp_path / "search/best.json").exists()


# ---- The command that comes out


def test_the_printed_command_trains_with_the_best_settings_and_scores_on_test(
    tmp_path, capsys, formula
):
    suggest = (
        f'{{"optimizer.learning_rate": {RATE}, "model.query_fields": "category",'
        ' "model.attention_widths": trial.suggest_categorical("widths", ["9,3"]),'
        ' "optimizer.id_learning_rate": None, "model.match": True}'
    )
    search(search_file(tmp_path, suggest), tmp_path / "search", trials=1)
    *_, command, result = capsys.readouterr().out.splitlines()
    assert json.loads((tmp_path / "search/best.json").read_text())["command"] == command
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "dicm_jax.train"]
    line = parse_command_line(words[3:])
    config = load_config(line.path, line.overrides)
    best = json.loads(result)["best"]
    assert config.optimizer.learning_rate == best["optimizer.learning_rate"]
    assert config.model.attention_widths == (9, 3)
    assert config.model.query_fields == ("category",)
    assert config.optimizer.id_learning_rate is None
    assert config.model.match
    assert config.data.world.items == TINY["data.world.items"]
    assert (config.evaluate.split, config.data.validation_share) == ("test", 0)


def test_the_printed_command_keeps_what_early_stopping_needs(tmp_path):
    asked = load_search(search_file(tmp_path), ["evaluate.every=5", "train.patience=2"])
    command = asked.command({"optimizer.learning_rate": 0.1}, tmp_path)
    line = parse_command_line(shlex.split(command)[3:])
    config = load_config(line.path, line.overrides)
    assert config.data.validation_share == HELD_OUT["data.validation_share"]
    assert config.evaluate.split == "test"


def test_the_printed_command_moves_the_cut_back(tmp_path):
    more = ["data.kind=hm", "data.path=folder", "data.validation_days=28"]
    more += ["evaluate.split=test", "data.validation_share=0"]
    asked = load_search(search_file(tmp_path), more)
    line = parse_command_line(shlex.split(asked.command({}, tmp_path))[3:])
    assert load_config(line.path, line.overrides).data.validation_days == 0


def test_the_example_can_be_read_and_suggests():
    asked = load_search(str(ROOT / "configs/search/dicm.py"))
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    config, typed = asked.with_suggested(asked.suggested(trial))
    assert config.evaluate.split == "validation"
    assert typed["model.attention_widths"] == config.model.attention_widths


# ---- Mistakes


@pytest.mark.parametrize(
    ("suggest", "more", "overrides", "message"),
    [
        ("", "", ["evaluate.split=test"], r"judged on the test split.*set data.validation_share"),
        ("", "", ["evaluate.split=test", "data.validation_days=7"], "judged on the test split"),
        ("", "", ["data.validation_share=0"], "nothing is held out to judge trials on"),
        ("", "'objectiv': 'auc'", [], "no key 'objectiv'; did you mean 'objective'"),
        ("", "'objective': 'loss'", [], "'loss' is no score of a run; use one of gauc, auc"),
        ("", "'seed': -1", [], "seed=-1 must be a whole number"),
        ("", "'suggest': 3", [], "suggest=3 is no function"),
        ("", "'base': None", [], "base=None; name the config file"),
        ("", "", ["optimizer.learning_rat=1"], "did you mean optimizer.learning_rate"),
        (
            '{"train.learning_rate": 1e-3}',
            "",
            [],
            r"tiny.py: suggest\(\): there is no key train.learning_rate; did you mean.*optimizer",
        ),
        ('{"data.seed": 1}', "", [], "sets data.seed=1, which changes what trials are judged on"),
        ('{"evaluate.split": "test"}', "", [], "sets evaluate.split='test', which changes what"),
        ("{}", "", [], r"suggest\(\) returned \{\}; return settings by dotted name"),
        ("[][1]", "", [], r"suggest\(\) raised IndexError: list index out of range; mend the file"),
    ],
)
def test_a_mistake_in_the_file_ends_with_one_message(
    tmp_path, capsys, formula, suggest, more, overrides, message
):
    path = search_file(tmp_path, suggest, more)

    def command() -> int:
        return search(path, tmp_path / "search", 2, overrides)

    assert run_command(command, debug=False) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(message, error), error
    assert formula.runs == 0


def test_a_mended_file_goes_on_without_a_trial_lost(tmp_path, capsys, formula):
    workdir = tmp_path / "search"
    with pytest.raises(ConfigError, match=r"there is no key model\.depth"):
        search(search_file(tmp_path, '{"model.depth": 3}'), workdir, trials=2)
    assert search(search_file(tmp_path), workdir, trials=2) == 0
    line = last_line(capsys)
    assert (line["trials"], line["failed"], formula.runs) == (2, 0, 2)


def test_no_trials_at_all_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--trials=0: a search has at least one trial"):
        search(search_file(tmp_path), tmp_path / "search", trials=0)


@pytest.mark.parametrize(
    ("more", "name", "overrides", "message"),
    [
        ("", "other", [], "search was 'tiny', is 'other'"),
        ("'objective': 'auc'", "tiny", [], "objective was 'gauc', is 'auc'"),
        ("", "tiny", ["model.normalizer=softmax"], "model.normalizer was 'none', is 'softmax'"),
        ("", "tiny", ["train.steps=4"], "train.steps was 3, is 4"),
    ],
)
def test_the_folder_of_another_search_is_refused(tmp_path, formula, more, name, overrides, message):
    search(search_file(tmp_path), tmp_path / "search", trials=1)
    other = search_file(tmp_path, more=more, name=name)
    with pytest.raises(ConfigError, match=rf"holds another search \({message}\).*another folder"):
        search(other, tmp_path / "search", 2, overrides)


@pytest.mark.parametrize("file", ["config.json", "study.json", "trials"])
def test_the_folder_of_something_else_is_refused(tmp_path, file):
    (tmp_path / file).write_text("{}")
    with pytest.raises(ConfigError, match=f"it has {file} and no journal.log"):
        search(search_file(tmp_path), tmp_path, trials=1)


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    with pytest.raises(ConfigError, match="localhost:1: a search runs in one process"):
        search(search_file(tmp_path), tmp_path / "search", trials=1)


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "dicm_jax.searches.trials")
    with pytest.raises(ConfigError, match=r"needs Optuna.*pip install 'dicm-jax\[search\]'"):
        search(search_file(tmp_path), tmp_path / "search", trials=1)


def test_help_shows_an_example(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["search", "--help"])
    with pytest.raises(SystemExit) as caught:
        search_command.main()
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "python -m dicm_jax.search --config=configs/search/dicm.py" in shown
