"""Table 5 over months of H&M: a model updated monthly, by no, partial and full warm-up.

A window of 91 days moves over the log by a month, and a model is trained on it again, started
from the one before; it is tested on the month after the window.

    data       as in `configs/hm.py`
    command    python -m dicm_jax.study --config=configs/study/warm_up_hm.py \
                   --workdir=runs/warm-up-hm --config.data.path=FOLDER
"""

from pathlib import Path
from typing import Any

from dicm_jax.studies import paper
from dicm_jax.studies.chain import WAYS, chain

BASE = Path(__file__).parents[1] / "hm.py"
MONTHS = {"2020-05-01": 31, "2020-06-01": 30, "2020-07-01": 31}


def get_config() -> dict[str, Any]:
    """The study; the command line gives data.path."""
    variants, averages = chain(
        [{"data.hm.cut": cut, "data.hm.test_days": days} for cut, days in MONTHS.items()]
    )
    reported = dict(zip(WAYS, paper.WARM_UP.values(), strict=True))
    return {
        "title": "What to take over from last month's model",
        "text": "The model of configs/hm.py, trained on 91 days of purchases before each month "
        "and tested on the month, started from the run of the month before by no, partial or full "
        "warm-up. The log is the same for all seeds; scores are means over the months after the "
        "first.",
        "base": str(BASE),
        "settings": {
            "data.hm.train_days": 91,
            "train.epochs": 2,  # the paper's
            "checkpoint.every": 0,
            "checkpoint.keep": 1,
        },
        "variants": variants,
        "averages": averages,
        "seeds": [0, 1, 2],
        "reference": "none",
        "comparisons": [
            {"variant": "partial", "reference": "none", "text": "A partial warm-up helps."},
            {"variant": "full", "reference": "none", "text": "A full warm-up helps."},
            {"variant": "partial", "reference": "full", "text": "ID rows are best left behind."},
        ],
        "tables": [
            {
                "title": "Table 5. Warm-up",
                "rows": {way: way for way in WAYS},
                "paper": reported,
            }
        ],
    }
