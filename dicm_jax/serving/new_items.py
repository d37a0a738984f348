"""Items that come while a servable is served: embedded, and ranked from the next request on.

Shape legend
    N   new items     F   ID fields of a level     V   places of vectors     D   content width
"""

import threading
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dicm_jax.errors import RequestError, TooLargeError
from dicm_jax.serving import format as files
from dicm_jax.serving.engine import EMBEDDED_AT_ONCE, Engine
from dicm_jax.serving.request import NewItem
from dicm_jax.serving.servable import Servable, ServedModel

Features = Mapping[str, np.ndarray]
"""Feature rows by content."""


class NewItems:
    """What has been added to an engine.

    Args:
      engine: whose tables have room for them.
    """

    def __init__(self, engine: Engine):
        self._engine, self._lock = engine, threading.Lock()
        self._place = len(engine.servable.names) + 1
        self._rows: dict[str, dict[str, int]] = {}
        self._first_row = {
            content: _rows_of(engine.servable, content) for content in engine.servable.rows_N
        }
        self._write = jax.jit(_written)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, items: Sequence[NewItem]) -> None:
        """Embeds items and lets them be ranked from now on; all of them or none.

        Raises:
          RequestError: a field or a feature row that does not fit.
          TooLargeError: there is no room for so many.
        """
        lookup = self._engine.lookup
        fields_NF = [lookup.item(item.fields) for item in items]
        context_NF = [lookup.context_row(item.context) for item in items]
        features = [self._checked(item) for item in items]
        with self._lock:
            self._check_room({item.name for item in items})
            for first in range(0, len(items), EMBEDDED_AT_ONCE):
                part = slice(first, first + EMBEDDED_AT_ONCE)
                names = [item.name for item in items[part]]
                self._add(
                    names, np.stack(fields_NF[part]), np.stack(context_NF[part]), features[part]
                )

    def warm(self) -> None:
        """Compiles the writes to every table."""
        for tables in self._engine.tables.values():
            for name, table in tables.items():
                if name != "ids":
                    nothing = np.zeros((1, *table.shape[1:]), table.dtype)
                    self._write(table, *_repeated(np.zeros(1, np.int32), nothing))

    def _check_room(self, names: set[str]) -> None:
        taken, new, room = len(self._rows), len(names - self._rows.keys()), self._engine.room
        if taken + new > room:
            raise TooLargeError(
                f"no room for {new} new items: {taken} of {room} places are taken; start the"
                " service with a larger --room, or export again with them in the log"
            )

    def _add(
        self,
        names: Sequence[str],
        fields_NF: np.ndarray,
        context_NF: np.ndarray,
        features: Sequence[Features],
    ) -> None:
        engine = self._engine
        place_N = np.array([self._place_of(name) for name in names], np.int32)
        rows = {
            content: np.array(
                [
                    self._row_of(name, content, given)
                    for name, given in zip(names, features, strict=True)
                ],
                np.int32,
            )
            for content in self._first_row
        }
        for name, model in engine.servable.models.items():
            writes = {"items": (place_N, fields_NF)}
            for seen in model.inputs:
                content, row_N = seen["content"], rows[seen["content"]]
                writes[f"{content}_rows"] = (place_N, row_N)
                given = [row[content] for row in features if content in row]
                if given:
                    made_VE = engine.embed(name, seen["model"], np.stack(given))
                    there = row_N >= files.VECTORS
                    for table, values in at_rest(model, seen["model"], made_VE).items():
                        writes[table] = (row_N[there], values)
            tables = dict(engine.tables[name])
            for table, (place, values) in writes.items():
                tables[table] = self._write(tables[table], *_repeated(place, values))
            engine.tables[name] = tables
        engine.lookup.add(names, place_N, context_NF)

    def _place_of(self, name: str) -> int:
        self._rows.setdefault(name, {})
        if self._engine.lookup.knows(name):
            return self._engine.lookup.place(name)
        self._place += 1
        return self._place - 1

    def _row_of(self, name: str, content: str, given: Features) -> int:
        """The place of a vector: an item's own, as one of the catalogue may be shared."""
        if content not in given:
            return files.MISSING_AD
        first, taken = self._first_row[content], self._rows[name]
        if content not in taken:
            taken[content] = first + sum(content in of for of in self._rows.values())
        return taken[content]

    def _checked(self, item: NewItem) -> Features:
        signature = self._engine.servable.signature
        made = {}
        for content, given_D in item.features.items():
            if content not in signature["contents"]:
                raise RequestError(
                    f"item {item.name!r} has features of {content!r}: this servable knows"
                    f" {', '.join(signature['contents']) or 'none'}"
                )
            width = signature["contents"][content]["width"]
            row_D = np.asarray(given_D, np.float32)
            if row_D.shape != (width,):
                raise RequestError(
                    f"item {item.name!r}: features of {content!r} have shape {row_D.shape}; give"
                    f" {width} numbers, as the encoder makes them"
                )
            if not np.isfinite(row_D).all():
                at = int(np.flatnonzero(~np.isfinite(row_D))[0])
                raise RequestError(
                    f"item {item.name!r}: features of {content!r} hold {row_D[at]} at number {at}:"
                    " give finite numbers"
                )
            made[content] = row_D
        return made


def at_rest(model: ServedModel, name: str, made_VE: np.ndarray) -> dict[str, np.ndarray]:
    """Vectors in the format of a model's table, by the name of the array."""
    stored = model.tables[f"{name}_vectors"].dtype
    if f"{name}_scale" not in model.tables:
        return {f"{name}_vectors": made_VE.astype(stored)}
    scale_V = np.maximum(np.abs(made_VE).max(axis=1), 1e-12) / np.float32(127)
    return {
        f"{name}_vectors": np.rint(made_VE / scale_V[:, None]).astype(stored),
        f"{name}_scale": scale_V.astype(np.float32),
    }


def _rows_of(servable: Servable, content: str) -> int:
    """The first free place of a vector, the same in all models that see this content."""
    for model in servable.models.values():
        for seen in model.inputs:
            if seen["content"] == content:
                return len(model.tables[f"{seen['model']}_vectors"])
    return files.VECTORS


def _written(table: jax.Array, place_N: jax.Array, values: jax.Array) -> jax.Array:
    return table.at[place_N].set(values)


def _repeated(place_N: np.ndarray, values: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """As many entries as one write has, the first one again and again behind the last."""
    spare = np.zeros(EMBEDDED_AT_ONCE - len(place_N), int)
    at = np.concatenate([np.arange(len(place_N)), spare])
    return jnp.asarray(place_N[at]), jnp.asarray(values[at])
