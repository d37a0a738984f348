"""Table 5 over simulated days: a model updated daily, by no, partial and full warm-up.

A window of 7 days moves over the built-in world, and a model is trained on it again, started from
the one before; it is tested on the two days after the window. Three chains ask when the paper's
order (partial, none, full) holds:

    (no prefix)   windows one day apart, ID rows that learn ten times as fast as the net
    apart-        the same with windows that do not overlap
    slow-         the same as the first with ID rows that learn as fast as the net

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


def _days(apart: int, id_rate: float) -> list[dict[str, Any]]:
    """Three windows that end `apart` days after one another."""
    return [
        {"data.world.unseen_days": number * apart, "optimizer.id_learning_rate": id_rate}
        for number in (2, 1, 0)
    ]


def get_config() -> dict[str, Any]:
    """The study."""
    chains = {
        "": chain(_days(apart=1, id_rate=3e-2)),
        "apart-": chain(_days(apart=7, id_rate=3e-2), "apart-"),
        "slow-": chain(_days(apart=1, id_rate=3e-3), "slow-"),
    }
    return {
        "title": "What to take over from yesterday's model",
        "text": "A model is trained on a window of days that moves on, started from the run before "
        "by no, partial or full warm-up, and tested on the two days after each window. Each seed "
        "draws a world, parameters and an order of its own; scores are means over the days after "
        "the first.",
        "base": str(BASE),
        "settings": {
            "data.world.items": 12_000,  # many: what is learnt of one rests on few clicks
            "data.world.users": 1200,
            "data.world.content_width": 256,
            "data.world.history_days": 28,
            "data.world.train_days": 7,
            "data.world.test_days": 2,
            "model.compressor_widths": (64, 32, 12),
            "model.share_compressor": True,
            "model.compressor_init": "pca",
            "model.interaction": "product",
            "model.match": True,
            "optimizer.learning_rate": 3e-3,
            "train.batch_size": 256,
            "train.baseline": False,
            "checkpoint.every": 0,
            "checkpoint.keep": 1,
        },
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
