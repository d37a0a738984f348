"""Items that come while a servable is served: embedded, and ranked from the next request on.

Shape legend
    N   new items     F   ID fields of a level     V   places of vectors     D   content width
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any

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
_LARGEST = 1e6
"""Element of a vector: of trained ones it is about 1, and a network of them stays finite."""


@dataclasses.dataclass(frozen=True)
class _Made:
    """An item as places, ready to be written."""

    name: str
    fields_F: np.ndarray
    context_F: np.ndarray
    features: Features


class NewItems:
    """What has been added to an engine.

    Args:
      engine: whose tables have room for them.
    """

    def __init__(self, engine: Engine):
        self._engine, self._lock = engine, threading.Lock()
        self._place = len(engine.servable.names) + 1
        self._rows: dict[str, dict[str, int]] = {}
        self._next_row = {
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
        items = list({item.name: item for item in items}.values())  # of one name the last
        made = [
            _Made(
                item.name,
                lookup.item(item.fields),
                lookup.context_row(item.context),
                self._checked(item),
            )
            for item in items
        ]
        parts = [made[n : n + EMBEDDED_AT_ONCE] for n in range(0, len(made), EMBEDDED_AT_ONCE)]
        vectors = [self._vectors(part) for part in parts]  # before anything is changed
        with self._lock:
            self._check_room({item.name for item in items})
            for part, of_part in zip(parts, vectors, strict=True):
                self._add(part, of_part)

    def warm(self) -> None:
        """Compiles the writes to every table."""
        for tables in self._engine.tables.values():
            for name, table in tables.items():
                if name != "ids" and not files.is_weight(name):
                    nothing = np.zeros((1, *table.shape[1:]), table.dtype)
                    self._write(table, *_repeated(np.zeros(1, np.int32), nothing))

    def _check_room(self, names: set[str]) -> None:
        taken, new, room = len(self._rows), len(names - self._rows.keys()), self._engine.room
        if taken + new > room:
            raise TooLargeError(
                f"no room for {new} new items: {taken} of {room} places are taken; start the"
                " service with a larger --room, or export again with them in the log"
            )

    def _vectors(self, items: Sequence[_Made]) -> dict[tuple[str, str], np.ndarray]:
        """Vectors of the items that have features, by model and embedding model."""
        made = {}
        for name, model in self._engine.servable.models.items():
            for seen in model.inputs:
                given = [item for item in items if seen["content"] in item.features]
                if given and (name, seen["model"]) not in made:
                    rows_RD = np.stack([item.features[seen["content"]] for item in given])
                    vectors_RE = self._engine.embed(name, seen["model"], rows_RD)
                    _check_vectors(given, seen["content"], vectors_RE)
                    made[name, seen["model"]] = vectors_RE
        return made

    def _add(self, items: Sequence[_Made], vectors: Mapping[tuple[str, str], np.ndarray]) -> None:
        engine, names = self._engine, [item.name for item in items]
        place_N = np.array([self._place_of(name) for name in names], np.int32)
        rows = {
            content: np.array([self._row_of(item, content) for item in items], np.int32)
            for content in self._next_row
        }
        for name, model in engine.servable.models.items():
            writes = {"items": (place_N, np.stack([item.fields_F for item in items]))}
            for seen in model.inputs:
                row_N = rows[seen["content"]]
                writes[f"{seen['content']}_rows"] = (place_N, row_N)
                if (name, seen["model"]) in vectors:
                    own_V = row_N[row_N >= files.VECTORS]
                    made_VE = vectors[name, seen["model"]]
                    for table, values in at_rest(model, seen["model"], made_VE).items():
                        writes[table] = (own_V, values)
            tables = dict(engine.tables[name])
            for table, (place, values) in writes.items():
                tables[table] = self._write(tables[table], *_repeated(place, values))
            engine.tables[name] = tables
        engine.lookup.add(names, place_N, np.stack([item.context_F for item in items]))

    def _place_of(self, name: str) -> int:
        self._rows.setdefault(name, {})
        if self._engine.lookup.knows(name):
            return self._engine.lookup.place(name)
        self._place += 1
        return self._place - 1

    def _row_of(self, item: _Made, content: str) -> int:
        """The place of a vector: an item's own, as one of the catalogue may be shared."""
        if content not in item.features:
            return files.MISSING_AD
        taken = self._rows[item.name]
        if content not in taken:
            taken[content] = self._next_row[content]
            self._next_row[content] += 1
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
            row_D = _numbers(item.name, content, given_D)
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


def _numbers(name: str, content: str, given_D: Any) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # becomes infinite, and is refused as that
            return np.asarray(given_D, np.float32)
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"item {name!r}: features of {content!r} are no row of numbers ({error}): give them as"
            " the encoder makes them"
        ) from None


def _check_vectors(items: Sequence[_Made], content: str, vectors_RE: np.ndarray) -> None:
    for item, vector_E in zip(items, vectors_RE, strict=True):
        if not (largest := np.abs(vector_E).max()) < _LARGEST:  # nor NaN
            given = np.abs(item.features[content]).max()
            raise RequestError(
                f"item {item.name!r}: features of {content!r} of up to {given:g} make a vector of"
                f" up to {largest:g}: they are not of the encoder that this servable was made with;"
                " give its rows"
            )


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
