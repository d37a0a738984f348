"""What stands in the text of a program: collectives, and calls of other computations.

One device's share is counted: the bytes that leave it for other devices, by the algorithms that
move the least. With ``g`` devices in a group and ``n`` bytes of operands on each of them:

    all-to-all            n (g-1)/g     one part stays at home
    all-gather            n (g-1)       the operand goes to every other device
    reduce-scatter        n (g-1)/g     n is the whole input
    all-reduce          2 n (g-1)/g     a reduce-scatter, then an all-gather
    collective-permute    n             from a source to its target
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence

from dicm_jax.errors import DicmError

LEAVING: dict[str, Callable[[int, int], float]] = {
    "all-to-all": lambda n, g: n * (g - 1) / g,
    "all-gather": lambda n, g: float(n * (g - 1)),
    "reduce-scatter": lambda n, g: n * (g - 1) / g,
    "all-reduce": lambda n, g: 2 * n * (g - 1) / g,
    "collective-permute": lambda n, g: float(n),
}
"""By kind: bytes that leave a device, from the bytes of its operands and the group's size."""

UNCOUNTED = ("ragged-all-to-all", "collective-broadcast")
"""Kinds whose bytes cannot be read from a text: they depend on the data, or on the device."""

_SEPARATORS = re.compile(r"[/:()]")
"""Between scopes, between merged operations, and around what transformations wrap."""


class ProgramError(DicmError):
    """The text of a program cannot be read, or its traffic is not known from it."""


@dataclasses.dataclass(frozen=True)
class Operand:
    """What one device puts into a collective: ``dtype`` in HLO's spelling, and dims."""

    dtype: str
    dims: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes without the padding of tiled layouts."""
        if self.dtype == "pred":
            return math.prod(self.dims)
        bits = re.search(r"\d+", self.dtype)
        if bits is None:
            raise ProgramError(
                f"a collective carries {self.dtype!r}, of unknown size: only numbers and pred can"
                " be counted"
            )
        return math.ceil(math.prod(self.dims) * int(bits[0]) / 8)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a program, as one device sees it.

    Attributes:
      kind: a key of `LEAVING`.
      operands: what the device puts in; an all-to-all has one, or one for each peer.
      group_size: devices that take part together; 2 for a collective-permute.
      loop: whether it stands in a loop, and so may run any number of times.
      op_name: scopes and primitive, ``jit(step)/shard_map/pull_ids/all_to_all``; empty where the
        text has none.
    """

    kind: str
    operands: tuple[Operand, ...]
    group_size: int
    loop: bool = False
    op_name: str = ""

    @property
    def operand_bytes(self) -> int:
        """Bytes of all operands on one device."""
        return sum(operand.bytes for operand in self.operands)

    @property
    def bytes_leaving(self) -> float:
        """Bytes that leave one device each time the collective runs, in one direction."""
        return LEAVING[self.kind](self.operand_bytes, self.group_size)

    def within(self, scope: str) -> bool:
        """Whether it was traced inside ``jax.named_scope(scope)``, derivatives included.

        A collective that the optimizer merged out of several scopes is within each that it names.
        """
        return scope in _SEPARATORS.split(self.op_name)


@dataclasses.dataclass(frozen=True)
class Call:
    """A place where another computation runs.

    Attributes:
      target: its name.
      loop: whether it may run there any number of times.
      op_name: scopes of the place, where names inside the computation are relative to it.
    """

    target: str
    loop: bool
    op_name: str = ""


Computations = Mapping[str, Sequence[Collective | Call]]


def as_run(computations: Computations, entry: str) -> list[Collective]:
    """The collectives that `entry` runs, in order, once for each place that they are called from.

    Both branches of a conditional count.

    Raises:
      ProgramError: a computation is called that the text does not hold.
    """
    known: dict[str, list[Collective]] = {}

    def run(name: str) -> list[Collective]:
        if name not in computations:
            raise ProgramError(
                f"the program runs computation {name!r}, which its text does not hold: give the"
                " whole text of a module"
            )
        if name not in known:
            known[name] = [one for found in computations[name] for one in expand(found)]
        return known[name]

    def expand(found: Collective | Call) -> list[Collective]:
        if isinstance(found, Collective):
            return [found]
        return [
            dataclasses.replace(
                inner,
                loop=inner.loop or found.loop,
                op_name="/".join(filter(None, (found.op_name, inner.op_name))),
            )
            for inner in run(found.target)
        ]

    return run(entry)


def uncounted(kind: str) -> ProgramError:
    """The error for a collective whose bytes cannot be counted."""
    return ProgramError(
        f"the program holds a {kind}, whose bytes are not known from the text: count only programs"
        f" of {', '.join(LEAVING)}"
    )
