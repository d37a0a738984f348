"""What the paper reports, for study files to show beside their own numbers.

Ge et al., "Image Matters: Visually Modeling User Behaviors Using Advanced Model Server", CIKM 2018
(arXiv:1711.06505). GAUC, then AUC where it is given. Figures are read off their labels.
"""

WHERE_IMAGES_ENTER = {
    "baseline": (0.6205, 0.6758),
    "ad image": (0.6235, 0.6772),
    "behavior images": (0.6219, 0.6768),
    "joint": (0.6260, 0.6795),
}
"""Table 3."""

AGGREGATORS = {
    "only ad": (0.6235, None),
    "concatenation": (0.6232, None),
    "max": (0.6236, None),
    "sum": (0.6248, None),
    "attentive": (0.6257, None),
    "multi-query": (0.6260, None),
}
"""Table 4."""

WARM_UP = {"non": (0.6260, None), "partial": (0.6283, None), "full": (0.6230, None)}
"""Table 5."""

DICM_AND_BASELINE = {"baseline": (0.6205, 0.6758), "DICM": (0.6283, 0.6814)}
"""Table 6, DICM after a partial warm-up."""

PRE_RANK = {"baseline": (0.6165, 0.6730), "DICM": (0.6225, 0.6771)}
"""Table 8."""

BASIC_NETS = {
    "LR": {"without": 0.6064, "with": 0.6073},
    "Embedding&MLP": {"without": 0.6205, "with": 0.6260},
    "DIN": {"without": 0.6234, "with": 0.6285},
}
"""Fig. 5."""

CURVES = {
    "baseline": [(16_000, 0.606), (128_000, 0.621)],
    "DICM": [(16_000, 0.617), (65_000, 0.6275), (128_000, 0.6285)],
}
"""Fig. 6, (step, GAUC), read off its curves to about .001; a step has 60,000 impressions."""
