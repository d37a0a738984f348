"""How unevenly the keys of a batch fall on servers: what the exchange of a large mesh has to hold.

The mean says little: at 256 x 256 devices a worker wants about 6 behavior images of a server on
average and more than 20 of some server in every step. So batches are drawn, routed as the project
routes them, and the most that one worker wants of one server is read off.

Popularity is a power law: the key of rank ``r`` (from 1) is drawn in proportion to
``integral of x^-a from r to r + 1``. The exponent ``a`` is the one that makes a batch hold as many
distinct keys as the paper reports; ranks are scattered over keys by a fixed permutation.

Shape legend
    P   places of a batch where a key stands      N   devices      S   servers
    R   edges of bins of ranks
"""

import dataclasses
import math

import numpy as np

from dicm_jax.ams.layout import RowLayout
from dicm_jax.errors import DicmError

_EXPONENTS = (0.0, 3.0)
_BINS = 20_000


@dataclasses.dataclass(frozen=True)
class BatchSize:
    """The batch whose keys are drawn.

    Attributes:
      impressions: of the whole batch.
      impressions_per_group: impressions that share one user's behaviors.
      behaviors: fewest and most behaviors of a group; each number in between is equally likely.
      user_fields, impression_fields: ID fields, images' own IDs left out.
    """

    impressions: int = 60_000
    impressions_per_group: int = 5
    behaviors: tuple[int, int] = (15, 50)
    user_fields: int = 2
    impression_fields: int = 24

    @property
    def groups(self) -> int:
        return self.impressions // self.impressions_per_group

    @property
    def image_places(self) -> int:
        """Expected places where an image stands: ads and behaviors."""
        return self.impressions + self.groups * sum(self.behaviors) // 2

    @property
    def id_places(self) -> int:
        """Places where an ID that is not an image's stands."""
        return self.impressions * self.impression_fields + self.groups * self.user_fields


@dataclasses.dataclass(frozen=True)
class Popularity:
    """A power law over `n_keys` keys with exponent `exponent`."""

    n_keys: int
    exponent: float

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """`size` keys, int64, drawn with replacement."""
        span = _integral(np.array(self.n_keys + 1.0), self.exponent)
        x = _inverse_integral(rng.random(size) * span, self.exponent)
        ranks = np.clip(x.astype(np.int64) - 1, 0, self.n_keys - 1)
        return scatter_ranks(ranks, self.n_keys)

    def expected_unique(self, draws: int) -> float:
        """Distinct keys expected among `draws` draws: ``sum_k 1 - exp(-draws p_k)``.

        Ranks are summed in bins, of one rank each at the popular end.
        """
        edges_R = np.unique(np.geomspace(1, self.n_keys + 1, _BINS).round())
        area_R = np.diff(_integral(edges_R, self.exponent))
        keys_R = np.diff(edges_R)
        share_R = area_R / area_R.sum() / keys_R
        return float(np.sum(keys_R * -np.expm1(-draws * share_R)))


@dataclasses.dataclass(frozen=True)
class Load:
    """What the exchange of one batch holds.

    Attributes:
      pair_NS: distinct rows that each device wants of each server.
      owner_S: distinct rows that each server is asked for by anyone.
    """

    pair_NS: np.ndarray
    owner_S: np.ndarray

    @property
    def unique_N(self) -> np.ndarray:
        """Distinct rows that each device wants."""
        return self.pair_NS.sum(axis=1)


@dataclasses.dataclass(frozen=True)
class Room:
    """Room of an exchange.

    Attributes:
      per_server: rows between one device and one server that suffice in the stated share of steps.
      most: the largest such number in the drawn batches.
      mean: the average such number.
      unique: the most distinct rows of one device in the drawn batches.
      total: distinct rows of all devices, each device's counted, on average.
      owner: the most distinct rows of one server in the drawn batches.
      distinct: distinct rows of the whole batch, on average.
    """

    per_server: int
    most: int
    mean: float
    unique: int
    total: float
    owner: int
    distinct: float


def fit_exponent(n_keys: int, draws: int, unique: int) -> float:
    """The exponent at which `draws` draws hold `unique` distinct keys, by bisection.

    Raises:
      DicmError: even equally popular keys give fewer.
    """
    low, high = _EXPONENTS
    most = Popularity(n_keys, low).expected_unique(draws)
    if unique >= most:
        raise DicmError(
            f"{unique} distinct keys were asked for among {draws} draws of {n_keys} keys, which"
            f" hold {most:.0f} even where all are equally popular: draw more, or ask for fewer"
        )
    for _ in range(60):
        middle = (low + high) / 2
        if Popularity(n_keys, middle).expected_unique(draws) > unique:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def scatter_ranks(ranks: np.ndarray, n_keys: int) -> np.ndarray:
    """A fixed permutation of ``0 .. n_keys - 1`` that leaves no pattern of ranks in the keys.

    Multiplications by odd numbers and shifts are one-to-one on numbers of `bits` bits; what leaves
    the range is mapped again until it is back inside.
    """
    bits = max(2, (n_keys - 1).bit_length())
    keys = _mix(ranks.astype(np.uint64), bits)
    outside = keys >= n_keys
    while outside.any():
        keys[outside] = _mix(keys[outside], bits)
        outside = keys >= n_keys
    return keys.astype(np.int64)


