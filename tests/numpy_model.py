"""The model in NumPy and float64, as the formulas of the paper have it: one impression at a time,
queries and behaviors joined before each layer, every occurrence of an image compressed anew.

Parameters are the trees of `dicm_jax.training.state.Params`, brought to float64 by `in_float64`.

Shape legend
    L   behaviors of one impression    E   embedding width    Q   width of a query
    D   content width of one content   V   rows of its table
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dicm_jax.ams.keys import NO_ROW, PADDING
from dicm_jax.ams.layout import RowLayout
from dicm_jax.data.key_batch import KeyBatch
from dicm_jax.nn.similarity import CENTERS, SPREADS
from dicm_jax.training.model import ModelSpec


def in_float64(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def moved(params: Any, by: float) -> Any:
    """Parameters away from where they start, so that no bias is zero and no slope like another."""
    rng = np.random.default_rng(0)
    move = lambda x: x + by * rng.normal(size=x.shape).astype(np.float32)  # noqa: E731
    return jax.tree.map(lambda x: jnp.asarray(move(np.asarray(x))), params)


def prelu(x: np.ndarray, activation: dict[str, np.ndarray]) -> np.ndarray:
    return np.maximum(x, 0) + activation["slope"] * np.minimum(x, 0)


def dense(x: np.ndarray, layer: dict[str, np.ndarray]) -> np.ndarray:
    return x @ layer["kernel"] + layer["bias"]


def compress(params: dict[str, Any], rows: np.ndarray, output_norm: str = "none") -> np.ndarray:
    """The compressor: fully connected layers with PReLU between them, linear output."""
    x = prelu(rows @ params["first_DH"] + params["first_bias_H"], params["activations"][0])
    for i, layer in params.get("hidden", {}).items():
        x = prelu(dense(x, layer), params["activations"][i + 1])
    x = dense(x, params["output"])
    if output_norm == "rms":
        x = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6)
    return x


def activation_unit(unit: dict[str, Any], behavior_LE: np.ndarray, query_Q: np.ndarray):
    """The weight of each behavior, from ``[e ; q]``, with ``e * q`` or with all products."""
    query_LQ = np.repeat(query_Q[None], len(behavior_LE), axis=0)
    inputs, weights = [behavior_LE, query_LQ], [unit["key_EH"], unit["query_QH"]]
    if "interaction_XH" in unit:
        weights.append(unit["interaction_XH"])
        outer_LEQ = behavior_LE[:, :, None] * query_LQ[:, None, :]
        product = len(weights[-1]) == behavior_LE.shape[1]
        inputs.append(
            behavior_LE * query_LQ if product else outer_LEQ.reshape(len(behavior_LE), -1)
        )
    x = np.concatenate(inputs, axis=1) @ np.concatenate(weights) + unit["bias_H"]
    x = prelu(x, unit["activations"][0])
    for i, layer in unit.get("hidden", {}).items():
        x = prelu(dense(x, layer), unit["activations"][i + 1])
    return dense(x, unit["output"])[:, 0]


def attentive(
    unit: dict[str, Any], behavior_LE: np.ndarray, query_Q: np.ndarray, normalizer: str = "none"
) -> np.ndarray:
    """The weighted sum of the behaviors that are there."""
    if len(behavior_LE) == 0:
        return np.zeros(behavior_LE.shape[1])
    weight_L = activation_unit(unit, behavior_LE, query_Q)
    if normalizer == "softmax":
        weight_L = np.exp(weight_L - weight_L.max())
        weight_L /= weight_L.sum()
    return weight_L @ behavior_LE


def logits(params: dict[str, Any], spec: ModelSpec, sample: dict[str, Any]) -> np.ndarray:
    """Logits of (no click, click) of one impression, from its embeddings."""
    net, of_net = params["net"], spec.net
    parts = [*sample["user"], *sample["impression"]]
    width = of_net.embedding_width
    seen = [id_matches(of_net, sample, width)]
    for content in of_net.contents:
        seen += view(net.get("views", {}).get(content, {}), spec, sample, content)
    return BASIC_NETS[of_net.basic_net](net["basic_net"], spec, sample, parts, seen)


def mlp(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """Fully connected layers with PReLU between them."""
    for i, layer in params["hidden"].items():
        x = prelu(dense(x, layer), params["activations"][i])
    return dense(x, params["output"])


def embedding_mlp(params: dict[str, Any], spec: ModelSpec, sample: Any, ids: Any, seen: Any):
    pooled_K = pooled_ids(spec, sample).sum(axis=0)
    return mlp(params["head"], np.concatenate([*ids, pooled_K, *seen]))


def logistic_regression(params: dict[str, Any], spec: ModelSpec, sample: Any, ids: Any, seen: Any):
    x = np.concatenate([*ids, pooled_ids(spec, sample).sum(axis=0), *seen])
    return dense(x, params["linear"])


def din(params: dict[str, Any], spec: ModelSpec, sample: Any, ids: Any, seen: Any):
    """With PReLU: the moments of Dice are those of a batch."""
    targets = [spec.net.behavior_targets[field] for field in spec.net.pooled_fields]
    query_K = np.concatenate([sample["impression"][i] for i in targets])
    unit = params["pooling"]["unit"]
    pooled_K = attentive(unit, pooled_ids(spec, sample), query_K, spec.net.din_normalizer)
    return mlp(params["head"], np.concatenate([*ids, pooled_K, *seen]))


BASIC_NETS = {"embedding_mlp": embedding_mlp, "lr": logistic_regression, "din": din}


def id_matches(of_net: Any, sample: dict[str, Any], width: int) -> np.ndarray:
    """Inner products of the ad's ID rows and the mean of the behaviors', and those means."""
    products, means = [], []
    for field in of_net.match_fields:
        mean_E = of_fields(sample, [field], width).sum(axis=0) / max(len(sample["behavior_ids"]), 1)
        products.append([sample["impression"][of_net.behavior_targets[field]] @ mean_E])
        means.append(mean_E)
    return np.concatenate([*products, *means]) if means else np.zeros(0)


def of_fields(sample: dict[str, Any], fields: Any, width: int) -> np.ndarray:
    """Behaviors' IDs of some fields side by side."""
    ids_LK = sample["behavior_ids"]
    ids_LFE = ids_LK.reshape(len(ids_LK), ids_LK.shape[1] // width, width)
    return ids_LFE[:, list(fields)].reshape(len(ids_LK), len(fields) * width)


def pooled_ids(spec: ModelSpec, sample: dict[str, Any]) -> np.ndarray:
    """Behaviors' IDs that basic nets pool."""
    return of_fields(sample, spec.net.pooled_fields, spec.net.embedding_width)


def similarity(ad_E: np.ndarray, behavior_LE: np.ndarray) -> np.ndarray:
    """The soft histogram of cosines, its shares, the largest and the mean cosine."""
    if not len(behavior_LE):
        return np.zeros(2 * len(CENTERS) + 2)
    cosines = behavior_LE @ ad_E / np.linalg.norm(ad_E) / np.linalg.norm(behavior_LE, axis=1)
    kernels = np.exp(-((cosines[:, None] - CENTERS) ** 2) / (2.0 * SPREADS.astype(float) ** 2))
    counts = kernels.sum(axis=0)
    share = counts / len(cosines)
    return np.concatenate([np.log1p(counts), share, [cosines.max(), cosines.mean()]])


def pooled_behaviors(
    params: dict[str, Any], spec: ModelSpec, behavior_LE: np.ndarray, queries: list[np.ndarray]
) -> list[np.ndarray]:
    """What the aggregator makes of one user's behaviors."""
    of_net, width = spec.net, behavior_LE.shape[1]
    if of_net.aggregator == "sum":
        return [behavior_LE.sum(axis=0)]
    if of_net.aggregator == "max":
        return [behavior_LE.max(axis=0) if len(behavior_LE) else np.zeros(width)]
    if of_net.aggregator == "concat":
        kept_NE = np.zeros((of_net.concat_behaviors, width))
        newest = behavior_LE[-of_net.concat_behaviors :]
        kept_NE[: len(newest)] = newest
        return [kept_NE.reshape(-1)]
    return [
        attentive(pooling["unit"], behavior_LE, query_Q, of_net.normalizer)
        for pooling, query_Q in zip(params["poolings"].values(), queries, strict=False)
    ]


def view(
    params: dict[str, Any], spec: ModelSpec, sample: dict[str, Any], content: str
) -> list[np.ndarray]:
    """What one content tells about a sample."""
    parts, queries, of_net = [], [], spec.net
    if of_net.query_fields:
        queries.append(np.concatenate([sample["impression"][i] for i in of_net.query_fields]))
    if of_net.sees_ad_image:
        parts.append(sample["ad"][content])
        queries.insert(0, sample["ad"][content])
    if of_net.sees_behavior_images:
        behavior_LE = sample["behaviors"][content]
        pooled = pooled_behaviors(params.get("aggregator", {}), spec, behavior_LE, queries)
        parts += pooled
        if of_net.matches:
            parts.append(sample["ad"][content] * pooled[0])
        if of_net.compares:
            parts.append(similarity(sample["ad"][content], behavior_LE))
    return parts


def all_logits(
    params: dict[str, Any],
    spec: ModelSpec,
    features: dict[str, np.ndarray],
    keys: KeyBatch,
    n_keys: int,
) -> np.ndarray:
    """Logits of every impression of a batch of keys that is there, lane after lane.

    Args:
      params: ``net``, ``embedders`` and ``ids``, the rows of the ID table in row order.
      spec: of the model.
      features: standardised content rows by key, ``[V, D]``, by content.
      keys: the batch.
      n_keys: keys of the ID table.
    """
    layout, width = RowLayout(n_keys), spec.net.embedding_width
    model_of = {(seen.side, seen.content): seen.model for seen in spec.inputs}

    def rows(keys: np.ndarray) -> np.ndarray:
        return params["ids"][layout.row(keys[keys != PADDING])]

    def vectors(side: str, content: str, keys: np.ndarray) -> np.ndarray:
        keys = keys[keys != PADDING]
        embedder = params["embedders"][model_of[side, content]]
        made = compress(embedder, features[content][keys], spec.compressor.output_norm)
        missing_E = params["net"]["views"][content][f"no_{side}_E"]
        return np.where((keys == NO_ROW)[:, None], missing_E, made).reshape(-1, width)

    def sample(lane: int, b: int) -> dict[str, Any]:
        g = keys.group_AB[lane, b]
        ads = {name: of_AB[lane, b : b + 1] for name, of_AB in keys.ad_AB.items()}
        behaviors = {name: of_AGL[lane, g] for name, of_AGL in keys.behavior_content_AGL.items()}
        return {
            "user": rows(keys.user_AGF[lane, g]),
            "impression": rows(keys.impression_ABF[lane, b]),
            "behavior_ids": rows(keys.behavior_AGLF[lane, g]).reshape(
                -1, width * len(spec.net.behavior_targets)
            ),
            "ad": {
                name: vectors("ad", name, ads[name])[0] for side, name in model_of if side == "ad"
            },
            "behaviors": {
                name: vectors("behavior", name, behaviors[name])
                for side, name in model_of
                if side == "behavior"
            },
        }

    places = np.argwhere(keys.weight_AB > 0)
    return np.stack([logits(params, spec, sample(lane, b)) for lane, b in places])


def click_loss(logits_B2: np.ndarray, label_B: np.ndarray) -> float:
    """Mean cross-entropy."""
    top_B1 = logits_B2.max(axis=1, keepdims=True)
    log_sum_B = top_B1[:, 0] + np.log(np.exp(logits_B2 - top_B1).sum(axis=1))
    return float(np.mean(log_sum_B - logits_B2[np.arange(len(label_B)), label_B]))
