"""Means over seeds, and paired differences between variants.

Runs of one seed share their data, their order and their first parameters, so a difference is taken
seed by seed; what seeds have in common cancels.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np
import scipy.stats

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Summary:
    """Values over seeds.

    Attributes:
      n: how many values.
      mean: their mean; NaN of none.
      std: their standard deviation (over ``n - 1``); NaN of fewer than two.
    """

    n: int
    mean: float
    std: float


@dataclasses.dataclass(frozen=True)
class Difference:
    """Paired differences over the seeds that both sides have.

    Attributes:
      by_seed: the difference of each seed.
      mean, std: of these, as in `Summary`.
      low, high: 95 % interval of the mean by Student's t with ``n - 1`` degrees of freedom; NaN of
        fewer than two seeds.
    """

    by_seed: dict[int, float]
    mean: float
    std: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Whether seeds agree that the difference is above zero, as far as the interval tells."""
        if not self.by_seed:
            return "no seed yet"
        if math.isnan(self.low):
            return "one seed only"
        if self.low > 0:
            return "holds"
        return "does not hold" if self.high < 0 else "undecided"


def summary(values: Iterable[float]) -> Summary:
    """Mean and spread of values.

    Example:
      >>> summary([0.70, 0.72])
      Summary(n=2, mean=0.71, std=0.014142135623730963)
    """
    array = np.array(list(values), np.float64)
    mean = float(array.mean()) if len(array) else math.nan
    std = float(array.std(ddof=1)) if len(array) > 1 else math.nan
    return Summary(len(array), mean, std)


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Difference:
    """Differences ``values - reference`` over the seeds that both have.

    Example:
      >>> paired({0: 0.70, 1: 0.72}, {0: 0.69, 1: 0.70}).mean
      0.015
    """
    by_seed = {seed: values[seed] - reference[seed] for seed in values if seed in reference}
    of_all = summary(by_seed.values())
    half = math.nan
    if of_all.n > 1:
        quantile = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, of_all.n - 1))
        half = quantile * of_all.std / math.sqrt(of_all.n)
    return Difference(by_seed, of_all.mean, of_all.std, of_all.mean - half, of_all.mean + half)
