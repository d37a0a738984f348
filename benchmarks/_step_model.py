"""The time of a training step from counts: arithmetic, memory traffic, bytes on the wire, latency.

    step = matmul flops / peak + HBM bytes / bandwidth + wire bytes / link + collectives * latency

Everything runs at its roof, one part after another, on the device that has the most to do. Real
programs miss the roofs and hide some parts behind others; the model says what a layout could reach
and which part would bind, not what was measured.

The paper's Table 1 is modelled in the same way. What GPU and network it ran on is not said, so one
constant, the arithmetic that one of its GPUs sustains, is fitted to the row of 5 GPUs; the other
rows are predicted.
"""

import dataclasses
import itertools
import math

from benchmarks._key_distribution import BatchSize
from dicm_jax.ams.layout import VIRTUAL_SHARDS


@dataclasses.dataclass(frozen=True)
class Hardware:
    """One device and its network.

    Attributes:
      name: as printed.
      matmul: flop/s of dense bfloat16 products.
      memory_bandwidth: byte/s.
      memory: bytes.
      host: devices joined by `near`.
      near: byte/s that one device sends to others of its host, one way.
      far: byte/s that one device sends beyond.
      torus: whether devices form a square torus of links of `near` byte/s, and there is no `far`.
      latency: seconds of a collective, whatever its size. An assumption.
      peer_latency: seconds more for each peer of an all-to-all. An assumption.
    """

    name: str
    matmul: float
    memory_bandwidth: float
    memory: float
    host: int
    near: float
    far: float
    torus: bool
    latency: float
    peer_latency: float


# Peak and bandwidth: cloud.google.com/tpu/docs/v5e (197 Tflop/s bfloat16, 16 GB at 819 GB/s, four
# links of 400 Gbit/s = 50 GB/s, 1.6 TB/s through the bisection of 256 chips). The compiler lets a
# program use 15.75 GiB.
TPU_V5E = Hardware(
    "TPU v5e", 197e12, 819e9, 15.75 * 2**30, 0, 50e9, 50e9, True, latency=5e-6, peer_latency=2e-8
)
# Data sheet of the H100 SXM5: 989 Tflop/s dense bfloat16, 80 GB at 3.35 TB/s, NVLink 900 GB/s both
# ways together; DGX H100: 8 GPUs, one 400 Gbit/s adapter for each. Memory: as the target
# description for the compiler has it.
H100 = Hardware(
    "H100 SXM",
    989e12,
    3.35e12,
    84_978_434_048,
    8,
    450e9,
    50e9,
    False,
    latency=2e-5,
    peer_latency=1e-7,
)
# Data sheet of the H200 SXM: as the H100, with 141 GB at 4.8 TB/s.
H200 = dataclasses.replace(H100, name="H200 SXM", memory_bandwidth=4.8e12, memory=141e9)
# Not named in the paper. The network is taken as one 25 Gbit/s adapter a GPU, which machines of its
# year (2017) had; memory as fast as that of a Tesla P100 (732 GB/s, data sheet); latencies as over
# Ethernet. `matmul` is fitted.
PAPER_GPU = Hardware("paper's GPU", math.nan, 732e9, 16e9, 1, 25e9 / 8, 25e9 / 8, False, 1e-4, 1e-5)

PAPER_HOURS = {5: 62.9, 10: 32.0, 20: 17.4, 40: 10.2}
"""Table 1 of the paper: hours of training by number of GPUs."""
PAPER_STEPS = 128_000
"""Its batches: 2 epochs of 3.9 billion samples in batches of 60,000, as its Figure 6 has them."""


@dataclasses.dataclass(frozen=True)
class Widths:
    """Sizes of the model; the defaults are the paper's.

    Attributes:
      content: features of an image.
      compressor: layers of an embedding model.
      embedding: of IDs and images.
      attention: hidden layers of an activation unit.
      queries: widths of the queries.
      head: layers of the head, logits included.
      row_bytes: of a feature at rest.
    """

    content: int = 4096
    compressor: tuple[int, ...] = (256, 64, 12)
    embedding: int = 12
    attention: tuple[int, ...] = (64, 16)
    queries: tuple[int, ...] = (12, 12)
    head: tuple[int, ...] = (200, 80, 2)
    row_bytes: int = 2


