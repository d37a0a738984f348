"""Study files: what makes a cell's configuration, and what is refused with which words."""

from pathlib import Path
from typing import Any

import pytest

from dicm_jax.config_file import load_config
from dicm_jax.errors import ConfigError
from dicm_jax.studies.cells import cells_of
from dicm_jax.studies.study_file import load_study

ROOT = Path(__file__).parents[2]
GOOD = {
    "base": str(ROOT / "configs/dicm.py"),
    "variants": {"without": {"model.images": "none"}, "with": {}},
    "seeds": [3, 5],
}


def _study(folder: Path, **changes: Any) -> str:
    path = folder / "shoes.py"
    path.write_text(f"def get_config():\n    return {GOOD | changes!r}\n")
    return str(path)


def test_the_last_of_base_settings_overrides_variant_and_seed_wins(tmp_path):
    path = _study(
        tmp_path,
        settings={"train.epochs": 7, "model.embedding_width": 12, "train.batch_size": 64},
        seed_settings=["train.seed", "data.world.seed"],
    )
    study = load_study(path, ["train.batch_size=32"])
    base = load_config(GOOD["base"])
    one, other = study.configs["without", 3], study.configs["with", 5]
    assert (study.name, study.reference) == ("shoes", "without")
    assert (one.model.images, other.model.images) == ("none", base.model.images)
    assert (one.train.epochs, one.train.batch_size) == (7, 32)
    assert (one.train.seed, one.data.world.seed) == (3, 3)
    assert (other.train.seed, other.data.world.seed) == (5, 5)
    assert one.model.query_fields == base.model.query_fields


def test_a_cell_may_start_from_anothers_checkpoint(tmp_path):
    variants = {"cold": {}, "warm": {"checkpoint.warm_start": "cell:cold"}}
    cells = cells_of(load_study(_study(tmp_path, variants=variants)), tmp_path / "out")
    by_name = {cell.name: cell for cell in cells}
    for seed in (3, 5):
        source, warm = by_name[f"cold/seed-{seed}"], by_name[f"warm/seed-{seed}"]
        assert warm.config.checkpoint.warm_start == str(source.folder)
        assert warm.starts_from == source.folder
        assert source.is_started_from
        assert not warm.is_started_from


def test_nested_settings_mean_the_same_as_dotted_ones(tmp_path):
    nested = load_study(_study(tmp_path, variants={"v": {"model": {"images": "ad"}}}))
    dotted = load_study(_study(tmp_path, variants={"v": {"model.images": "ad"}}))
    assert nested.configs == dotted.configs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {}}, r"shoes.py: a grid with no cells: variants=\{\}"),
        ({"seeds": []}, r"a grid with no cells: seeds=\[\]; give at least one"),
        ({"seeds": [0, 4, 4]}, r"seed 4 is given twice in seeds=\[0, 4, 4\]"),
        ({"seeds": [0, True]}, "seed True must be a whole number"),
        ({"seeds": [-1]}, "seed -1 must be a whole number, 0 or more"),
        ({"seed_settings": []}, "seed_settings is empty, so all seeds would be one run"),
        (
            {"variants": {"warm": {"checkpoint.warm_start": "cell:cold"}, "cold": {}}},
            r"variant 'warm' starts from the cell of 'cold' .*no variant before it.*of warm, cold",
        ),
        ({"base": None}, "no base; name the config file of a run"),
        ({"base": "nowhere.py"}, "nowhere.py: there is no such file"),
        ({"varaints": {}}, "a study has no key 'varaints'; did you mean 'variants'"),
        ({"variants": {"plain": None}}, "variant 'plain' is None; give its settings .* {} if it"),
        ({"variants": {"a/b": {}}}, "variant 'a/b' cannot be the name of a folder"),
        (
            {"variants": {"bad": {"model.imags": "none"}}},
            "variant 'bad': there is no key model.imags; did you mean model.images",
        ),
        (
            {"variants": {"bad": {"model.aggregator": "mean"}}},
            "variant 'bad': model.aggregator must be .*'attentive'.*found 'mean'",
        ),
        ({"seed_settings": ["train.sed"]}, "there is no key train.sed; did you mean train.seed"),
        (
            {"variants": {"v": {"train.seed": 1}}},
            r"variant 'v' sets train.seed=1, but the seeds of the study set it",
        ),
        (
            {"comparisons": [{"variant": "wiht", "reference": "without"}]},
            "comparisons names the variant 'wiht', which .* did you mean 'with'.* without, with",
        ),
        ({"comparisons": [{"variant": "with"}]}, r"comparisons\[0\] is .* which lacks a key"),
        ({"comparisons": ["with"]}, r"comparisons\[0\] is 'with'; give a dict of variant"),
        (
            {"tables": [{"title": "T", "rows": {"a": "A"}}]},
            "table 'T' names the variant 'a', which the study does not have",
        ),
        (
            {"tables": [{"title": "T", "rows": {"with": "W"}, "paper": {"with": (0.62,)}}]},
            r"table 'T': paper has \(0.62,\) for 'with'; give \(GAUC, AUC\), None where",
        ),
        ({"tables": [{"titel": "T", "rows": {}}]}, r"tables\[0\] has no key 'titel'"),
        ({"bars": [{"title": "B", "groups": {"g": {"x": "y"}}}]}, "bars 'B' names the variant 'y'"),
        ({"curves": ["y"]}, "curves names the variant 'y'"),
        ({"attention": "y"}, "attention names the variant 'y'"),
        ({"reference": "y"}, "reference names the variant 'y'"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_study(_study(tmp_path, **changes))


def test_an_override_that_a_variant_would_undo_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"--config\.model.images='ad': variant 'without' .* sets"
    ):
        load_study(_study(tmp_path), ["model.images=ad"])
    with pytest.raises(ConfigError, match=r"--config sets train\.seed=9, but the seeds"):
        load_study(_study(tmp_path), ["train.seed=9"])


@pytest.mark.parametrize(("name", "cells"), [("synthetic", 70), ("hm", 72)])
def test_the_studies_that_come_along_are_sound(name, cells):
    overrides = ["data.path=data/hm"] if name == "hm" else []
    study = load_study(str(ROOT / f"configs/study/{name}.py"), overrides)
    assert len(study.configs) == cells
