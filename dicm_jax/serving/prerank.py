"""Pre-rank: the items whose vectors have the largest inner products with a user's, exactly.

Shape legend
    N   items     P   width of the towers' vectors     B   items embedded together
"""

from collections.abc import Sequence

import numpy as np

from dicm_jax.serving import format as files
from dicm_jax.serving.engine import Engine


class Index:
    """All items' vectors. A product with every one of them is exact, and fast up to millions.

    Args:
      engine: whose items they are.
      vector_NP: their vectors, float32, in the order of `names`.
      names: of the items.
    """

    def __init__(self, engine: Engine, vector_NP: np.ndarray, names: Sequence[str]):
        self._engine = engine
        self._now = (np.ascontiguousarray(vector_NP), list(names))
        self._number = {name: number for number, name in enumerate(names)}

    @classmethod
    def of(cls, engine: Engine) -> "Index":
        """The index of a servable, as it was exported."""
        vector_NP = engine.servable.models[files.PRERANK].index_NP
        assert vector_NP is not None  # written with the model
        return cls(engine, vector_NP, engine.servable.names)

    def best(self, user_P: np.ndarray, count: int) -> list[tuple[str, float]]:
        """Names and inner products of the best items, best first; of equals the first comes first.

        Args:
          user_P: the user's vector.
          count: items asked for; fewer come where there are fewer.
        """
        vector_NP, names = self._now
        score_N = vector_NP @ user_P
        best = top(score_N, count)
        return [(names[number], float(score_N[number])) for number in best.tolist()]

    def add(self, names: Sequence[str]) -> None:
        """Takes up items that the engine has got, or has got anew."""
        lookup = self._engine.lookup
        place_B = lookup.candidates(names)
        vector_BP = self._engine.item_vectors(place_B, lookup.usual_context(place_B))
        vector_NP, known = self._now
        new = [name for name in dict.fromkeys(names) if name not in self._number]
        number = {name: len(known) + i for i, name in enumerate(new)}
        grown_NP = np.concatenate([vector_NP, np.zeros((len(new), vector_NP.shape[1]), np.float32)])
        for name, vector_P in zip(names, vector_BP, strict=True):
            grown_NP[number.get(name, self._number.get(name, 0))] = vector_P
        self._number |= number
        self._now = (grown_NP, known + new)  # both at once, for who reads them meanwhile


def top(score_N: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the `count` largest scores, largest first; of equal ones the first comes first."""
    count = min(count, len(score_N))
    if count == 0:
        return np.zeros(0, np.int64)
    lowest = np.partition(score_N, len(score_N) - count)[len(score_N) - count]
    above = np.flatnonzero(score_N > lowest)
    ties = np.flatnonzero(score_N == lowest)[: count - len(above)]
    chosen = np.concatenate([above, ties])
    return chosen[np.lexsort((chosen, -score_N[chosen]))]
