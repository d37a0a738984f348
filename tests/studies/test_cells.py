"""The folders of a study's cells: which belong to it, and what a cell that starts warm needs."""

from pathlib import Path

import pytest

from dicm_jax.config_file import to_json_dict
from dicm_jax.errors import CheckpointError, ConfigError
from dicm_jax.studies.cells import Cell, cells_of, check_folder
from dicm_jax.studies.runner import Runner
from dicm_jax.studies.study_file import load_study
from dicm_jax.training.preemption import Preemption
from dicm_jax.whole_files import write_json

ROOT = Path(__file__).parents[2]


def _cells(folder: Path, workdir: Path, source: str = "earlier"):
    grid = {
        "base": str(ROOT / "configs/dicm.py"),
        "settings": {"train.steps": 1},
        "variants": {
            "first": {},
            "earlier": {},
            "warm": {"checkpoint.warm_start": f"cell:{source}"},
        },
        "seeds": [3],
    }
    path = folder / "shoes.py"
    path.write_text(f"def get_config():\n    return {grid!r}\n")
    study = load_study(str(path))
    return study, cells_of(study, workdir)


def _written(cells: list[Cell], workdir: Path) -> None:
    write_json(workdir / "study.json", {"study": "shoes"})
    for cell in cells:
        write_json(cell.folder / "config.json", to_json_dict(cell.config))


@pytest.fixture(name="source")
def _source(tmp_path) -> tuple[Cell, Cell]:
    """A cell, and one that starts from it."""
    _, cells = _cells(tmp_path, tmp_path / "work")
    return cells[1], cells[2]


def test_a_folder_is_the_same_however_it_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study, cells = _cells(tmp_path, Path("work"))
    _written(cells, Path("work"))
    again = cells_of(study, tmp_path / "work")
    check_folder(study, again, tmp_path / "work")
    (tmp_path / "work").rename(tmp_path / "moved")
    check_folder(study, cells_of(study, tmp_path / "moved"), tmp_path / "moved")


def test_another_start_is_another_cell(tmp_path):
    _written(_cells(tmp_path, tmp_path / "work")[1], tmp_path / "work")
    study, cells = _cells(tmp_path, tmp_path / "work", source="first")
    message = r"warm_start was 'cells/earlier/seed-3', is 'cells/first/seed-3'. Use another"
    with pytest.raises(ConfigError, match=message):
        check_folder(study, cells, tmp_path / "work")


@pytest.mark.parametrize("has_checkpoints", [True, False])
def test_nothing_starts_from_a_cell_that_is_not_done(source, has_checkpoints):
    """One that failed half way has checkpoints too."""
    earlier, warm = source
    if has_checkpoints:
        (earlier.folder / "checkpoints/5").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"earlier/seed-3, which is not done"):
        warm.check_start()
    Runner(Preemption()).run(warm)
    assert warm.state == "failed"
    assert "run the same command again" in warm.failure()


def test_a_cell_whose_checkpoints_were_dropped_is_told_what_to_do(source):
    earlier, warm = source
    write_json(earlier.folder / "result.json", {})
    with pytest.raises(CheckpointError, match=r"have been deleted .*remove that folder, and the"):
        warm.check_start()
    (earlier.folder / "checkpoints/5").mkdir(parents=True)
    warm.check_start()


def test_a_cell_under_way_needs_its_start_no_more(source):
    earlier, warm = source
    (warm.folder / "checkpoints/2").mkdir(parents=True)
    assert not earlier.folder.exists()
    warm.check_start()
