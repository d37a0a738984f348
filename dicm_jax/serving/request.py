"""What a ranker is asked, and what it answers."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

Value = int | str
"""Of an ID field: a key of its vocabulary, or the ID that the key stands for where it is known."""
Values = Sequence[Value] | np.ndarray
"""Of a field, one for each candidate."""
NOTHING: Mapping = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class User:
    """Who is asked for.

    Attributes:
      fields: values of user fields, by name; those left out count as unknown.
      behaviors: names of the items he clicked, oldest first. Those that the servable does not know
        are left out; of more than it sees, the newest are taken.
    """

    fields: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    behaviors: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Query:
    """Candidates to be ranked for a user.

    Attributes:
      user: the user.
      candidates: names of items.
      context: values of context fields, by name, one for each candidate; of those left out an
        item's newest in the log is taken.
    """

    user: User
    candidates: Sequence[str]
    context: Mapping[str, Values] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Ranking:
    """An answer.

    Attributes:
      scores: float32 ``[B]``, click probabilities in the order of the candidates.
      version: of the servable that gave them.
      behaviors: names of the behaviors that were seen, oldest first.
      unknown_behaviors: behaviors left out, as the servable does not know them.
    """

    scores: np.ndarray
    version: str
    behaviors: tuple[str, ...]
    unknown_behaviors: int

    @property
    def order(self) -> np.ndarray:
        """Candidates from the highest score to the lowest; of equal ones the first comes first."""
        return np.argsort(-self.scores, kind="stable")


@dataclasses.dataclass(frozen=True)
class NewItem:
    """An item that is to be served from now on.

    Attributes:
      name: what requests call it; an item of this name is replaced.
      fields: values of item fields, by name; those left out, or without a trained row, count as
        unknown.
      features: its feature row by content, as its encoder makes them, ``[D]``.
      context: values of context fields, by name.
    """

    name: str
    fields: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    features: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    context: Mapping[str, Value] = dataclasses.field(default_factory=dict)
