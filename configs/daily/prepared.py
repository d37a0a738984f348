"""A model kept up to date on logs of one's own: every day a prepared set.

    data       ``data/DAY``, a set of `python -m dicm_jax.prepare` whose train split is the window
               that ends today and whose test split is what came after it
    command    python -m dicm_jax.daily --config=configs/daily/prepared.py --line=runs/line \
                   --day=2026-11-21
    elsewhere  --config.data.path=FOLDER takes today's set from another place
"""

from pathlib import Path
from typing import Any

BASE = Path(__file__).parents[1] / "dicm.py"


def log_of(day: str) -> dict[str, Any]:
    """The set of a day."""
    return {"data.path": f"data/{day}"}


def get_config() -> dict[str, Any]:
    """What is trained each day, and the rule."""
    return {
        "base": str(BASE),
        "settings": {
            "data.kind": "prepared",
            "model.query_fields": (),  # ID fields of the second query: those of the log
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
