"""GAUC, AUC and log loss against numbers that FuxiCTR computed, and against scikit-learn live.

The numbers are recorded by `tests/oracles/record_gauc.py`.

Shape legend
    B   impressions   U   users with both classes, ascending
"""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from dicm_jax.metrics import auc_by_user, score

FIXTURE = np.load(Path(__file__).parents[1] / "oracles" / "gauc.npz")
CASES = sorted({name.split("/")[0] for name in FIXTURE.files if "/" in name})


def case_of(name: str) -> dict[str, np.ndarray]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): FIXTURE[key] for key in FIXTURE if key.startswith(prefix)}


def log_of(case: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return case["user_B"], case["click_B"], case["probability_B"]


def log_loss_tolerance(case: dict[str, np.ndarray]) -> float:
    """Both packages take the log loss in the type of the probabilities, here it is in float64."""
    return 1e-9 if case["probability_B"].dtype == np.float64 else 1e-6


def test_the_fixture_holds_what_makes_gauc_hard():
    """Ties within a user, users of one class, both types; else equality would show little."""
    assert any("fuxictr 2." in line for line in FIXTURE["source"])
    cases = [case_of(name) for name in CASES]
    assert {case["probability_B"].dtype.name for case in cases} == {"float32", "float64"}
    ties, one_class = 0, 0
    for user_B, click_B, probability_B in map(log_of, cases):
        pairs = np.rec.fromarrays([user_B, probability_B])
        ties += len(pairs) - len(np.unique(pairs))
        one_class += sum(np.ptp(click_B[user_B == user]) == 0 for user in np.unique(user_B))
    assert ties > 1000
    assert one_class > 100


@pytest.mark.parametrize("name", CASES)
def test_scores_equal_those_of_fuxictr(name):
    case = case_of(name)
    scores = score(*log_of(case))
    assert scores.gauc == pytest.approx(float(case["fuxictr.gAUC"]), rel=0, abs=1e-9)
    assert scores.auc == pytest.approx(float(case["fuxictr.AUC"]), rel=0, abs=1e-9)
    assert scores.logloss == pytest.approx(
        float(case["fuxictr.logloss"]), rel=0, abs=log_loss_tolerance(case)
    )


@pytest.mark.parametrize("name", CASES)
def test_the_plain_mean_over_users_equals_avg_auc_of_fuxictr(name):
    case = case_of(name)
    by_user = auc_by_user(*log_of(case))
    mean = by_user.auc_U[by_user.is_counted].mean()
    assert mean == pytest.approx(float(case["fuxictr.avgAUC"]), rel=0, abs=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_users_equal_those_of_the_recorded_scikit_learn(name):
    case = case_of(name)
    by_user = auc_by_user(*log_of(case))
    counted_U = by_user.is_counted
    np.testing.assert_array_equal(by_user.user_U[counted_U], case["scikit_learn.user_U"])
    np.testing.assert_allclose(
        by_user.auc_U[counted_U], case["scikit_learn.auc_U"], rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("name", CASES)
def test_scores_equal_those_of_scikit_learn_live(name):
    case = case_of(name)
    user_B, click_B, probability_B = log_of(case)
    scores = score(user_B, click_B, probability_B)
    weighted, impressions = 0.0, 0
    for user in case["scikit_learn.user_U"]:
        mine_B = user_B == user
        weighted += roc_auc_score(click_B[mine_B], probability_B[mine_B]) * mine_B.sum()
        impressions += mine_B.sum()
    assert scores.gauc == pytest.approx(weighted / impressions, rel=0, abs=1e-9)
    assert scores.auc == pytest.approx(roc_auc_score(click_B, probability_B), rel=0, abs=1e-9)
    assert scores.logloss == pytest.approx(
        log_loss(click_B, probability_B), rel=0, abs=log_loss_tolerance(case)
    )
