"""Serving: a servable, a ranker over it, and an HTTP service. Imports no training code."""

from dicm_jax.serving.ranker import Ranker
from dicm_jax.serving.request import NewItem, Query, Ranking, User

__all__ = ["NewItem", "Query", "Ranker", "Ranking", "User"]
