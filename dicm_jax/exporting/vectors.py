"""Vectors of all content rows, computed once, ahead of serving.

Shape legend
    V   content rows     E   width of vectors     D   content width
"""

from typing import Literal

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from tqdm import tqdm

from dicm_jax.ams import feature_table
from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.layout import RowLayout
from dicm_jax.checkpoint.restore import Restored
from dicm_jax.serving.format import VECTORS

Format = Literal["float32", "bfloat16", "int8"]
"""Of vectors at rest: 4, 2, or 1 byte an element and 4 a vector."""

_CHUNK = 4096


def vectors_of(run: Restored, name: str) -> np.ndarray:
    """The vectors of every row of the table behind one embedding model, float32 ``[V, E]``.

    Args:
      run: a trained run.
      name: of the embedding model.
    """
    job, embedder = run.job, run.model.embedders[name]
    content = job.spec.tables[name]
    params = jax.tree.map(np.asarray, run.state.params.embedders[name])
    count = job.log.contents[content].features.count

    @jax.jit
    def embed(table: FeatureTable) -> jax.Array:
        # Through the gather, which knows how rows are kept.
        rows = feature_table.gather(table, jnp.arange(table.stored_VD.shape[0], dtype=jnp.int32))
        return embedder.narrow(params, embedder.wide(params, rows))

    made_VE = np.empty((count, embedder.width), np.float32)
    for first in tqdm(range(0, count, _CHUNK), desc=f"vectors of {name!r}", unit="chunk"):
        keys = np.arange(first, min(first + _CHUNK, count))
        # Every chunk of one size: one compilation.
        asked = np.minimum(np.arange(first, first + min(_CHUNK, count)), count - 1)
        made_VE[keys] = np.asarray(embed(_rows(run, content, asked)))[: len(keys)]
    return made_VE


def _rows(run: Restored, content: str, keys: np.ndarray) -> FeatureTable:
    """Rows of a table by their keys, as they are kept."""
    if content in run.job.files:
        stored_VD, scale_V = run.job.files[content].gather(keys)
    else:
        table = run.job.tables[content]
        rows = RowLayout(run.job.log.contents[content].features.count).row(keys)
        stored_VD = np.asarray(table.stored_VD[rows])
        scale_V = None if table.scale_V is None else np.asarray(table.scale_V[rows])
    return FeatureTable(jnp.asarray(stored_VD), None if scale_V is None else jnp.asarray(scale_V))


def with_places(
    vectors_VE: np.ndarray, missing_ad_E: np.ndarray, missing_behavior_E: np.ndarray
) -> np.ndarray:
    """Vectors behind those of nothing and of missing content (`dicm_jax.serving.format`)."""
    special_3E = np.stack([np.zeros_like(missing_ad_E), missing_ad_E, missing_behavior_E])
    assert len(special_3E) == VECTORS
    return np.concatenate([special_3E, vectors_VE]).astype(np.float32)


def at_rest(vectors_VE: np.ndarray, format: Format) -> dict[str, np.ndarray]:
    """Vectors in a format: ``vectors`` and, for int8, the ``scale`` of each."""
    match format:
        case "float32":
            return {"vectors": vectors_VE}
        case "bfloat16":
            return {"vectors": vectors_VE.astype(ml_dtypes.bfloat16)}
        case "int8":
            stored_VE, scale_V = feature_table.to_rest(vectors_VE, "int8")
            assert scale_V is not None  # of this format
            return {"vectors": stored_VE, "scale": scale_V.astype(np.float32)}
