"""Daily files: which value wins, and what is refused with which words."""

from pathlib import Path

import pytest

from dicm_jax.errors import ConfigError
from dicm_jax.updates.daily_file import load_day

ROOT = Path(__file__).parents[2]
BASE = str(ROOT / "configs/dicm.py")


def _file(folder: Path, returned: str) -> str:
    path = folder / "shoes.py"
    path.write_text(f"def get_config():\n    return {returned}\n")
    return str(path)


def test_command_line_over_log_over_settings_over_base(tmp_path):
    path = _file(
        tmp_path,
        f"""{{
        "base": {BASE!r},
        "settings": {{"train": {{"baseline": False, "epochs": 5}}, "data.world.seed": 1}},
        "log_of": lambda day: {{"data.world.seed": int(day), "data.world.users": 77}},
        "rule": {{"min_impressions": 9, "allowed_gauc_drop": 0}},
    }}""",
    )
    day = load_day(path, "21", ["data.world.users=78", "rule.min_impressions=10"])
    assert day.name == "21"
    assert (day.config.train.epochs, day.config.data.world.seed) == (5, 21)
    assert day.config.data.world.users == 78
    assert day.config.model.query_fields == ("category",)
    assert (day.rule.min_impressions, day.rule.allowed_gauc_drop) == (10, 0.0)
    assert isinstance(day.rule.allowed_gauc_drop, float)
    assert day.rule.allowed_logloss_rise == 0.02


@pytest.mark.parametrize(
    ("entries", "more", "message"),
    [
        ("'bse': 1", [], r"a daily file has no key 'bse'; did you mean 'base'\? keys: base, sett"),
        ("", [], "no base; name the config file of a run that days start from"),
        ("'base': BASE, 'log_of': 3", [], "log_of is 3; give a function from the name of a day"),
        (
            "'base': BASE, 'log_of': lambda day: int(day)",
            [],
            r"log_of\('mon'\) failed \(ValueError: invalid literal .*\); name another day or mend",
        ),
        (
            "'base': BASE, 'log_of': lambda day: day",
            [],
            r"log_of\('mon'\) returned 'mon'; return settings by dotted name",
        ),
        (
            "'base': BASE, 'rule': {'min_impression': 1}",
            [],
            r"the rule has no key 'min_impression'; did you mean 'min_impressions'\?",
        ),
        (
            "'base': BASE, 'rule': {'min_impressions': 0}",
            [],
            r"rule.min_impressions must be at least 1 .*; found 0",
        ),
        ("'base': BASE", ["rule.min_impressions=0"], "min_impressions must be at least 1"),
        ("'base': BASE", ["rule.allowed=0"], "there is no key allowed"),
        ("'base': BASE", ["train.epoch=3"], "there is no key train.epoch"),
        ("'base': BASE", ["train.baseline=true"], "train.baseline=True, but a day trains one"),
        (
            "'base': BASE",
            ["checkpoint.warm_start=runs/other"],
            "checkpoint.warm_start='runs/other' is set, but a day starts from the line's current",
        ),
    ],
)
def test_mistakes_are_refused(tmp_path, entries, more, message):
    path = _file(tmp_path, "{" + entries.replace("BASE", repr(BASE)) + "}")
    with pytest.raises(ConfigError, match=message):
        load_day(path, "mon", ["train.baseline=false", *more])


@pytest.mark.parametrize("name", ["", "../mon", "a/b", ".lock", "a b", "lineage.json"])
def test_a_day_that_no_folder_can_be_called(tmp_path, name):
    with pytest.raises(ConfigError, match=r"--day='.*' cannot be the name of a folder; use"):
        load_day(_file(tmp_path, f"{{'base': {BASE!r}}}"), name)


@pytest.mark.parametrize(
    ("name", "day"),
    [("synthetic", "day-3"), ("prepared", "2026-11-21"), ("hm", "2020-05")],
)
def test_the_files_that_come_with_the_project_load(name, day):
    more = ["data.path=data/hm"] if name == "hm" else []
    loaded = load_day(str(ROOT / "configs/daily" / f"{name}.py"), day, more)
    assert loaded.config.checkpoint.warm_parts == "partial"
