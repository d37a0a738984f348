"""Chains of days: which run starts from which, and what their means are taken over."""

from pathlib import Path
from typing import Any

import pytest

from dicm_jax.errors import ConfigError
from dicm_jax.studies.cells import Cell, cells_of
from dicm_jax.studies.chain import chain
from dicm_jax.studies.results import gather
from dicm_jax.studies.study_file import load_study
from dicm_jax.whole_files import write_json

ROOT = Path(__file__).parents[2]
DAYS = [{"data.world.unseen_days": days} for days in (3, 2, 0)]


def _study(folder: Path, **changes: Any) -> str:
    variants, averages = chain(DAYS)
    given = {
        "base": str(ROOT / "configs/dicm.py"),
        "variants": variants,
        "averages": averages,
        "seeds": [0, 1],
        "reference": "none",
        "comparisons": [{"variant": "full", "reference": "none"}],
    }
    path = folder / "days.py"
    path.write_text(f"def get_config():\n    return {given | changes!r}\n")
    return str(path)


def test_each_way_starts_from_its_own_run_of_the_day_before(tmp_path):
    cells = {cell.name: cell for cell in cells_of(load_study(_study(tmp_path)), tmp_path)}
    starts = {
        name.split("/")[0]: cell.starts_from and cell.starts_from.parent.name
        for name, cell in cells.items()
    }
    assert starts == {
        "first": None,
        "none-1": None,
        "partial-1": "first",
        "full-1": "first",
        "none-2": None,
        "partial-2": "partial-1",
        "full-2": "full-1",
    }
    for name, cell in cells.items():
        number = 0 if name.startswith("first") else int(name.split("/")[0][-1])
        assert cell.config.data.world.unseen_days == DAYS[number]["data.world.unseen_days"]
        if "none" not in name and number:
            assert cell.config.checkpoint.warm_parts == name.split("-")[0]


def _finish(cell: Cell, gauc: float) -> None:
    scores = {"gauc": gauc, "auc": gauc / 2, "logloss": 1 - gauc}
    segments = {"cold items": {"gauc": gauc / 4, "impressions": 5}}
    result = scores | {"oracle_gauc": None, "segments": segments, "seconds": 1.0}
    write_json(cell.folder / "result.json", result)


def test_an_average_is_the_mean_of_its_days_seed_by_seed(tmp_path):
    study = load_study(_study(tmp_path))
    cells = cells_of(study, tmp_path)
    gaucs = {cell.name: 0.5 + 0.01 * number for number, cell in enumerate(cells)}
    for cell in cells:
        if cell.name != "full-2/seed-1":  # not run yet
            _finish(cell, gaucs[cell.name])
    found = gather(study, cells, "command").findings
    assert list(found)[-3:] == ["none", "partial", "full"]
    for way, seeds in (("none", [0, 1]), ("partial", [0, 1]), ("full", [0])):
        expected = {
            seed: (gaucs[f"{way}-1/seed-{seed}"] + gaucs[f"{way}-2/seed-{seed}"]) / 2
            for seed in seeds
        }
        assert found[way].scores["gauc"] == pytest.approx(expected)
        quarters = {seed: gauc / 4 for seed, gauc in expected.items()}
        assert found[way].segments["cold items"] == pytest.approx(quarters)
    difference = gather(study, cells, "command").difference("full", "none")
    assert list(difference.by_seed) == [0]
    assert difference.mean == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"averages": {"none": ["none-1", "none-7"]}}, "average 'none' names the variant 'none-7'"),
        ({"averages": {"none": []}}, r"average 'none' is \[\]; give the variants that it is the"),
        ({"averages": {"first": ["none-1"]}}, "average 'first' is called like a variant"),
        ({"curves": ["none"]}, "curves names the variant 'none', which the study does not have"),
        ({"reference": "ful"}, r"reference names the variant 'ful', .* did you mean 'full'\?"),
    ],
)
def test_mistakes_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_study(_study(tmp_path, **changes))
