"""When to stop: as soon as the validation split has not got better for a while.

The decision is a function of the evaluations so far and of nothing else, so a run that was killed
and goes on decides as the straight run does.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.errors import DataError
from dicm_jax.training.state import TrainState

Evaluations = Sequence[Sequence[Any]]
"""Step and GAUC of each evaluation so far, in order."""


def best_step(evaluations: Evaluations) -> int:
    """The step with the highest GAUC; the first of equals."""
    return max(evaluations, key=lambda seen: seen[1])[0]


def is_over(evaluations: Evaluations, patience: int) -> bool:
    """Whether the last `patience` evaluations brought nothing better than those before.

    >>> is_over([(100, 0.61), (200, 0.64), (300, 0.63)], patience=2)
    False
    >>> is_over([(100, 0.61), (200, 0.64), (300, 0.63), (400, 0.635)], patience=2)
    True
    """
    if not evaluations:
        return False
    steps = [step for step, _ in evaluations]
    return len(steps) - 1 - steps.index(best_step(evaluations)) >= patience


@runtime_checkable
class Stopping(Protocol):
    """What a run does with its evaluations.

    Attributes:
      over: whether to stop.
      notes: what a checkpoint must hold of it.
    """

    @property
    def over(self) -> bool: ...

    @property
    def notes(self) -> dict[str, Any]: ...

    def add(self, step: int, gauc: float, state: TrainState) -> None:
        """Take in an evaluation."""
        ...

    def chosen(self, step: int, last: TrainState) -> tuple[int, TrainState]:
        """The step and state to end with, given the last ones."""
        ...


class WholeRun:
    """Never stops, and ends with the last state."""

    over = False

    def __init__(self):
        self.notes: dict[str, Any] = {}

    def add(self, step: int, gauc: float, state: TrainState) -> None:
        """Nothing."""

    def chosen(self, step: int, last: TrainState) -> tuple[int, TrainState]:
        """The last step and its state."""
        return step, last


class Patience:
    """Stops after evaluations without a better one, and ends with the best.

    Args:
      patience: how many evaluations.
      best: where the best state is kept.
      notes: of the checkpoint that a run goes on from; empty for a new run.
    """

    def __init__(self, patience: int, best: Checkpoints, notes: dict[str, Any]):
        self.patience, self.best = patience, best
        self.evaluations: list[Any] = list(notes.get("evaluations", []))

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return is_over(self.evaluations, self.patience)

    @property
    def notes(self) -> dict[str, Any]:
        """What a checkpoint must hold of it."""
        return {"evaluations": self.evaluations}

    def add(self, step: int, gauc: float, state: TrainState) -> None:
        """Take in an evaluation; the state is kept if there was none better.

        It is on disk when this returns: a checkpoint that speaks of a best step must not be
        finished before it, lest a kill between the two leave none to end with.

        Raises:
          DataError: the split has no GAUC to compare steps by.
        """
        if math.isnan(gauc):
            raise DataError(
                f"train.patience={self.patience}: GAUC is undefined on the validation split, where"
                " no user has both clicked and not clicked; hold out more (data.validation_share)"
                " or train without patience"
            )
        self.evaluations.append([step, gauc])
        if best_step(self.evaluations) == step:
            self.best.save(step, state)
            self.best.wait()

    def chosen(self, step: int, last: TrainState) -> tuple[int, TrainState]:
        """The best step and its state; the last where nothing was evaluated."""
        if not self.evaluations:
            return step, last
        best = best_step(self.evaluations)
        return best, self.best.restore(best, like=last)