@dataclasses.dataclass(frozen=True)
class Counts:
    """What the busiest device does in one step.

    Attributes:
      embed_flops: of the embedding models and their gradients.
      net_flops: of the worker's network, attention recomputed on the way back.
      memory_bytes: image rows, ID rows with their moments, dense parameters and theirs.
      exchanged_bytes: put into all-to-alls, padding included.
      group: devices among which each of them exchanges.
      summed_bytes: put into all-reduces: dense gradients.
      gathered_bytes: that leave in all-gathers.
      all_to_alls, others: collectives.
    """

    embed_flops: float
    net_flops: float
    memory_bytes: float
    exchanged_bytes: float
    group: int
    summed_bytes: float
    gathered_bytes: float
    all_to_alls: int
    others: int


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Seconds of each part of a step."""

    arithmetic: float
    memory: float
    exchange: float
    reduce: float
    latency: float

    @property
    def total(self) -> float:
        return sum(dataclasses.astuple(self))


def dense_parameters(widths: Widths, fields: int) -> int:
    """Of two embedding models, the activation units and the head."""
    units = sum(
        _parameters((widths.embedding + query, *widths.attention, 1)) for query in widths.queries
    )
    head = _parameters((_head_input(widths, fields), *widths.head))
    return 2 * _parameters((widths.content, *widths.compressor)) + units + head


def embed_flops(widths: Widths, rows: float) -> float:
    """Products of an embedding model for `rows` rows, and their gradients.

    What the first product made is kept for the way back, and no gradient goes on to the rows, which
    are frozen; the narrow layers run again and have both gradients.
    """
    first, *rest = _products((widths.content, *widths.compressor))
    return 2.0 * rows * (2 * first + 4 * sum(rest))


def net_flops(widths: Widths, fields: int, impressions: float, behaviors: float) -> float:
    """Products of the worker's network for impressions of `behaviors` behavior places each.

    The unit's first product with a behavior is taken once a group and left out.
    """
    attention = sum(
        query * widths.attention[0]
        + behaviors * sum(_products((*widths.attention, 1)))
        + behaviors * widths.embedding
        for query in widths.queries
    )
    head = sum(_products((_head_input(widths, fields), *widths.head)))
    return 2.0 * impressions * (4 * attention + 3 * head)


def memory_bytes(
    widths: Widths, image_rows: float, id_rows_asked: float, id_rows: float, dense: int
) -> float:
    """Bytes that a device reads and writes.

    An image row is read from the table, written to the chunk and read by the product, on the way
    there and on the way back. An ID row is read once when asked for; its embedding and two moments
    are read and written once when updated. Dense parameters: gradient, value and two moments read,
    the last three written.
    """
    images = 2 * 3 * image_rows * widths.content * widths.row_bytes
    ids = widths.embedding * 4 * (id_rows_asked + 6 * id_rows)
    return images + ids + 7 * 4 * dense


def step_time(counts: Counts, hardware: Hardware, devices: int) -> StepTime:
    """Seconds of each part of a step on `devices` devices."""
    group, peers = counts.group, counts.group - 1
    leaving = 2 * counts.summed_bytes * (devices - 1) / devices + counts.gathered_bytes
    collectives = (counts.all_to_alls if peers else 0) + (counts.others if devices > 1 else 0)
    per_peer = counts.all_to_alls * peers * hardware.peer_latency
    return StepTime(
        arithmetic=(counts.embed_flops + counts.net_flops) / hardware.matmul,
        memory=counts.memory_bytes / hardware.memory_bandwidth,
        exchange=counts.exchanged_bytes * peers / group / all_to_all_rate(hardware, group),
        reduce=leaving / reduce_rate(hardware, devices),
        latency=collectives * hardware.latency + per_peer,
    )


def all_to_all_rate(hardware: Hardware, devices: int) -> float:
    """Byte/s that one device sends while all send to all.

    Half of what everybody sends crosses the bisection of a torus: `side` links, twice as many where
    rings are closed, which on v5e they are along sides of 16.
    """
    if hardware.torus:
        side = math.isqrt(devices)
        links = side * (2 if side >= 16 else 1)
        return links * hardware.near / max(devices / 4, 1)
    if devices <= hardware.host:
        return hardware.near
    beyond = (devices - hardware.host) / (devices - 1)
    return min(hardware.near / (1 - beyond), hardware.far / beyond) if beyond < 1 else hardware.far


def reduce_rate(hardware: Hardware, devices: int) -> float:
    """Byte/s of a device in a ring that sums.

    Rings run both ways along both sides of a torus; between hosts, each adapter carries its share
    of a sum that was taken within the host first.
    """
    if hardware.torus:
        return (4 if math.isqrt(devices) >= 16 else 2) * hardware.near
    if devices <= hardware.host:
        return hardware.near
    return 1 / (1 / hardware.near + 1 / (hardware.far * hardware.host))


def uneven(devices: int) -> float:
    """How much more the server with most shards owns than the average one."""
    return math.ceil(VIRTUAL_SHARDS / devices) * devices / VIRTUAL_SHARDS


def table_1(
    hardware: Hardware,
    size: BatchSize,
    widths: Widths,
    unique: tuple[float, float],
    devices: tuple[int, ...],
) -> dict[int, float]:
    """Hours of training on that many devices, at the same global batch.

    Work is spread evenly but for the shards that do not divide by the number of servers. What a
    device asks of servers is taken in proportion to its samples; no padding.

    Args:
      hardware: with its arithmetic known, or fitted by `fitted`.
      size, widths: of the batch and the model.
      unique: distinct images and distinct IDs of a batch, images' own IDs left out.
      devices: numbers of devices.
    """
    steps = PAPER_STEPS
    return {
        n: steps * step_time(even_counts(size, widths, unique, n), hardware, n).total / 3600
        for n in devices
    }


def even_counts(
    size: BatchSize, widths: Widths, unique: tuple[float, float], devices: int
) -> Counts:
    """Counts of a device that has its even share of a batch."""
    images, ids = (number / devices for number in unique)
    fields = size.user_fields + size.impression_fields + 2  # images' own: the ad's, the behaviors'
    dense = dense_parameters(widths, fields)
    impressions, behaviors = size.impressions / devices, sum(size.behaviors) / 2
    rows = images * uneven(devices)
    exchanged = (images + ids) * 2 * 4 * (widths.embedding + 1)  # and the row's number
    return Counts(
        embed_flops=embed_flops(widths, rows),
        net_flops=net_flops(widths, fields, impressions, behaviors),
        memory_bytes=memory_bytes(widths, rows, ids, ids, dense),
        exchanged_bytes=exchanged,
        group=devices,
        summed_bytes=4.0 * dense,
        gathered_bytes=0.0,
        all_to_alls=12,
        others=1,
    )


def fitted(size: BatchSize, widths: Widths, unique: tuple[float, float]) -> Hardware:
    """The paper's GPU with the arithmetic that gives its hours on 5 of them."""
    n = min(PAPER_HOURS)
    counts = even_counts(size, widths, unique, n)
    free = dataclasses.replace(PAPER_GPU, matmul=math.inf)
    rest = PAPER_HOURS[n] * 3600 / PAPER_STEPS - step_time(counts, free, n).total
    return dataclasses.replace(PAPER_GPU, matmul=(counts.embed_flops + counts.net_flops) / rest)


def efficiency(hours: dict[int, float]) -> dict[int, float]:
    """Share of the speed of the fewest devices, per device, that each number of them keeps."""
    first = min(hours)
    return {n: hours[first] * first / (hours[n] * n) for n in hours}


def _head_input(widths: Widths, fields: int) -> int:
    """Every field, the ad's image, and behaviors pooled once a query."""
    return widths.embedding * (fields + 1 + len(widths.queries))


def _products(sizes: tuple[int, ...]) -> list[int]:
    return [a * b for a, b in itertools.pairwise(sizes)]


def _parameters(sizes: tuple[int, ...]) -> int:
    """Weights, biases, and slopes of the hidden layers."""
    return sum(_products(sizes)) + sum(sizes[1:]) + sum(sizes[1:-1])
