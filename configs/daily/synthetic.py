"""A model kept up to date on the built-in world: a window of 14 days that moves on by one a day.

The world has 20 days more than a single run needs; ``day-N`` knows all but the newest ``20 - N`` of
them, trains on the 14 days before the newest, and is judged on that one, which neither it nor its
parent was trained on.

    data       drawn by `dicm_jax.data.synthetic`, nothing to download
    command    python -m dicm_jax.daily --config=configs/daily/synthetic.py --line=runs/line \
                   --day=day-0
    then       the same with --day=day-1, up to --day=day-20
"""

from pathlib import Path
from typing import Any

BASE = Path(__file__).parents[1] / "dicm.py"
DAYS = 20


def log_of(day: str) -> dict[str, Any]:
    """``day-N`` for N from 0 to `DAYS`."""
    number = int(day.removeprefix("day-"))
    return {"data.world.unseen_days": DAYS - number}


def get_config() -> dict[str, Any]:
    """What is trained each day, and the rule."""
    return {
        "base": str(BASE),
        "settings": {
            "data.world.history_days": 30 + DAYS,
            "data.world.test_days": 1,
            "train.baseline": False,
            "checkpoint.keep": 1,
            "checkpoint.warm_parts": "partial",  # all but ID rows, as in the paper
        },
        "log_of": log_of,
        "rule": {
            "allowed_gauc_drop": 0.005,
            "allowed_logloss_rise": 0.02,
            "min_impressions": 1000,
        },
    }
