"""The family on the built-in world: where images enter, aggregators, basic nets, pre-rank.

Each seed draws a world of its own, and the parameters and the order of training with it.

    data       drawn by `dicm_jax.data.synthetic`, nothing to download
    command    python -m dicm_jax.study --config=configs/study/synthetic.py --workdir=runs/study
"""

from pathlib import Path
from typing import Any

from dicm_jax.studies import paper

BASE = Path(__file__).parents[1] / "dicm.py"

VARIANTS: dict[str, dict[str, Any]] = {
    "baseline": {"model.images": "none", "evaluate.every": 58},
    "ad": {"model.images": "ad"},
    "behavior": {"model.images": "behavior"},
    "joint": {"evaluate.every": 58},
    "concat": {"model.aggregator": "concat"},
    "max": {"model.aggregator": "max"},
    "sum": {"model.aggregator": "sum"},
    "attentive": {"model.aggregator": "attentive"},
    "lr": {"model.basic_net": "lr", "model.images": "none"},
    "lr-joint": {"model.basic_net": "lr"},
    "din": {"model.basic_net": "din", "model.images": "none"},
    "din-joint": {"model.basic_net": "din"},
    "prerank": {
        "model.stage": "prerank",
        "model.aggregator": "sum",
        "model.images": "none",
    },
    "prerank-joint": {"model.stage": "prerank", "model.aggregator": "sum"},
}

LABELS = {
    "baseline": "no images",
    "ad": "ad image",
    "behavior": "behavior images",
    "joint": "joint, multi-query",
    "concat": "joint, concatenation",
    "max": "joint, max",
    "sum": "joint, sum",
    "attentive": "joint, attentive",
    "lr": "LR, no images",
    "lr-joint": "LR, joint",
    "din": "DIN, no images",
    "din-joint": "DIN, joint",
    "prerank": "pre-rank, no images",
    "prerank-joint": "pre-rank, joint",
}

COMPARISONS = [
    ("joint", "baseline", "Images of ads and behaviors help."),
    ("joint", "ad", "Behavior images add to the ad's image."),
    ("joint", "behavior", "The ad's image adds to behavior images."),
    ("prerank-joint", "prerank", "Images help in the pre-rank stage."),
    ("ad", "baseline", "The ad's image alone helps."),
    ("behavior", "baseline", "Behavior images alone help."),
    ("joint", "attentive", "A second query does better than one."),
    ("attentive", "sum", "Attention does better than a plain sum."),
    ("sum", "max", "A sum does better than the maximum."),
    ("sum", "concat", "A sum does better than concatenation."),
    ("lr-joint", "lr", "Logistic regression gains from images."),
    ("din-joint", "din", "DIN gains from images."),
]


def get_config() -> dict[str, Any]:
    """The study."""
    where = {"baseline": "baseline", "ad": "ad image", "behavior": "behavior images"}
    aggregators = {"ad": "only ad", "concat": "concatenation", "max": "max", "sum": "sum"}
    return {
        "title": "What photos of past behaviors add to click-through rates",
        "text": "Every variant of the Deep Image CTR Model is trained on the built-in synthetic "
        "world, five times; each seed draws a world, parameters and an order of its own. "
        "Differences are taken seed by seed.",
        "base": str(BASE),
        "settings": {
            "train.baseline": False,
            "checkpoint.every": 0,
            "checkpoint.keep": 1,
        },
        "variants": VARIANTS,
        "labels": LABELS,
        "seeds": [0, 1, 2, 3, 4],
        "seed_settings": ["train.seed", "data.world.seed"],
        "reference": "baseline",
        "comparisons": [
            {"variant": variant, "reference": reference, "text": text}
            for variant, reference, text in COMPARISONS
        ],
        "tables": [
            _table(
                "Table 3. Where images enter", where | {"joint": "joint"}, paper.WHERE_IMAGES_ENTER
            ),
            _table(
                "Table 4. Aggregators of behavior images",
                aggregators | {"attentive": "attentive", "joint": "multi-query"},
                paper.AGGREGATORS,
            ),
            _table(
                "Table 6. DICM and the baseline",
                {"baseline": "baseline", "joint": "DICM"},
                paper.DICM_AND_BASELINE,
            )
            | {
                "text": "The paper's DICM starts from one of another date (partial warm-up); ours "
                "starts afresh, with ten thousand times less data."
            },
            _table(
                "Table 8. Pre-rank",
                {"prerank": "baseline", "prerank-joint": "DICM"},
                paper.PRE_RANK,
            ),
        ],
        "bars": [
            {
                "title": "Fig. 5. Basic nets without and with images",
                "groups": {
                    "LR": {"without": "lr", "with": "lr-joint"},
                    "Embedding&MLP": {"without": "baseline", "with": "joint"},
                    "DIN": {"without": "din", "with": "din-joint"},
                },
                "paper": paper.BASIC_NETS,
            }
        ],
        "curves": ["baseline", "joint"],
        "curves_paper": paper.CURVES,
        "attention": "joint",
    }


def _table(title: str, rows: dict[str, str], reported: dict[str, Any]) -> dict[str, Any]:
    """A table of these variants; their labels are the paper's names."""
    return {
        "title": title,
        "rows": rows,
        "paper": {variant: reported[label] for variant, label in rows.items()},
    }
