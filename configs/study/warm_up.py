"""Table 5 over simulated days: a model updated daily, by no, partial and full warm-up.

A window of 7 days moves over the built-in world, and a model is trained on it again, started from
the one before; it is tested on the two days after the window. Photos of this world are easy, so
that compressors and net are learnt within one window, and there are many items for few clicks.
Three chains ask when the paper's order (partial, none, full) holds:

    (no prefix)   windows one day apart, ID rows that learn twice as fast as the net
    apart-        the same with windows that do not overlap
    slow-         windows one day apart, ID rows that learn at a fifth of the net's rate

    data       drawn by `dicm_jax.data.synthetic`, nothing to download
    command    python -m dicm_jax.study --config=configs/study/warm_up.py --workdir=runs/warm-up
"""

from pathlib import Path
from typing import Any

from dicm_jax.studies import paper
from dicm_jax.studies.chain import WAYS, chain

BASE = Path(__file__).parents[1] / "dicm.py"
TEXT = {
    "": "windows of 7 days, one day apart, fast ID rows",
    "apart-": "windows that do not overlap, fast ID rows",
    "slow-": "windows one day apart, slow ID rows",
}
SETTINGS = {
    "data.world.items": 12_000,  # many: what is learnt of one rests on few clicks
    "data.world.users": 1000,
    "data.world.history_days": 28,
    "data.world.train_days": 7,
    "data.world.test_days": 2,
    "data.world.look_planes": 1,  # what photos show is learnt within one window
    "data.world.scenes": 1,
    "data.world.nuisance_dims": 4,
    "data.world.nuisance_gain": 0.5,
    "data.world.content_width": 32,
    "data.world.max_behaviors": 15,
    "data.behaviors": 15,
    "model.compressor_widths": (16, 12),
    "model.share_compressor": True,
    "model.compressor_init": "pca",
    "model.aggregator": "sum",
    "model.match": True,
    "model.head_widths": (64, 32),
    "optimizer.learning_rate": 5e-3,
    "train.batch_size": 256,
    "train.baseline": False,
    "checkpoint.every": 0,
    "checkpoint.keep": 1,
}


def _days(windows: int, *, apart: int, id_rate: float) -> list[dict[str, Any]]:
    """Windows that end `apart` days after one another."""
    return [
        {"data.world.unseen_days": number * apart, "optimizer.id_learning_rate": id_rate}
        for number in (2, 1, 0)[:windows]
    ]


def get_config() -> dict[str, Any]:
    """The study."""
    chains = {
        "": chain(_days(3, apart=1, id_rate=1e-2)),
        "apart-": chain(_days(2, apart=7, id_rate=1e-2), "apart-"),
        "slow-": chain(_days(2, apart=1, id_rate=1e-3), "slow-"),
    }
    return {
        "title": "What to take over from yesterday's model",
        "text": "A model is trained on a window of days that moves on, started from the run before "
        "by no, partial or full warm-up, and tested on the two days after each window. Each seed "
        "draws a world, parameters and an order of its own; scores are means over the days after "
        "the first.",
        "base": str(BASE),
        "settings": SETTINGS,
        "variants": {n: of_it for variants, _ in chains.values() for n, of_it in variants.items()},
        "averages": {n: of_it for _, averages in chains.values() for n, of_it in averages.items()},
        "seeds": [0, 1, 2, 3, 4],
        "seed_settings": ["train.seed", "data.world.seed"],
        "reference": "none",
        "comparisons": [
            {
                "variant": prefix + variant,
                "reference": prefix + reference,
                "text": f"{text}: {said}",
            }
            for prefix, text in TEXT.items()
            for variant, reference, said in (
                ("partial", "none", "a partial warm-up helps."),
                ("full", "none", "a full warm-up helps."),
                ("partial", "full", "it is better to leave ID rows behind."),
            )
        ],
        "tables": [_table(prefix, text) for prefix, text in TEXT.items()],
    }


def _table(prefix: str, text: str) -> dict[str, Any]:
    """One chain beside the paper's Table 5."""
    reported = dict(zip(WAYS, paper.WARM_UP.values(), strict=True))
    return {
        "title": f"Table 5. Warm-up: {text}",
        "rows": {prefix + way: way for way in WAYS},
        "paper": {prefix + way: reported[way] for way in WAYS},
    }
