"""Rank candidates for users by a servable, from Python.

    from dicm_jax.serving import Query, Ranker, User

    ranker = Ranker("servables/dicm")
    ranking = ranker.rank(User({"gender": 1}, behaviors=["17", "4"]), ["5", "99", "23"])
    ranking.scores                                 # click probabilities, float32

Shape legend
    B   candidates     L   behaviors that are seen
"""

import copy
import dataclasses
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dicm_jax.errors import RequestError, UnknownNameError
from dicm_jax.serving import servable as servables
from dicm_jax.serving.buckets import USUAL, Bucket
from dicm_jax.serving.engine import Engine
from dicm_jax.serving.format import BASELINE, DICM, PRERANK
from dicm_jax.serving.new_items import NewItems
from dicm_jax.serving.prerank import Index
from dicm_jax.serving.request import NOTHING, NewItem, Query, Ranking, User, Values
from dicm_jax.serving.servable import Servable


@dataclasses.dataclass(frozen=True)
class _Current:
    """What answers now; replaced as a whole by a reload."""

    engine: Engine
    new_items: NewItems
    index: Index | None
    examples: dict[str, Any]
    users: dict[str, User]


class Ranker:
    """Ranks candidates. May be used by several threads at once.

    Args:
      folder: of a servable, or of its versions, of which the newest is taken.
      device: where it runs; None for the first one.
      room: items that can be added while it runs.
      buckets: shapes that programs are compiled for, now; other sizes are cut or filled up.
      verify: compare the files with their checksums.
      hurry: compile only what ranks; `finish` does the rest, such as what adds items. What is asked
        for in between is compiled then.

    Raises:
      ServableError: there is no servable, or one that cannot be used.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        device: Any = None,
        room: int = 10_000,
        buckets: Sequence[Bucket] = USUAL,
        verify: bool = True,
        hurry: bool = False,
    ):
        self._settings = {"device": device, "room": room, "buckets": buckets}
        self._hurry, self._verify, self._added = hurry, verify, dict[str, NewItem]()
        self._reloading, self._changing = threading.Lock(), threading.Lock()
        self._now = self._loaded(Path(folder))

    def finish(self) -> None:
        """Compiles what a ranker that was made in a hurry has left."""
        self._now.engine.warm_rest()
        self._now.new_items.warm()

    def frozen(self) -> "Ranker":
        """One that goes on answering by the servable of now after a reload of this one.

        So several answers to one question agree. It shares everything with this one: add items, and
        reload, here.
        """
        return copy.copy(self)

    @property
    def servable(self) -> Servable:
        """The one that answers now."""
        return self._now.engine.servable

    @property
    def version(self) -> str:
        """Of the servable that answers now."""
        return self.servable.version

    @property
    def examples(self) -> dict[str, Any]:
        """``examples.json``: users of the log to look at, and photos of the items they saw."""
        return self._now.examples

    @property
    def users(self) -> Mapping[str, User]:
        """The same users, as queries name them."""
        return self._now.users

    @property
    def items(self) -> int:
        """Items that can be ranked."""
        return self._now.engine.lookup.items

    def rank(
        self,
        user: User,
        candidates: Sequence[str],
        context: Mapping[str, Values] = NOTHING,
        *,
        model: str = DICM,
        images: bool = True,
    ) -> Ranking:
        """Click probabilities of candidates for a user.

        Args:
          user: the user.
          candidates: names of items.
          context: values of context fields, one for each candidate.
          model: ``"dicm"``, or ``"baseline"`` for the model without images, where there is one.
          images: False: as if no item had a photo.

        Raises:
          RequestError: the request cannot be answered; says why.
        """
        return self.rank_many([Query(user, candidates, context)], model=model, images=images)[0]

    def rank_many(
        self, queries: Sequence[Query], *, model: str = DICM, images: bool = True
    ) -> list[Ranking]:
        """`rank` for several users at once; small ones share calls."""
        engine = self._now.engine
        self._check(engine, model, "rank")
        encoded = [engine.encode(query) for query in queries]
        scores = engine.scores([query for query, _, _ in encoded], model=model, images=images)
        return [
            Ranking(scores_B, engine.servable.version, tuple(seen), unknown)
            for scores_B, (_, seen, unknown) in zip(scores, encoded, strict=True)
        ]

    def attention(self, query: Query, *, model: str = DICM) -> dict[str, np.ndarray]:
        """What each behavior that is seen counts for each candidate.

        Returns:
          Weights ``[B, L]`` by content and query, such as ``"image/image"``; empty for a model that
          pools behaviors without attention.
        """
        engine = self._now.engine
        self._check(engine, model, "rank")
        encoded, _, _ = engine.encode(query)
        return engine.attention(encoded, model=model)

    def prerank(self, user: User, count: int) -> list[tuple[str, float]]:
        """The `count` items of the largest inner product with the user, exact, best first.

        Raises:
          RequestError: the servable has no Pre-rank model.
        """
        now = self._now
        self._check(now.engine, PRERANK, "prerank")
        assert now.index is not None  # there is a model
        behavior_L, _, _ = now.engine.lookup.behaviors(user.behaviors)
        user_P = now.engine.user_vector(now.engine.lookup.user(user), behavior_L)
        return now.index.best(user_P, count)

    def add_items(self, items: Sequence[NewItem]) -> None:
        """Adds new items, or replaces those of the same names: ranked from the next call on.

        They stay through a reload, until a servable knows them itself.

        Raises:
          RequestError: one of them does not fit; then none is added.
        """
        with self._changing:
            self._add(self._now, items)
            self._added |= {item.name: _compact(item) for item in items}

    def reload(self, folder: str | Path) -> None:
        """Answers by another servable from now on; calls that have begun end on the old one.

        Raises:
          ServableError: it cannot be used; the old one goes on.
          RequestError: items that were added do not fit it; the old one goes on.
        """
        with self._reloading:
            loaded = self._loaded(Path(folder), self._now)
            known = frozenset(loaded.engine.servable.names)
            with self._changing:
                early = dict(self._added)
            self._add(loaded, [item for name, item in early.items() if name not in known])
            # Items may have come in these seconds; the last ones are waited for.
            with self._changing:
                late = [item for name, item in self._added.items() if early.get(name) is not item]
                self._add(loaded, [item for item in late if item.name not in known])
                self._added = {n: item for n, item in self._added.items() if n not in known}
                self._now = loaded

    def _loaded(self, folder: Path, before: _Current | None = None) -> _Current:
        servable = servables.read(folder, verify=self._verify)
        known = before.engine.known if before else {}
        engine = Engine(servable, **self._settings, known=known)
        new_items = NewItems(engine)
        engine.warm_ranking()
        if before is not None or not self._hurry:
            engine.warm_rest()
            new_items.warm()
        index = Index.of(engine) if PRERANK in servable.models else None
        examples = servables.examples_of(servable)
        users = {user["id"]: User(user["fields"], user["behaviors"]) for user in examples["users"]}
        return _Current(engine, new_items, index, examples, users)

    @staticmethod
    def _add(current: _Current, items: Sequence[NewItem]) -> None:
        if not items:
            return
        current.new_items.add(items)
        if current.index is not None:
            current.index.add([item.name for item in items])

    @staticmethod
    def _check(engine: Engine, model: str, stage: str) -> None:
        models = engine.servable.models
        if model not in models or models[model].stage != stage:
            known = [name for name, made in models.items() if made.stage == stage]
            there = f"has {', '.join(known)}" if known else "has none"
            what = "ranks" if stage == "rank" else "preranks"
            error = RequestError if model in (DICM, BASELINE, PRERANK) else UnknownNameError
            raise error(
                f"no model {model!r} that {what} in servable {engine.servable.version}: it {there}"
            )


def _compact(item: NewItem) -> NewItem:
    """An item to be kept for long: numbers of a list take eight times the room of an array's."""
    rows = {content: np.asarray(row_D, np.float32) for content, row_D in item.features.items()}
    return dataclasses.replace(item, features=rows)
