"""The rule: what is promoted, what is refused, and in which words."""

import dataclasses
import math

import numpy as np
import pytest

from dicm_jax.metrics import Scores, score
from dicm_jax.updates.rule import Rule, decide

BEFORE = Scores(
    gauc=0.6,
    auc=0.6,
    logloss=0.5,
    impressions=2000,
    clicks=400,
    users_counted=90,
    users_left_out=10,
    impressions_left_out=100,
)


def _after(**scores: float) -> Scores:
    return dataclasses.replace(BEFORE, **scores)


@pytest.mark.parametrize(
    ("after", "failing"),
    [
        (_after(), None),
        (_after(gauc=0.5951), None),
        (_after(gauc=0.5949), "GAUC 0.5949 >= 0.6 before - 0.005 (allowed_gauc_drop)"),
        (_after(logloss=0.5099), None),
        (
            _after(logloss=0.5101),
            "log loss 0.5101 <= 0.5 before * (1 + 0.02 (allowed_logloss_rise))",
        ),
        (_after(gauc=0.9, logloss=math.nan), "log loss nan <="),
        (_after(gauc=math.nan), "GAUC nan >="),
        (_after(impressions=999), "999 impressions >= 1,000 (min_impressions)"),
    ],
)
def test_a_day_is_promoted_unless_it_is_clearly_worse(after, failing):
    decision = decide(Rule(), BEFORE, after)
    assert decision.promoted == (failing is None)
    if failing is None:
        assert decision.words.startswith("promoted: 2,000 impressions")
    else:
        assert decision.words.startswith(f"refused: not {failing}")
        assert sum(not check.holds for check in decision.checks) == 1


def test_every_failing_condition_is_told():
    words = decide(Rule(), BEFORE, _after(gauc=0.5, logloss=0.9)).words
    assert "not GAUC 0.5" in words
    assert "; not log loss 0.9" in words
    assert "impressions" not in words


def test_a_gain_can_be_asked_for():
    rule = Rule(allowed_gauc_drop=-0.01)
    assert not decide(rule, BEFORE, _after(gauc=0.605)).promoted
    assert decide(rule, BEFORE, _after(gauc=0.611)).promoted


def test_a_parent_without_gauc_cannot_be_followed():
    """NaN of the parent meets no condition: a line does not go on on impressions of one class."""
    assert not decide(Rule(), dataclasses.replace(BEFORE, gauc=math.nan), _after()).promoted


def test_the_first_day_need_only_be_finite():
    first = score(np.array([1, 1]), np.array([0, 1]), np.array([0.5, 0.5]))
    assert decide(Rule(), None, first).promoted
    one_class = score(np.array([1, 1]), np.array([1, 1]), np.array([0.5, 0.5]))
    refused = decide(Rule(), None, one_class)
    assert refused.words == "refused: not GAUC nan is finite"
