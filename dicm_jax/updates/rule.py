"""The rule by which a day is promoted: not clearly worse than its parent on the same impressions.

    impressions >= min_impressions
    GAUC after  >= GAUC before - allowed_gauc_drop
    loss after  <= loss before * (1 + allowed_logloss_rise)

*Before* is the parent's model, *after* the one that was trained today. The first day of a line has
no parent; it is promoted if its scores are finite.
"""

import dataclasses
import math

from dicm_jax.config_values import setting
from dicm_jax.metrics import Scores


@dataclasses.dataclass(frozen=True)
class Rule:
    """How much worse a day may be than its parent."""

    allowed_gauc_drop: float = setting(
        0.005, "GAUC that a day may lose and still be promoted; below 0 asks for a gain", at_most=1
    )
    allowed_logloss_rise: float = setting(
        0.02, "share of its log loss that a day may gain; below 0 asks for a fall", above=-1
    )
    min_impressions: int = setting(
        1000, "impressions to judge on; a day with fewer is refused", at_least=1
    )


@dataclasses.dataclass(frozen=True)
class Check:
    """One condition of the rule.

    Attributes:
      words: the condition with its numbers.
      found: what was measured.
      bound: what it is compared with; None where it need only be finite.
      holds: whether it does.
    """

    words: str
    found: float
    bound: float | None
    holds: bool


@dataclasses.dataclass(frozen=True)
class Decision:
    """What became of a day.

    Attributes:
      promoted: whether it is the parent of the next.
      checks: every condition, with its numbers.
    """

    promoted: bool
    checks: tuple[Check, ...]

    @property
    def words(self) -> str:
        """The decision in one sentence: all conditions of a promotion, those that fail else."""
        decisive = [check.words for check in self.checks if check.holds == self.promoted]
        if self.promoted:
            return "promoted: " + "; ".join(decisive)
        return "refused: not " + "; not ".join(decisive)


def decide(rule: Rule, before: Scores | None, after: Scores) -> Decision:
    """The rule, applied.

    Args:
      rule: its limits.
      before, after: of the parent and of today, on the same impressions; no `before` on the first
        day. NaN meets no condition.

    Example:
      >>> first = score(np.array([1, 1]), np.array([0, 1]), np.array([0.5, 0.5]))
      >>> decide(Rule(), None, first).words
      'promoted: GAUC 0.5 is finite; log loss 0.693147 is finite'
    """
    if before is None:
        checks = (
            _finite("GAUC", after.gauc),
            _finite("log loss", after.logloss),
        )
    else:
        checks = (
            _enough(after.impressions, rule.min_impressions),
            _gauc(before.gauc, after.gauc, rule.allowed_gauc_drop),
            _logloss(before.logloss, after.logloss, rule.allowed_logloss_rise),
        )
    return Decision(all(check.holds for check in checks), checks)


def _finite(name: str, found: float) -> Check:
    return Check(f"{name} {found:.6g} is finite", found, None, math.isfinite(found))


def _enough(found: int, least: int) -> Check:
    words = f"{found:,} impressions >= {least:,} (min_impressions)"
    return Check(words, found, least, found >= least)


def _gauc(before: float, after: float, drop: float) -> Check:
    least = before - drop
    words = f"GAUC {after:.6g} >= {before:.6g} before - {drop:g} (allowed_gauc_drop)"
    return Check(words, after, least, after >= least)


def _logloss(before: float, after: float, rise: float) -> Check:
    most = before * (1 + rise)
    words = f"log loss {after:.6g} <= {before:.6g} before * (1 + {rise:g} (allowed_logloss_rise))"
    return Check(words, after, most, after <= most)