def load(
    device_P: np.ndarray, key_P: np.ndarray, layout: RowLayout, devices: int, servers: int
) -> Load:
    """Route the keys of one batch and count them.

    Args:
      device_P: the device in whose samples each key stands.
      key_P: keys.
      layout: where rows lie.
      devices, servers: of the mesh.
    """
    wanted = np.unique(device_P.astype(np.int64) * layout.n_rows + layout.row(key_P))
    device, row = wanted // layout.n_rows, wanted % layout.n_rows
    server = row // layout.rows_per_server(servers)
    pairs = np.bincount(device * servers + server, minlength=devices * servers)
    owners = np.bincount(np.unique(row) // layout.rows_per_server(servers), minlength=servers)
    return Load(pairs.reshape(devices, servers), owners)


def room(loads: list[Load], quantile: float) -> Room:
    """Room for all but ``1 - quantile`` of the steps, from drawn batches.

    How many rows a device wants of server ``s`` is close to a Poisson number (many keys, each
    seldom wanted) with the mean of the drawn batches. The chance that any of the ``N x S`` pairs
    needs more than ``C`` is at most the sum of their chances; ``C`` is the smallest number that
    brings that sum to ``1 - quantile``, or the most that was seen, if that is more.
    """
    pair_DNS = np.stack([load.pair_NS for load in loads])
    devices = pair_DNS.shape[1]
    mean_S = pair_DNS.mean(axis=(0, 1))
    most = int(pair_DNS.max())
    enough = most
    while devices * sum(poisson_tail(mean, enough) for mean in mean_S) > 1 - quantile:
        enough += 1
    return Room(
        per_server=enough,
        most=most,
        mean=float(pair_DNS.mean()),
        unique=int(max(load.unique_N.max() for load in loads)),
        total=float(np.mean([load.pair_NS.sum() for load in loads])),
        owner=int(max(load.owner_S.max() for load in loads)),
        distinct=float(np.mean([load.owner_S.sum() for load in loads])),
    )


def poisson_tail(mean: float, n: int) -> float:
    """The chance that a Poisson number of that mean exceeds `n`."""
    if mean <= 0:
        return 0.0
    k = np.arange(n + 1, n + 60 + int(10 * math.sqrt(mean)) + int(2 * mean))
    log_p = k * math.log(mean) - mean - np.array([math.lgamma(i + 1) for i in k.tolist()])
    return float(np.exp(log_p).sum())


def draw_batch(
    rng: np.random.Generator,
    size: BatchSize,
    images: Popularity,
    ids: Popularity,
    devices: int,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Keys of one batch, as (device, key) pairs, for each exchange of a step.

    Ads and behaviors share one popularity. IDs are those of the fields and, as in the paper's
    baseline, the images' own, which stand behind the others in one ID table.
    """
    group_G = np.arange(size.groups) * devices // size.groups
    lengths_G = rng.integers(size.behaviors[0], size.behaviors[1] + 1, size.groups)
    ad_device = np.arange(size.impressions) * devices // size.impressions
    behavior_device = np.repeat(group_G, lengths_G)
    ad, behavior = images.draw(rng, size.impressions), images.draw(rng, int(lengths_G.sum()))
    field_device = np.concatenate(
        [np.repeat(ad_device, size.impression_fields), np.repeat(group_G, size.user_fields)]
    )
    field = ids.draw(rng, len(field_device))
    return {
        "ad": (ad_device, ad),
        "behavior": (behavior_device, behavior),
        "ids": (
            np.concatenate([field_device, ad_device, behavior_device]),
            np.concatenate([field, ids.n_keys + ad, ids.n_keys + behavior]),
        ),
    }


def measure(
    size: BatchSize,
    images: Popularity,
    ids: Popularity,
    mesh: tuple[int, int],
    *,
    draws: int,
    quantile: float,
    seed: int,
) -> dict[str, Room]:
    """Room of each exchange of a step (`"ad"`, `"behavior"`, `"ids"`) on a mesh of that shape.

    Args:
      size: the batch.
      images, ids: popularity of keys.
      mesh: devices along the worker axis and along the server axis.
      draws: batches to draw.
      quantile: share of the steps for which a single round should do.
      seed: of the draws.
    """
    workers, servers = mesh
    devices = workers * servers
    rng = np.random.default_rng(seed)
    layouts = {
        "ad": RowLayout(images.n_keys),
        "behavior": RowLayout(images.n_keys),
        "ids": RowLayout(ids.n_keys + images.n_keys),
    }
    loads: dict[str, list[Load]] = {name: [] for name in layouts}
    for _ in range(draws):
        for name, (device, key) in draw_batch(rng, size, images, ids, devices).items():
            loads[name].append(load(device, key, layouts[name], devices, servers))
    return {name: room(of, quantile) for name, of in loads.items()}


def _integral(x: np.ndarray, exponent: float) -> np.ndarray:
    """``integral of t^-exponent from 1 to x``."""
    if abs(exponent - 1) < 1e-9:
        return np.log(x)
    return np.expm1((1 - exponent) * np.log(x)) / (1 - exponent)


def _inverse_integral(area: np.ndarray, exponent: float) -> np.ndarray:
    if abs(exponent - 1) < 1e-9:
        return np.exp(area)
    return np.exp(np.log1p((1 - exponent) * area) / (1 - exponent))


def _mix(x: np.ndarray, bits: int) -> np.ndarray:
    mask, half = np.uint64((1 << bits) - 1), np.uint64((bits + 1) // 2)
    for factor in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9):
        x = (x * np.uint64(factor)) & mask
        x = x ^ (x >> half)
    return x
