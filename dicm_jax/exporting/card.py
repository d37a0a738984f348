"""``MODEL_CARD.md``: what a servable is, how good it is, and what it was made from."""

from collections.abc import Mapping
from typing import Any

_WORDS = {
    "dicm": "ranks, with images",
    "baseline": "ranks, without images: what the first is compared with",
    "prerank": "pre-ranks: an inner product of a user's and an item's vector",
}


def card(
    signature: Mapping[str, Any],
    checked: Mapping[str, Mapping[str, Any]],
    notes: Mapping[str, float],
) -> str:
    """The card, in Markdown.

    Args:
      signature: as ``servable.json`` has it.
      checked: of each model, how good the servable's scores are and how far from evaluation's.
      notes: counts of the log.
    """
    lines = [
        f"# {signature['version_name']}",
        "",
        f"Click probabilities for log `{signature['log']}`, made {signature['made']} by dicm_jax"
        f" {signature['made_with']['dicm-jax']} with JAX {signature['made_with']['jax']}.",
        "",
        "## Models",
        "",
        "| model | does | sees | vectors | step |",
        "|---|---|---|---|---|",
    ]
    for name, model in signature["models"].items():
        vectors = model["vectors"] if model["inputs"] else "none"
        lines.append(
            f"| {name} | {_WORDS[name]} | images: {model['images']} | {vectors} |"
            f" {model['step']:,} |"
        )
    lines += ["", "## How good", "", *_metrics(checked)]
    lines += [
        "",
        "## What it knows",
        "",
        f"{signature['items']:,} items; the newest {signature['behaviors']} behaviors of a user;"
        f" fields: {', '.join(f'{name} ({level})' for name, level, _ in signature['fields'])}.",
        "",
        "## The data",
        "",
        *[f"- {name.replace('_', ' ')}: {value:,g}" for name, value in notes.items()],
        "",
        "## Its limits",
        "",
        "- It learned from what was shown and clicked in that log: from its users, its shop, its"
        " season, and from what an earlier ranking chose to show.",
        "- Scores are probabilities under the click rate of the training data. Where fewer"
        " impressions without a click were kept than happened, they are too high as probabilities;"
        " their order stays.",
        "- Items without a photo get a vector that was learned for that case; users without a past"
        " are ranked by their fields alone.",
    ]
    return "\n".join(lines) + "\n"


def _metrics(checked: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not checked:
        return ["Not measured: the catalogue leaves out items of the test split."]
    lines = [
        "On the log's test split, as served; in brackets the change from evaluation before export,"
        " which rounding of vectors makes.",
        "",
        "| model | GAUC | AUC | log loss | largest difference of a score |",
        "|---|---|---|---|---|",
    ]
    for name, found in checked.items():
        cells = [
            f"{found[metric]:.4f} ({found[metric] - found[f'evaluated_{metric}']:+.1e})"
            for metric in ("gauc", "auc", "logloss")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {found['largest_difference']:.1e} |")
    return lines
