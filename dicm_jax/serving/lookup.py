"""From names and values in requests to places in tables.

Shape legend
    B   candidates     F   ID fields of a level     L   behaviors
"""

import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from dicm_jax.errors import RequestError, UnknownNameError
from dicm_jax.serving.request import Query, User, Value, Values
from dicm_jax.serving.servable import Field, Servable

_NOTHING = 0
"""Place of what is unknown."""


class Lookup:
    """Names and values of one servable; items can be added.

    Args:
      servable: the servable.
    """

    def __init__(self, servable: Servable):
        self._servable = servable
        self._place = {name: place for place, name in enumerate(servable.names, start=1)}
        self._fields = {
            level: {field.name: field for field in servable.fields_of(level)}
            for level in ("user", "item", "context")
        }
        self._context_NF = servable.context_NF

    @property
    def items(self) -> int:
        """Items that can be ranked."""
        return len(self._place)

    def context_fields(self) -> int:
        """ID fields that say in what circumstances an item is shown."""
        return len(self._fields["context"])

    def knows(self, name: str) -> bool:
        """Whether there is an item of this name."""
        return name in self._place

    def place(self, name: str) -> int:
        """Place of an item of this name, 0 for none."""
        return self._place.get(name, _NOTHING)

    def user(self, user: User) -> np.ndarray:
        """Places of the user's fields, int32 ``[F]``.

        Raises:
          RequestError: a field or value that is not there.
        """
        return self._row("user", user.fields)

    def behaviors(self, names: Sequence[str]) -> tuple[np.ndarray, list[str], int]:
        """Places and names of the newest behaviors that are known, and how many are not known."""
        place, known = self._place, [name for name in names if name in self._place]
        seen = known[max(0, len(known) - self._servable.behaviors) :]
        places_L = np.fromiter((place[name] for name in seen), np.int32, len(seen))
        return places_L, seen, len(names) - len(known)

    def candidates(self, names: Sequence[str]) -> np.ndarray:
        """Places of candidates, int32 ``[B]``.

        Raises:
          RequestError: there are none, or one that is not known.
        """
        if not len(names):
            raise RequestError("no candidates to rank: name at least one item")
        try:
            return np.fromiter(map(self._place.__getitem__, names), np.int32, len(names))
        except KeyError:
            missing = [name for name in names if name not in self._place]
            shown = ", ".join(repr(name) for name in missing[:5])
            raise UnknownNameError(
                f"{len(missing)} of {len(names)} candidates are not known, such as {shown}: leave"
                " them out, or add them first as new items"
            ) from None

    def context(self, query: Query, place_B: np.ndarray) -> np.ndarray:
        """Places of the context fields of candidates, int32 ``[B, F]``.

        Raises:
          RequestError: a field or value that is not there, or not one for each candidate.
        """
        place_BF = self.usual_context(place_B)
        for name, values in query.context.items():
            column, field = self._named("context", name)
            if len(values) != len(place_B):
                raise RequestError(
                    f"context field {name!r} has {len(values)} values for {len(place_B)}"
                    " candidates: give one for each"
                )
            place_BF[:, column] = self._column(field, values)
        return place_BF

    def usual_context(self, place_B: np.ndarray) -> np.ndarray:
        """Places of the context fields that items have where none are given, int32 ``[B, F]``."""
        return self._context_NF[place_B]

    def item(self, fields: Mapping[str, Value]) -> np.ndarray:
        """Places of a new item's fields, int32 ``[F]``; texts without a key count as nothing.

        Raises:
          RequestError: a field that is not there, or a key out of range.
        """
        return self._row("item", fields, unknown_texts=True)

    def context_row(self, values: Mapping[str, Value]) -> np.ndarray:
        """Places of a new item's usual context, int32 ``[F]``; key 0 where none is given."""
        row_F = np.array([field.first for field in self._fields["context"].values()], np.int32)
        for name, value in values.items():
            column, field = self._named("context", name)
            row_F[column] = self._value(field, value)
        return row_F

    def add(self, names: Sequence[str], place_N: np.ndarray, context_NF: np.ndarray) -> None:
        """Lets items be found from now on; their rows must be in the tables already."""
        behind = int(place_N.max()) + 1 - len(self._context_NF)
        grown_NF = np.pad(self._context_NF, ((0, max(0, behind)), (0, 0)))
        grown_NF[place_N] = context_NF
        self._context_NF = grown_NF
        self._place.update(zip(names, place_N.tolist(), strict=True))

    def _row(
        self, level: str, values: Mapping[str, Value], *, unknown_texts: bool = False
    ) -> np.ndarray:
        row_F = np.zeros(len(self._fields[level]), np.int32)
        for name, value in values.items():
            column, field = self._named(level, name)
            row_F[column] = self._value(field, value, unknown_texts=unknown_texts)
        return row_F

    def _named(self, level: str, name: str) -> tuple[int, Field]:
        fields = self._fields[level]
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UnknownNameError(
                f"no {level} field {name!r}: there are {', '.join(fields) or 'none'}{hint}"
            )
        return list(fields).index(name), fields[name]

    def _column(self, field: Field, values: Values) -> np.ndarray:
        try:
            key_B = np.asarray(values)
        except ValueError:
            key_B = np.empty(0, object)
        if key_B.dtype.kind in "iu" and bool not in set(map(type, values)):
            wrong = (key_B < 0) | (key_B >= field.size)
            if not wrong.any():
                return key_B.astype(np.int64) + field.first  # keys may be of few bits
        return np.array([self._value(field, value) for value in values], np.int32)

    def _value(self, field: Field, value: Value, *, unknown_texts: bool = False) -> int:
        if isinstance(value, str):
            keys = self._servable.keys.get(field.vocabulary)
            if keys is None:
                raise RequestError(
                    f"field {field.name!r} was given {value!r}: only keys are known of its"
                    f" vocabulary; give one of 0 to {field.size - 1}"
                )
            if value not in keys:
                if unknown_texts:
                    return _NOTHING
                raise UnknownNameError(
                    f"field {field.name!r} has no value {value!r}: leave the field out where its"
                    " value is not known"
                )
            return keys[value] + field.first
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise RequestError(
                f"field {field.name!r} was given {value!r}: give a key, 0 to {field.size - 1}, or"
                " the text that it stands for"
            )
        if not 0 <= value < field.size:
            raise RequestError(
                f"field {field.name!r} was given key {value}: its vocabulary has keys 0 to"
                f" {field.size - 1}"
            )
        return int(value) + field.first
