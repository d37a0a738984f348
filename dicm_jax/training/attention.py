"""What a trained model looks at: the weight of each behavior under the ad that is shown.

Shape legend
    B   impressions     L   behaviors per group
"""

from collections.abc import Callable

import numpy as np

from dicm_jax.data.schema import GroupedImpressions
from dicm_jax.nn.dicm import DICM
from dicm_jax.training.assemble import Job
from dicm_jax.training.evaluation import reader
from dicm_jax.training.model import Model
from dicm_jax.training.state import TrainState


def attention(
    job: Job, impressions: GroupedImpressions, model: Model
) -> Callable[[TrainState], dict[str, np.ndarray]]:
    """Attention weights of every impression, by content and query.

    Args:
      job: the run.
      impressions: what is looked at, e.g. some groups of a split (`dicm_jax.data.holdout.cut`).
      model: of the run.

    Returns:
      From a state to float32 ``[B, L]`` by name: ``"image/image"`` for behavior images under the
      ad's image, ``"image/ids"`` under its ID fields. The newest ``L`` behaviors stand at the left,
      oldest first; 0 behind them. Empty for a model that pools without attention.
    """
    if model.spec.net.stage != "rank":
        return lambda state: {}
    return reader(job, impressions, model, DICM.attention)
