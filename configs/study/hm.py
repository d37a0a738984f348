"""The family on the H&M log: no images, one side, both, for three basic nets, with controls.

    data       see configs/hm.py
    command    python -m dicm_jax.study --config=configs/study/hm.py --workdir=runs/study-hm \
                   --config.data.path=FOLDER
"""

from pathlib import Path
from typing import Any

from dicm_jax.studies import paper

BASE = Path(__file__).parents[1] / "hm.py"
NETS = {"lr": "LR", "mlp": "Embedding&MLP", "din": "DIN"}
IMAGES = {
    "none": ("none", "no images"),
    "ad": ("ad", "ad image"),
    "behavior": ("behavior", "behavior images"),
    "joint": ("both", "joint"),
}
BASIC_NETS = {"lr": "lr", "mlp": "embedding_mlp", "din": "din"}
NO_MATCHES = {
    "data.behavior_fields": (),
    "model.match_fields": (),
    "optimizer.id_learning_rate": 1e-3,
}
PAPER_WIDTHS = {"model.similarity": False, "model.compressor_widths": (256, 64, 12)}
PRE_RANK = {
    **NO_MATCHES,
    **PAPER_WIDTHS,
    "model.stage": "prerank",
    "model.aggregator": "sum",
    "model.match": False,
    "model.compressor_init": "he",
    "model.compressor_output_norm": "none",
    "optimizer.compressor_learning_rate": 1e-3,
}
SHUFFLED = {"data.permute_images": True}
INGREDIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("joint, attention alone", {**NO_MATCHES, **PAPER_WIDTHS}),
    "likeness": ("joint, attention and likeness of photos", NO_MATCHES),
    "likeness-shuffled": ("the same, photos shuffled", {**NO_MATCHES, **SHUFFLED}),
    "small-ids": ("joint, matched IDs start at .01", {"model.match_init_scale": 0.01}),
    "separate": ("joint, two compressors", {"model.share_compressor": False}),
    "random-start": (
        "joint, compressor from random weights",
        {"model.compressor_init": "he", "optimizer.compressor_learning_rate": 1e-3},
    ),
}
CURVES = ("mlp-none", "mlp-joint")


def get_config() -> dict[str, Any]:
    """The study; the command line gives data.path."""
    variants: dict[str, dict[str, Any]] = {
        f"{net}-{name}": {"model.basic_net": BASIC_NETS[net], "model.images": images}
        for net in NETS
        for name, (images, _) in IMAGES.items()
    }
    variants["mlp-shuffled"] = {**variants["mlp-joint"], **SHUFFLED}
    variants |= {name: changes for name, (_, changes) in INGREDIENTS.items()}
    variants["prerank-none"] = {**PRE_RANK, "model.images": "none"}
    variants["prerank-joint"] = {**PRE_RANK, "model.images": "both"}
    variants["earlier"] = {"data.validation_days": 56}
    for parts in ("partial", "full"):
        start = {"checkpoint.warm_start": "cell:earlier", "checkpoint.warm_parts": parts}
        variants[f"warm-{parts}"] = start
    for name in CURVES:
        variants[name] = {**variants[name], "evaluate.every": 56}
    labels = {
        f"{net}-{name}": f"{said}, {where}"
        for net, said in NETS.items()
        for name, (_, where) in IMAGES.items()
    }
    labels |= {name: label for name, (label, _) in INGREDIENTS.items()}
    labels |= {
        "prerank-none": "pre-rank, no images",
        "prerank-joint": "pre-rank, joint",
        "mlp-shuffled": "Embedding&MLP, joint, photos shuffled",
        "earlier": "joint, 56 days earlier (tested on those days)",
        "warm-partial": "joint, partial warm-up",
        "warm-full": "joint, full warm-up",
    }
    return {
        "title": "What product photos tell about the next purchase",
        "text": "Every variant of the Deep Image CTR Model on the H&M log, three seeds each. The "
        "log is the same for all seeds; they draw parameters, the order of training and, for the "
        "control that gives articles each other's photos, who gets whose.",
        "base": str(BASE),
        "settings": {"checkpoint.keep": 1},
        "variants": variants,
        "labels": labels,
        "seeds": [0, 1, 2],
        "seed_settings": ["train.seed", "data.seed"],
        "reference": "mlp-none",
        "comparisons": _comparisons(),
        "tables": _tables(),
        "bars": [
            {
                "title": "Fig. 5. Basic nets and where images enter",
                "groups": {
                    said: {where: f"{net}-{name}" for name, (_, where) in IMAGES.items()}
                    for net, said in NETS.items()
                },
                "paper": {
                    net: {"no images": of_net["without"], "joint": of_net["with"]}
                    for net, of_net in paper.BASIC_NETS.items()
                },
                "text": "The paper has no ad image or behavior images alone here.",
            }
        ],
        "curves": list(CURVES),
        "curves_paper": paper.CURVES,
        "attention": "mlp-joint",
    }


def _comparisons() -> list[dict[str, str]]:
    pairs = [
        ("mlp-joint", "mlp-shuffled", "What is gained is in the photos."),
        ("mlp-joint", "mlp-none", "Images of articles and behaviors help."),
        ("likeness", "plain", "Likeness of photos tells more than attention over them."),
        ("mlp-joint", "likeness", "Where in the shop an article hangs adds to its photo."),
        ("likeness", "likeness-shuffled", "Without these IDs, photos carry more."),
        ("mlp-joint", "random-start", "Starting from principal directions helps."),
        ("mlp-joint", "separate", "One compressor for both sides helps."),
        ("mlp-joint", "small-ids", "Matched IDs must start large enough."),
        ("warm-partial", "mlp-joint", "A partial warm-up helps."),
        ("warm-full", "mlp-joint", "A full warm-up helps."),
        ("prerank-joint", "prerank-none", "Images help in the pre-rank stage."),
        ("din-joint", "din-none", "DIN gains from images."),
        ("lr-joint", "lr-none", "Logistic regression gains from images."),
        ("mlp-joint", "mlp-ad", "Behavior images add to the article's photo."),
        ("mlp-joint", "mlp-behavior", "The article's photo adds to behavior images."),
    ]
    return [{"variant": v, "reference": r, "text": text} for v, r, text in pairs]


def _tables() -> list[dict[str, Any]]:
    where = dict(zip((f"mlp-{n}" for n in IMAGES), paper.WHERE_IMAGES_ENTER, strict=True))
    return [
        _table("Table 3. Where images enter", where, paper.WHERE_IMAGES_ENTER),
        _table(
            "Table 5. Warm-up",
            {"mlp-joint": "non", "warm-partial": "partial", "warm-full": "full"},
            paper.WARM_UP,
        )
        | {
            "text": "Ours warms up from a run whose training ends 56 days earlier; both train on "
            "those earlier days."
        },
        _table(
            "Table 6. DICM and the baseline",
            {"mlp-none": "baseline", "mlp-joint": "DICM"},
            paper.DICM_AND_BASELINE,
        )
        | {"text": "The paper's DICM goes on from one of another date (partial warm-up)."},
        _table(
            "Table 8. Pre-rank",
            {"prerank-none": "baseline", "prerank-joint": "DICM"},
            paper.PRE_RANK,
        ),
    ]


def _table(title: str, rows: dict[str, str], reported: dict[str, Any]) -> dict[str, Any]:
    """A table of these variants; their labels are the paper's names."""
    return {
        "title": title,
        "rows": rows,
        "paper": {variant: reported[label] for variant, label in rows.items()},
    }
