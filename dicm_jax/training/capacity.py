"""How much room the exchanges get: bounds that cannot be exceeded, and a measured usual case."""

import numpy as np

from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import MeshShape
from dicm_jax.ams.plan import UNUSED, Capacity, Request
from dicm_jax.data.batches import BatchSource, KeyBatch
from dicm_jax.training.batch import Capacities, ImageModels, plan_batch

SAMPLED_BATCHES = 12
_ROUND_UP_TO = 128


def measured_capacities(
    source: BatchSource,
    mesh: MeshShape,
    image_models: ImageModels,
    factor: float,
) -> Capacities:
    """Capacities from batches spread over the training set.

    Room for unique rows is the bound that the batch's shape sets. Room for the rows between one
    device and one server is `factor` times the most seen in the sampled batches: a batch that needs
    more is served in more rounds.

    Args:
      source: the batches to sample from; the same ones each time, so that a run that goes on has
        the program of the run that was stopped.
      mesh: devices and servers.
      image_models: which embedding model sees which input.
      factor: at least 1.
    """
    numbers = np.unique(np.linspace(0, len(source) - 1, SAMPLED_BATCHES).astype(int))
    samples = [source[int(n)] for n in numbers]
    bounds = _bounds(samples[0], source, mesh, image_models)
    plans = [plan_batch(keys, mesh.devices, bounds, image_models) for keys in samples]
    return Capacities(
        ids=_usual(bounds.ids, [batch.ids for batch in plans], mesh, factor),
        content={
            name: _usual(bound, [batch.content[name] for batch in plans], mesh, factor)
            for name, bound in bounds.content.items()
        },
    )


def _bounds(
    keys: KeyBatch, source: BatchSource, mesh: MeshShape, image_models: ImageModels
) -> Capacities:
    places = {"ad": keys.ad_image_AB.size, "behavior": keys.behavior_image_AGL.size}
    id_places = keys.user_AGF.size + keys.impression_ABF.size + keys.behavior_AGL.size
    ids = RowLayout(source.stack.n_keys)
    images = RowLayout(len(source.log.features.rows_VD))
    content = {
        model: sum(places[name] for name in image_models if image_models[name] == model)
        for model in set(image_models.values())
    }
    return Capacities(
        ids=_bound(id_places, ids, mesh),
        content={model: _bound(count, images, mesh) for model, count in content.items()},
    )


def _bound(places: int, layout: RowLayout, mesh: MeshShape) -> Capacity:
    unique = min(places // mesh.devices, layout.n_rows)
    return Capacity(unique, unique, mesh.server, layout)


def _usual(bound: Capacity, requests: list[Request], mesh: MeshShape, factor: float) -> Capacity:
    most = max(_most_per_server(request, bound, mesh) for request in requests)
    room = -(-max(1, int(most * factor)) // _ROUND_UP_TO) * _ROUND_UP_TO
    return Capacity(bound.unique, min(room, bound.unique), bound.servers, bound.layout)


def _most_per_server(request: Request, bound: Capacity, mesh: MeshShape) -> int:
    rows_NK = np.asarray(request.rows_K).reshape(mesh.devices, -1)
    device_NK = np.broadcast_to(np.arange(mesh.devices)[:, None], rows_NK.shape)
    wanted = rows_NK != UNUSED
    pair = device_NK[wanted] * bound.servers + rows_NK[wanted] // bound.rows_per_server
    return int(np.bincount(pair, minlength=1).max())
