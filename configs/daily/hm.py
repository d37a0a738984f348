"""A model kept up to date on the H&M log, month by month.

A "day" is a month, ``2020-05``: trained on the 365 days before its first day, judged on its own
days. Behaviors and statistics know all earlier purchases, as in `configs/hm.py`.

    data       the H&M log in Kaggle's layout, with a 4096-D feature per photo beside it
    command    python -m dicm_jax.daily --config=configs/daily/hm.py --line=runs/hm-line \
                   --day=2020-01 --config.data.path=FOLDER
    then       the same with --day=2020-02, up to --day=2020-09
"""

import calendar
from pathlib import Path
from typing import Any

BASE = Path(__file__).parents[1] / "hm.py"


def log_of(month: str) -> dict[str, Any]:
    """A year before a month, and the month."""
    year, number = map(int, month.split("-"))
    return {
        "data.hm.cut": f"{month}-01",
        "data.hm.train_days": 365,
        "data.hm.test_days": calendar.monthrange(year, number)[1],
    }


def get_config() -> dict[str, Any]:
    """What is trained each month, and the rule."""
    return {
        "base": str(BASE),
        "settings": {
            "checkpoint.keep": 1,
            "checkpoint.warm_parts": "partial",  # all but ID rows, as in the paper
        },
        "log_of": log_of,
        "rule": {
            "allowed_gauc_drop": 0.01,  # months of this small log differ by more than days do
            "allowed_logloss_rise": 0.02,
            "min_impressions": 1000,
        },
    }
