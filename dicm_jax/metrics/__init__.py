"""Exact measures of click prediction, computed on the host with NumPy.

`score` gives all of them at once; the parts (`auc`, `gauc`, `auc_by_user`, `log_loss`) are there
for other weightings and for analysis.
"""

from dicm_jax.metrics.evaluation import Scores, score
from dicm_jax.metrics.logloss import log_loss
from dicm_jax.metrics.ranking import UserAuc, auc, auc_by_user, gauc, relaimpr

__all__ = ["Scores", "UserAuc", "auc", "auc_by_user", "gauc", "log_loss", "relaimpr", "score"]
