"""The study command from its file to its report: cells, failures, stops, mistakes."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicm_jax import study as command
from dicm_jax.cli import DONE, FAILED, PREEMPTED, run_command
from dicm_jax.study import study
from dicm_jax.training.preemption import Preemption

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "data.world.items": 300,
    "data.world.users": 120,
    "data.world.content_width": 17,
    "data.world.train_days": 3,
    "data.world.test_days": 2,
    "model.compressor_widths": [8, 12],
    "model.attention_widths": [4],
    "model.head_widths": [8],
    "train.batch_size": 64,
    "train.epochs": 1,
    "train.log_every": 2,
    "evaluate.batch_size": 256,
    "evaluate.every": 5,
    "checkpoint.keep": 1,
}
GRID = {
    "title": "A small study",
    "base": str(ROOT / "configs/dicm.py"),
    "settings": SETTINGS,
    "variants": {
        "without": {"model.images": "none"},
        "broken": {"model.images": "none", "optimizer.learning_rate": 1e30},
    },
    "seeds": [0, 1],
    "seed_settings": ["train.seed", "data.world.seed"],
    "comparisons": [{"variant": "broken", "reference": "without", "text": "It does better."}],
    "curves": ["without"],
}


def _file(folder: Path, **changes: Any) -> str:
    """A study file: `GRID` with `changes`, of which settings are added to those of `GRID`."""
    grid = GRID | changes
    grid["settings"] = SETTINGS | changes.get("settings", {})
    grid["comparisons"] = GRID["comparisons"] if "variants" not in changes else []
    path = folder / "shoes.py"
    path.write_text(f"def get_config():\n    return {grid!r}\n")
    return str(path)


WITHOUT = {"without": {"model.images": "none"}}


def _scores(workdir: Path) -> dict[str, Any]:
    found = json.loads((workdir / "results.json").read_text())
    return {name: of_it["scores"] for name, of_it in found["variants"].items()}


@pytest.fixture(scope="module", name="done")
def _done(tmp_path_factory) -> tuple[Path, dict, str]:
    """A finished study in which one variant fails: its folder, last line, and all it printed."""
    folder = tmp_path_factory.mktemp("study")
    path, printed = _file(folder), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *text, **_: printed.append(" ".join(text)))
        assert study(path, folder / "work", []) == FAILED
    return folder / "work", json.loads(printed[-1]), "\n".join(printed)


def test_a_failed_cell_is_shown_and_stops_no_other(done):
    workdir, last, printed = done
    assert (last["study"], last["cells"], last["failed"]) == ("shoes", 4, 2)
    assert last["variants"]["without"]["seeds"] == 2
    assert last["variants"]["broken"] == {
        "gauc": None,
        "gauc_std": None,
        "auc": None,
        "seeds": 0,
    }
    assert re.search(r"broken/seed-1: step \d+: .* NaN or infinity", printed)
    assert "error: 2 of 4 cells failed: broken/seed-0, broken/seed-1" in printed
    page = (workdir / "report.html").read_text()
    assert "NaN or infinity" in page
    trace = (workdir / "cells/broken/seed-0/traceback.txt").read_text()
    assert trace.startswith("Traceback")
    assert "NonFiniteError" in trace


def test_a_study_leaves_its_files(done):
    workdir, last, printed = done
    table = (workdir / "table.md").read_text()
    assert table in printed
    assert "| without" in table
    assert last["report"] == str(workdir / "report.html")
    cell = workdir / "cells/without/seed-1"
    result = json.loads((cell / "result.json").read_text())
    assert {"gauc", "auc", "segments", "oracle_gauc", "seconds"} <= result.keys()
    probability_B = np.load(cell / "probability.npy")
    assert len(probability_B) == sum(
        result["segments"][name]["impressions"] for name in ("cold items", "warm items")
    )
    config = json.loads((cell / "config.json").read_text())
    assert (config["train"]["seed"], config["data"]["world"]["seed"]) == (1, 1)
    scores = [
        json.loads((workdir / f"cells/without/seed-{s}/result.json").read_text())["gauc"]
        for s in (0, 1)
    ]
    assert last["variants"]["without"]["gauc"] == pytest.approx(np.mean(scores), abs=1e-12)
    assert last["variants"]["without"]["gauc_std"] == pytest.approx(np.std(scores, ddof=1))


def test_a_rerun_tries_only_what_failed(done, tmp_path, monkeypatch):
    workdir = tmp_path / "work"
    shutil.copytree(done[0], workdir)
    before = (workdir / "cells/without/seed-0/result.json").stat().st_mtime_ns
    tried = []
    run = command.Runner.run
    monkeypatch.setattr(
        command.Runner, "run", lambda self, cell: (tried.append(cell.name), run(self, cell))[1]
    )
    assert study(_file(tmp_path), workdir, []) == FAILED
    assert tried == ["broken/seed-0", "broken/seed-1"]
    assert (workdir / "cells/without/seed-0/result.json").stat().st_mtime_ns == before


def test_seeds_may_be_added(done, tmp_path):
    workdir = tmp_path / "work"
    shutil.copytree(done[0], workdir)
    before = _scores(workdir)["without"]
    assert study(_file(tmp_path, seeds=[1, 0, 7], variants=WITHOUT), workdir, []) == DONE
    after = _scores(workdir)["without"]
    assert list(after["gauc"]) == ["1", "0", "7"]
    assert {seed: after["gauc"][seed] for seed in "01"} == before["gauc"]


def test_a_study_that_was_stopped_ends_like_one_in_peace(tmp_path, monkeypatch, capsys):
    path = _file(tmp_path, variants=WITHOUT, settings={"checkpoint.every": 4}, seeds=[0])
    assert study(path, tmp_path / "peace", []) == DONE

    class Impatient(Preemption):
        """Asks for a stop at the 10th look of each start."""

        def __init__(self):
            self.looks = 0

        @property
        def asked(self) -> bool:
            self.looks += 1
            return self.looks >= 10

    with monkeypatch.context() as patch:
        patch.setattr(command, "Preemption", Impatient)
        assert study(path, tmp_path / "stopped", []) == PREEMPTED
    assert "run the same command again to go on" in capsys.readouterr().err
    assert not (tmp_path / "stopped/report.html").exists()
    assert study(path, tmp_path / "stopped", []) == DONE
    assert _scores(tmp_path / "stopped") == _scores(tmp_path / "peace")


def test_report_only_runs_nothing(done, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "_run", lambda *_, **__: pytest.fail("ran a cell"))
    workdir = tmp_path / "work"
    shutil.copytree(done[0], workdir)
    (workdir / "report.html").unlink()
    path = _file(tmp_path, seeds=[0, 1, 2])
    assert study(path, workdir, [], report_only=True) == FAILED  # two cells did
    assert "Not run yet: without/seed-2, broken/seed-2" in capsys.readouterr().out
    assert (workdir / "report.html").exists()


def test_attention_is_kept_and_checkpoints_may_go(tmp_path):
    path = _file(
        tmp_path,
        variants={"joint": {}},
        curves=["joint"],
        settings={"data.world.users": 250},
        seeds=[0],
        attention="joint",
    )
    assert study(path, tmp_path / "work", [], drop_checkpoints=True) == DONE
    assert not list((tmp_path / "work").rglob("checkpoints"))
    pictures = json.loads((tmp_path / "work/cells/joint/seed-0/pictures.json").read_text())
    assert pictures["users"]
    for user in pictures["users"]:
        for impression in user["impressions"]:
            assert list(impression["weights"]) == ["image/image", "image/ids"]
            for weights in impression["weights"].values():
                assert len(weights) == len(user["behaviors"])
                assert np.ptp(weights) > 0
    page = (tmp_path / "work/report.html").read_text()
    assert page.count('class="user"') == len(pictures["users"])
    assert "drawn from the first principal coordinates" in page


@pytest.mark.parametrize("what", ["study", "variant", "run", "nothing"])
def test_a_folder_of_something_else_is_refused(done, tmp_path, capsys, what):
    workdir = tmp_path / "work"
    path, only = _file(tmp_path), False
    if what == "study":
        shutil.copytree(done[0], workdir)
        (workdir / "study.json").write_text('{"study": "hats"}')
        message = "holds the study 'hats', and 'shoes' was asked for; name another folder"
    elif what == "variant":
        shutil.copytree(done[0], workdir)
        path = _file(tmp_path, settings={"train.epochs": 9, "model.head_widths": [4]})
        message = (
            r"without/seed-0 was made by another study: model.head_widths was \[8\], is \[4\];"
            r" train.epochs was 1, is 9. Use another --workdir"
        )
    elif what == "run":
        workdir.mkdir()
        (workdir / "config.json").write_text("{}")
        message = r"is the folder of a run \(it has config.json\), not of a study"
    else:
        only, message = True, "--report-only .*: no cell of the study is done there"
    code = run_command(lambda: study(path, workdir, [], report_only=only), debug=False)
    error = capsys.readouterr().err
    assert code == FAILED
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error), error


def test_several_processes_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    assert run_command(lambda: study(_file(tmp_path), tmp_path / "w", []), debug=False) == FAILED
    assert "a study runs in one process" in capsys.readouterr().err


def test_help_has_an_example(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["study", "--help"])
    with pytest.raises(SystemExit, match="0"):
        command.main()
    assert "python -m dicm_jax.study --config=configs/study/hm.py" in capsys.readouterr().out
