"""Record GAUC, AUC and log loss of FuxiCTR, and of scikit-learn user by user, on drawn logs.

    pip install fuxictr scikit-learn
    python -m tests.oracles.record_gauc

Writes ``gauc.npz`` beside this file; names are ``case/array``.

Shape legend
    B   impressions   U   users with both classes, ascending
"""

# pyright: reportMissingImports=false

import multiprocessing
from pathlib import Path

import numpy as np
from fuxictr.metrics import evaluate_metrics
from sklearn.metrics import log_loss, roc_auc_score

from tests.oracles.provenance import save

PATH = Path(__file__).parent / "gauc.npz"
CASES = {
    "ties": {"impressions": 3000, "users": 250, "clicks": 0.3, "levels": 12, "dtype": "f8"},
    "float32": {"impressions": 3000, "users": 150, "clicks": 0.2, "levels": 0, "dtype": "f4"},
    "rare": {"impressions": 2500, "users": 400, "clicks": 0.02, "levels": 50, "dtype": "f8"},
    "few-users": {"impressions": 1500, "users": 3, "clicks": 0.9, "levels": 5, "dtype": "f4"},
}


def main() -> None:
    """All cases, in one file."""
    arrays = {}
    for seed, (case, recipe) in enumerate(CASES.items()):
        log = _log(seed, **recipe)
        scores = _fuxictr(*log) | _scikit_learn(*log)
        print(case, {name: float(x) for name, x in scores.items() if np.ndim(x) == 0})
        named = dict(zip(("user_B", "click_B", "probability_B"), log, strict=True)) | scores
        arrays |= {f"{case}/{name}": array for name, array in named.items()}
    save(PATH, arrays, "fuxictr", "scikit-learn", "numpy")


def _log(
    seed: int, impressions: int, users: int, clicks: float, levels: int, dtype: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users of very different activity, some of one class, in no order; scores may be tied."""
    random = np.random.default_rng(seed)
    activity_U = random.exponential(size=users) ** 2
    name_U = random.choice(10 * users, users, replace=False)
    user_B = name_U[random.choice(users, impressions, p=activity_U / activity_U.sum())]
    click_B = (random.random(impressions) < clicks).astype(np.int64)
    probability_B = np.clip(random.beta(2, 5, impressions) + 0.15 * click_B, 0.001, 0.999)
    if levels:
        probability_B = np.ceil(probability_B * levels) / (levels + 1)
    return user_B, click_B, probability_B.astype(dtype)


def _fuxictr(user_B: np.ndarray, click_B: np.ndarray, probability_B: np.ndarray) -> dict:
    names = ["gAUC", "avgAUC", "AUC", "logloss"]
    scores = evaluate_metrics(click_B, probability_B, names, group_id=user_B)
    return {f"fuxictr.{name}": np.array(float(scores[name])) for name in names}


def _scikit_learn(user_B: np.ndarray, click_B: np.ndarray, probability_B: np.ndarray) -> dict:
    """AUC of each user of both classes, and the measures over all impressions."""
    both = [u for u in np.unique(user_B) if np.ptp(click_B[user_B == u])]
    auc_U = [roc_auc_score(click_B[user_B == u], probability_B[user_B == u]) for u in both]
    return {
        "scikit_learn.user_U": np.array(both),
        "scikit_learn.auc_U": np.array(auc_U),
        "scikit_learn.auc": np.array(roc_auc_score(click_B, probability_B)),
        "scikit_learn.logloss": np.array(log_loss(click_B, probability_B)),
    }


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")  # FuxiCTR's workers use threads of Polars
    main()
