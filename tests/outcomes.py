"""What is left of a run, and how far it is from what is left of another.

Differences are measured tensor by tensor, as the norm of the difference over the norm.
"""

import dataclasses
import inspect
from typing import Any

import jax
import numpy as np

from dicm_jax.training.servers import Traffic
from tests import small_world


@dataclasses.dataclass
class Outcome:
    """What is left of a run.

    Attributes:
      losses: of each step.
      rounds: most rounds of any exchange.
      traffic: of each step.
      leaves: every array of the last state, by name.
      traces: how often each of the step's programs was traced.
      run: where it ended.
    """

    losses: np.ndarray
    rounds: int
    traffic: list[Traffic]
    leaves: dict[str, np.ndarray]
    traces: set[int]
    run: small_world.Run


def outcome(run: small_world.Run, steps: int) -> Outcome:
    """Take `steps` steps."""
    reports = run.go(steps)
    return Outcome(
        np.array([report.workers.loss for report in reports]),
        max(int(report.rounds) for report in reports),
        [jax.tree.map(int, report.traffic) for report in reports],
        {name: np.asarray(leaf) for name, leaf in leaves_by_name(run.state).items()},
        {program._cache_size() for program in programs(run.step)},
        run,
    )


def programs(step: Any) -> list[Any]:
    """The jitted programs of a step: itself, or those that it calls one after another."""
    if hasattr(step, "_cache_size"):
        return [step]
    # Under the tests' checker of annotations, the step is wrapped.
    held = [cell.cell_contents for cell in inspect.unwrap(step).__closure__]
    return [program for program in held if hasattr(program, "_cache_size")]


def leaves_by_name(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Norm of the difference over the norm of `b`."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30))


def assert_same(found: Outcome, expected: Outcome, tolerance: float = 1e-5) -> None:
    """Losses and every array of the state are the same up to rounding.

    Errors that wires leave are not looked at: each requester has its own.
    """
    np.testing.assert_allclose(found.losses, expected.losses, rtol=tolerance)
    here, there = _measured(found.leaves), _measured(expected.leaves)
    assert here.keys() == there.keys()
    worst = {name: difference(here[name], there[name]) for name in there}
    assert max(worst.values()) < tolerance, max(worst.items(), key=lambda item: item[1])
    assert found.traces == {1}


def _measured(leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors to be measured: a single number belongs to the kernel that it stands beside.

    Alone, a bias of one number may be as near to zero as it likes, and its rounding is not.
    """
    kept = {name: leaf for name, leaf in leaves.items() if not name.startswith("errors")}
    measured = {}
    for name, leaf in kept.items():
        kernel = name.rpartition(".")[0] + ".kernel"
        if leaf.size == 1 and kernel in kept:
            leaf = np.concatenate([leaf.ravel(), kept[kernel].ravel()])
        measured[name] = leaf
    return measured
