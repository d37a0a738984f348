"""What three ways of serving images store and send: the model behind the paper's Table 2 (§7.3).

    ps_worker   images lie with the samples: nothing of them is sent, every use of one is stored
    ps_server   images lie on servers, and travel to the workers as they are
    ams         images lie on servers, and travel as embedding vectors

Counted is the whole cluster, per step (one mini-batch) and per run (all batches once). IDs are
asked of servers by every strategy. Figures count as the paper does:

    samples          stored once each; in bytes as they lie
    images at rest   with every batch that uses one (ps_worker), else once, shared among the batches
    IDs on the wire  both directions: the row, and its gradient
    images           content in one direction, since it is frozen; vectors in both
    shared devices   a server and a worker on one device count as two: nothing is deducted for what
                     stays at home
    not counted      model parameters and their all-reduce, ID rows at rest; the numbers of the rows
                     unless `key_bytes` says so

Traffic and content in samples are printed in binary units, the other storage in decimal ones, as
the paper's own figures come out.
"""

import dataclasses
import math
from collections.abc import Callable

from dicm_jax.errors import ConfigError

STRATEGIES = ("ps_worker", "ps_server", "ams")

WIRE_BYTES: dict[str, Callable[[int], int]] = {
    "float32": lambda width: 4 * width,
    "bfloat16": lambda width: 2 * width,
    "int8": lambda width: width + 1,  # and an exponent
}
"""Bytes of a vector of some width in each of our wire formats."""

KEY_BYTES = 4
"""A row's number on our wire, int32: sent with each pull; owners remember it for the push."""

ONE_WAY = "one way"
BOTH_WAYS = "both ways"
MIXED_WAYS = "IDs both ways, images one"
WITH_SAMPLES = "in every batch"
ONCE = "once, by batches"
NOTHING = "nothing"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of a training run.

    Attributes:
      impressions: samples of one step.
      images: unique images of one step.
      ids: unique IDs of one step.
      samples: samples of the run, each seen once.
      table_images: unique images of the run.
      content_width: features of an image.
      embedding_width: elements of an embedding vector.
      content_bytes: bytes of a feature, at rest and on the wire.
      vector_bytes: bytes of a vector, or its gradient, on the wire; None for float32.
      key_bytes: bytes of a row's number on the wire; 0 leaves them out, as the paper does.
      sample_bytes: bytes of a stored sample without content: IDs and label.

    Raises:
      ConfigError: a size that is not positive, or fewer samples than one step takes.
    """

    impressions: int
    images: int
    ids: int
    samples: int
    table_images: int
    content_width: int
    embedding_width: int
    content_bytes: int = 4
    vector_bytes: int | None = None
    key_bytes: int = 0
    sample_bytes: int = 2_233

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), int(field.name != "key_bytes")
            if value is not None and value < least:
                raise ConfigError(
                    f"traffic of a run with {field.name}={value}: every size must be at least"
                    f" {least}"
                )
        if self.samples < self.impressions:
            raise ConfigError(
                f"traffic of a run with samples={self.samples}, which is less than one step of"
                f" impressions={self.impressions}: give the samples of the whole run"
            )

    @property
    def batches(self) -> int:
        """Steps that see every sample once."""
        return math.ceil(self.samples / self.impressions)

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of one vector on the wire."""
        return 4 * self.embedding_width if self.vector_bytes is None else self.vector_bytes

    @property
    def bytes_per_content(self) -> int:
        """Bytes of one image's features."""
        return self.content_width * self.content_bytes


PAPER = Sizes(
    impressions=60_000,
    images=320 * 1024,
    ids=1_400_000,
    samples=3_900_000_000,
    table_images=120_000_000,
    content_width=4096,
    embedding_width=12,
)
"""The paper's run: 20 nodes of 3,000 samples, 65,000 batches. Table 2 gives 134 MB of IDs and
labels a step without saying of what: 2,233 bytes a sample. The 30.3 MB of images at rest are
120 million of 16,384 bytes over 65,000 batches, 30.25 MB; "320k" is 320 x 1024."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """One cell of the table: bytes per step and per run, and what was counted.

    Attributes:
      step: bytes of the whole cluster in one step, or its share of what is stored once.
      run: bytes of the whole run.
      counted: the convention of counting.
      binary: whether the paper's figure is in binary units.
    """

    step: float
    run: float
    counted: str
    binary: bool


@dataclasses.dataclass(frozen=True)
class Ledger:
    """One row of the table. Storage is of the worker or server group, traffic between them."""

    strategy: str
    worker_storage: Figure
    server_storage: Figure
    all_traffic: Figure
    image_traffic: Figure


def ledger(sizes: Sizes, strategy: str) -> Ledger:
    """What a strategy stores and sends.

    Raises:
      ConfigError: a strategy that is none of `STRATEGIES`.

    Example::

      ledger(PAPER, "ams").all_traffic.step / 2**20  # 158.2 (MiB)
    """
    if strategy not in STRATEGIES:
        raise ConfigError(
            f"traffic of strategy {strategy!r}: there is no such strategy; choose one of"
            f" {', '.join(STRATEGIES)}"
        )
    of_vector = 2 * sizes.bytes_per_vector + sizes.key_bytes  # there, back, and asked for once
    ids = sizes.ids * of_vector
    if strategy == "ps_worker":
        images, ways = 0, NOTHING
    elif strategy == "ps_server":
        images, ways = sizes.images * (sizes.bytes_per_content + sizes.key_bytes), ONE_WAY
    else:
        images, ways = sizes.images * of_vector, BOTH_WAYS
    all_ways = MIXED_WAYS if strategy == "ps_server" else BOTH_WAYS
    return Ledger(
        strategy,
        _worker_storage(sizes, strategy),
        _server_storage(sizes, strategy),
        _each_step(sizes, ids + images, all_ways),
        _each_step(sizes, images, ways),
    )


def wire_bytes(wire: str, width: int) -> int:
    """Bytes of a vector of `width` elements in one of our wire formats.

    Raises:
      ConfigError: there is no such format.
    """
    if wire not in WIRE_BYTES:
        raise ConfigError(
            f"traffic on wire {wire!r}: there is no such format; choose one of"
            f" {', '.join(WIRE_BYTES)}"
        )
    return WIRE_BYTES[wire](width)


def on_our_wire(sizes: Sizes, wire: str) -> Sizes:
    """The same run with vectors in one of our formats, and the rows' numbers counted."""
    return dataclasses.replace(
        sizes, vector_bytes=wire_bytes(wire, sizes.embedding_width), key_bytes=KEY_BYTES
    )


def _worker_storage(sizes: Sizes, strategy: str) -> Figure:
    samples = sizes.impressions * sizes.sample_bytes
    if strategy != "ps_worker":
        return _each_step(sizes, samples, WITH_SAMPLES, binary=False)
    return _each_step(sizes, samples + sizes.images * sizes.bytes_per_content, WITH_SAMPLES)


def _server_storage(sizes: Sizes, strategy: str) -> Figure:
    if strategy == "ps_worker":
        return _each_step(sizes, 0, NOTHING)
    table = sizes.table_images * sizes.bytes_per_content
    return Figure(table / sizes.batches, table, ONCE, binary=False)


def _each_step(sizes: Sizes, step: int, counted: str, *, binary: bool = True) -> Figure:
    return Figure(step, step * sizes.batches, counted, binary)
