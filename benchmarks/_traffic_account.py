"""Bytes of a training step's exchanges: counted in its program, and by the model, side by side.

The model (`dicm_jax.ams.ledger`) knows rows; a program knows places, which are compiled in and so
not all in use. Between the two therefore stand

    at home     rows that lie on the device that asks for them: the model counts them (a server and
                a worker on one device count as two), but they never leave it
    padding     places that leave a device without a row in them: the program counts them

Both are counted in the batch's own requests. What is left of the program's bytes without padding
is compared with what is left of the model's without rows at home.

Shape legend
    R   lists (one a device)    K   places of a list
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dicm_jax.ams.collectives import Collective
from dicm_jax.ams.ledger import Sizes, ledger
from dicm_jax.ams.plan import UNUSED, Capacity, Request
from dicm_jax.errors import DicmError

KEY_DTYPE = "s32"
"""Of row numbers in a program; vectors and content travel as floats, or as their bits."""


class TrafficError(DicmError):
    """The bytes of a step cannot be told from its program."""


@dataclasses.dataclass(frozen=True)
class Bytes:
    """Bytes of one kind of rows in a step.

    Attributes:
      vectors: of vectors and their gradients, or of content.
      keys: of row numbers.
      rest: of what else stands in the scopes of an exchange.
    """

    vectors: float
    keys: float
    rest: float = 0.0

    @property
    def all(self) -> float:
        return self.vectors + self.keys + self.rest

    def times(self, factor: float) -> "Bytes":
        return Bytes(self.vectors * factor, self.keys * factor, self.rest * factor)

    def minus(self, other: "Bytes") -> "Bytes":
        return Bytes(self.vectors - other.vectors, self.keys - other.keys, self.rest - other.rest)


@dataclasses.dataclass(frozen=True)
class Rows:
    """One kind of rows in a step, summed over devices and lists.

    Attributes:
      listed: rows asked for, each once for a worker.
      leaving: those of them that lie on another device than the one that asks.
      handled: each once for all workers: images embedded, or ID rows updated.
      places: places for rows that leave a device, in one direction.
    """

    listed: int
    leaving: int
    handled: int
    places: int


@dataclasses.dataclass(frozen=True)
class Flow:
    """What travels for one kind of rows in a step, over all devices.

    Attributes:
      rows: how many there are.
      counted: in the program.
      model: by the model, for all rows asked for.
    """

    rows: Rows
    counted: Bytes
    model: Bytes

    @property
    def at_home(self) -> Bytes:
        """What the model counts for rows that never leave their device."""
        return self.model.times((self.rows.listed - self.rows.leaving) / self.rows.listed)

    @property
    def padding(self) -> Bytes:
        """What places without a row take, at the model's price of a row."""
        return self.model.times((self.rows.places - self.rows.leaving) / self.rows.listed)

    @property
    def agreement(self) -> float | None:
        """Program without padding over model without rows at home; None where nothing is sent."""
        if self.model.all == self.counted.all == 0:
            return None
        expected = self.model.minus(self.at_home).all
        return self.counted.minus(self.padding).all / expected if expected else float("inf")

    @property
    def per_row(self) -> Bytes:
        """What the program sends without padding for each row that leaves its device."""
        return self.counted.minus(self.padding).times(1 / self.rows.leaving)


def rows_of(requests: Sequence[tuple[Request, Capacity]], listed: int, handled: int) -> Rows:
    """Rows of the lists of one kind; `listed` and `handled` are the step's own counts."""
    sent = [_off_diagonal(request, capacity) for request, capacity in requests]
    leaving, places = (sum(numbers) for numbers in zip(*sent, strict=True))
    return Rows(listed, leaving, handled, places)


def _off_diagonal(request: Request, capacity: Capacity) -> tuple[int, int]:
    """Rows of a request that lie on other devices than the one that asks, and places for such."""
    rows_RK = np.asarray(request.rows_K).reshape(-1, capacity.unique)
    own_R1 = (np.arange(len(rows_RK)) % capacity.servers)[:, None]
    away_RK = (rows_RK != UNUSED) & (rows_RK // capacity.rows_per_server != own_R1)
    return int(np.count_nonzero(away_RK)), len(rows_RK) * (
        capacity.servers - 1
    ) * capacity.per_server


def by_model(sizes: Sizes, strategy: str) -> dict[str, Bytes]:
    """The model's bytes of ``"images"`` and ``"ids"``."""
    keyed = ledger(sizes, strategy)
    bare = ledger(dataclasses.replace(sizes, key_bytes=0), strategy)
    images = bare.image_traffic.step, keyed.image_traffic.step
    ids = bare.all_traffic.step - images[0], keyed.all_traffic.step - images[1]
    return {
        "images": Bytes(images[0], images[1] - images[0]),
        "ids": Bytes(ids[0], ids[1] - ids[0]),
    }


def by_scope(found: Sequence[Collective], content: Sequence[str]) -> dict[str, list[Collective]]:
    """The collectives of ``"images"``, of ``"ids"`` and of the ``"dense"`` gradient.

    Args:
      found: of a whole step.
      content: names of the embedding models.

    Raises:
      TrafficError: a collective of several kinds, or one of none that is no all-reduce.
    """
    scopes = {
        "images": [f"{way}_content_{name}" for way in ("pull", "push") for name in content],
        "ids": ["pull_ids", "push_ids"],
    }
    sorted_out: dict[str, list[Collective]] = {"images": [], "ids": [], "dense": []}
    for one in found:
        kinds = [kind for kind, names in scopes.items() if any(map(one.within, names))]
        if len(kinds) > 1 or not (kinds or one.kind == "all-reduce"):
            raise TrafficError(
                f"asked whose bytes a {one.kind} named {one.op_name!r} carries, which belongs to"
                f" {' and '.join(kinds) or 'no exchange'}: look at the scopes of the step"
            )
        sorted_out[kinds[0] if kinds else "dense"].append(one)
    return sorted_out


def in_program(found: Sequence[Collective], devices: int) -> Bytes:
    """Bytes that collectives take out of all devices, by what they are.

    Raises:
      TrafficError: row numbers and vectors in one all-to-all.
    """
    total = {"vectors": 0.0, "keys": 0.0, "rest": 0.0}
    for one in found:
        dtypes = {operand.dtype for operand in one.operands}
        if KEY_DTYPE in dtypes and len(dtypes) > 1:
            raise TrafficError(
                f"asked what a {one.kind} named {one.op_name!r} carries: it is of"
                f" {', '.join(sorted(dtypes))}, row numbers and vectors together; look at what the"
                " optimizer merged"
            )
        name = "keys" if KEY_DTYPE in dtypes else "vectors"
        total[name if one.kind == "all-to-all" else "rest"] += devices * one.bytes_leaving
    return Bytes(**total)


def check_rounds(found: Sequence[Collective], rounds: int) -> None:
    """A text says what one turn of a loop sends, not how many turns there are.

    Raises:
      TrafficError: there was more than one.
    """
    if rounds > 1 and any(one.loop for one in found):
        raise TrafficError(
            f"asked for the bytes of a batch that took {rounds} rounds of exchange, of which the"
            " program's text shows one: measure a batch of another size"
        )
