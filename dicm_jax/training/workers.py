"""What the workers do in a step: vectors to loss, and gradients of all that they were given.

Per device.

Shape legend
    K   slots of a list of rows     B   impressions     E   embedding width
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array

from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.feedback import Errors, correct
from dicm_jax.ams.mesh import BOTH
from dicm_jax.ams.order import after
from dicm_jax.ams.plan import Request
from dicm_jax.ams.strategy import Kept
from dicm_jax.training.batch import IDS, Samples
from dicm_jax.training.model import Model, Pulled, click_loss
from dicm_jax.training.servers import Exchanges, Lists
from dicm_jax.training.state import Params

SumLists = Callable[[Any], Any]
"""Sums what the workers of one list found for it; the identity where each has a list of its own."""


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WorkerReport:
    """What workers tell the host.

    Attributes:
      loss: mean cross-entropy of the batch's impressions, nat.
      magnitudes: sum of squares of each watched tensor, by name in the order in which a step makes
        them; not finite exactly where the tensor is not (or its squares overflow).
      impressions: impressions of the batch, padding left out.
      stop: above 0 where a process was asked to stop.
    """

    loss: Array
    magnitudes: OrderedDict[str, Array]
    impressions: Array
    stop: Array


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Vectors on a worker, and what the gradient of embedding models needs if they live there."""

    vectors: dict[str, Array]
    kept: dict[str, Kept | None]


def embed(
    exchanges: Exchanges,
    embedders: dict[str, Any],
    given: dict[str, Any],
    lists: dict[str, Request],
    rows: dict[str, FeatureTable],
) -> Embedded:
    """The vectors of all lists, made here of raw rows, or as the servers sent them."""
    vectors, kept = {}, {}
    for name, channel in exchanges.content.items():
        of_name = rows[name] if exchanges.strategy.rows_in_batch else given[name]
        with jax.named_scope(f"embed_{name}"):
            vectors[name], kept[name] = exchanges.strategy.embed(
                channel, embedders.get(name), of_name, lists[name]
            )
    return Embedded(vectors, kept)


@dataclasses.dataclass(frozen=True)
class Gradients:
    """What a worker found.

    Attributes:
      loss: its share of the loss.
      net: its share of the gradient of the network.
      pulled: gradients of the ID rows and vectors of its lists.
      moments: moving averages of the network's batch statistics after this batch.
    """

    loss: Array
    net: Any
    pulled: Lists
    moments: dict[str, Any]


def differentiate(
    model: Model,
    pulled: Pulled,
    total: Array,
) -> Gradients:
    """Loss of this worker's samples, as a share of `total` impressions, and its gradients.

    Batch statistics, where the network has any, are those of all devices; what one device's samples
    do to another's through them is part of the gradient.
    """
    samples = pulled.samples

    def loss_of(params: Any, ids_KE: Array, vectors: dict[str, Array]) -> tuple[Array, Any]:
        given = dataclasses.replace(pulled, params=params, ids_KE=ids_KE, vectors=vectors)
        logits_B2, moments = model.training_logits(given, lambda x: lax.psum(x, BOTH))
        return click_loss(logits_B2, samples.label_B, samples.weight_B) / total, moments

    with jax.named_scope("worker"):
        (loss, moments), (net, ids_KE, vectors) = jax.value_and_grad(
            loss_of, argnums=(0, 1, 2), has_aux=True
        )(pulled.params, pulled.ids_KE, pulled.vectors)
    return Gradients(loss, net, Lists(ids_KE, vectors), moments)


def gradients_of_embedders(
    exchanges: Exchanges,
    embedders: dict[str, Any],
    given: dict[str, Any],
    rows: dict[str, FeatureTable],
    embedded: Embedded,
    gradients: dict[str, Array],
) -> dict[str, Any]:
    """This worker's share of the gradients of embedding models that live on workers."""
    if exchanges.strategy.at_servers:
        return {}
    return {
        name: exchanges.strategy.gradient_at_worker(
            channel,
            embedders[name],
            rows[name] if exchanges.strategy.rows_in_batch else given[name],
            embedded.kept[name],
            gradients[name],
        )
        for name, channel in exchanges.content.items()
    }


def to_send(
    exchanges: Exchanges,
    pulled: Lists,
    lists: dict[str, Request],
    errors: dict[str, Errors],
    sum_lists: SumLists,
) -> tuple[Lists, dict[str, Errors]]:
    """The gradients to push, corrected for what rounding takes, and the errors that are left."""
    content = pulled.content if exchanges.strategy.at_servers else {}
    summed = sum_lists({IDS: pulled.ids_KE} | content)
    left = {}
    for name, kept in errors.items():
        summed[name], left[name] = correct(
            kept, lists[name].rows_K, summed[name], exchanges.wires[name]
        )
    return Lists(summed.pop(IDS), summed), left


def sum_over_devices(gradients: Any, *done: Array) -> Any:
    """Gradients summed over all devices, after every array of `done`."""
    return lax.psum(after(gradients, *done), BOTH)


def move_dense(
    optimizer: optax.GradientTransformation, gradients: Any, kept: Any, params: Any
) -> tuple[Any, Any]:
    """New parameters, and what the optimizer keeps for the next step."""
    # Optax counts steps in integers and multiplies them with floats, which the strict promotion
    # that everything else is tested under forbids.
    with jax.named_scope("update_dense"), jax.numpy_dtype_promotion("standard"):
        updates, kept = optimizer.update(gradients, kept, params)
        return optax.apply_updates(params, updates), kept


def report(
    found: Gradients,
    ids_KE: Array,
    vectors: dict[str, Array],
    gradients: Params,
    samples: Samples,
    total: Array,
    *done: Array,
) -> WorkerReport:
    """Sums over devices of what each of them saw, after every array of `done`."""
    local = OrderedDict({"ID rows": _squares(ids_KE)})  # jax sorts the keys of a plain dict
    local |= {f"vectors of compressor {name!r}": _squares(x) for name, x in vectors.items()}
    local |= {"loss": found.loss, "gradient of ID rows": _squares(found.pulled.ids_KE)}
    summed, stop = lax.psum(after((local, samples.stop[0]), *done), BOTH)
    return WorkerReport(summed["loss"], summed | magnitudes(gradients), total, stop)


def magnitudes(gradients: Any) -> OrderedDict[str, Array]:
    """Sum of squares of each dense gradient."""
    return OrderedDict((f"gradient of {name}", _squares(x)) for name, x in named_leaves(gradients))


def named_leaves(params: Any) -> list[tuple[str, Array]]:
    """Every array of a tree with its path, e.g. ``net.head.output.kernel``."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]


def _squares(x: Array) -> Array:
    return jnp.sum(jnp.square(x))
