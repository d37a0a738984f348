"""A split's scores as the service gives them: every group is a request over HTTP."""

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks._serving_load import HOST
from dicm_jax.data.schema import ClickLog, GroupedImpressions
from dicm_jax.exporting.check import queries_of


class Client:
    """One kept connection to a service."""

    def __init__(self, port: int):
        self._connection = http.client.HTTPConnection(HOST, port, timeout=60)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the service answers.

        Raises:
          RuntimeError: it does not answer with 200.
        """
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", path, json.dumps(body), headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {text.decode()}")
        return json.loads(text)


def served_split(
    client: Client, log: ClickLog, split: GroupedImpressions, models: Sequence[str]
) -> dict[str, np.ndarray]:
    """Scores of every impression by model, float32 ``[B]``."""
    found: dict[str, list[float]] = {model: [] for model in models}
    for query in tqdm(queries_of(log, split), total=split.n_groups, desc="groups asked for"):
        body = {
            "user": {"fields": dict(query.user.fields), "behaviors": list(query.user.behaviors)},
            "candidates": list(query.candidates),
            "context": {name: np.asarray(keys).tolist() for name, keys in query.context.items()},
        }
        for model in models:
            found[model] += client.post("/v1/rank", body | {"model": model})["scores"]
    return {model: np.array(scores, np.float32) for model, scores in found.items()}
