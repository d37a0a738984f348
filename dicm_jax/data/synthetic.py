"""The synthetic world: the built-in log, with a known click probability for every impression.

A small shop is simulated day by day with NumPy alone. What there is to learn, and from where:

*Items* have a *look*, a point of ``2 * look_planes`` dims near the center of one of a few styles.
Nothing but the photo shows the look. A photo is taken in one of ``scenes`` scenes (on a model,
laid flat, close up), and scene ``m`` turns each plane of the look by ``m / scenes`` of a full turn:
the same look excites other channels in another scene. The content row is a sparse, non-negative,
far from centered response, like a CNN's after ReLU, in which nuisances (pose, light, background)
have more variance than the look::

    x_d = relu(look_gain * <a_d, turned look> + scene_gain * b_d[scene]
               + nuisance_gain * <c_d, nuisance> + noise_gain * eps - threshold_d)

A channel ``d`` answers to the look (``a_d``), to the scene (``b_d``) or to neither, never to both.
A linear map of the row therefore sees the look turned by an unknown angle, and can at best undo
the average turn. To recover the look, scene and turned look have to be *multiplied*: a compressor
with hidden layers can, a linear one cannot.

*Users* have a taste, a direction in look space made of one to three styles, and habits: favorite
categories and brands, a usual price level. The log names no user; the taste stands only in the
looks of the items clicked before, the habits partly in the declared profile.

*Clicks* are Bernoulli draws with::

    logit p = bias + taste_gain * <taste, look> + appeal_gain * <appeal, look>
              + category_gain * [favorite category] + brand_gain * [favorite brand]
              + price_gain * [usual price level] + quality_gain * quality
              - position_gain * position in the visit

*Time*: items are born every day and shown for a few days, so that part of the test clicks fall on
items that no training sample knows. A user's behaviors are the clicks of earlier days, drawn by
the same process, from the history days on.

Shape legend
    N   items               U   users               D   content width
    K   look dims           A   look planes         M   scenes
    S   styles              Q   nuisance dims       P   photos (rows of the table)
    G   groups (visits)     B   impressions         H   behaviors over all groups
    C   favorites of one user, or clicks            F   ID fields of one level
    T   days                J   all causes of a channel: look, scene and nuisance
"""

import dataclasses

import numpy as np

from dicm_jax.data.schema import (
    NO_IMAGE,
    ClickLog,
    Features,
    GroupedImpressions,
    IdField,
    Items,
)
from dicm_jax.errors import ConfigError

FIELDS = (
    IdField("gender", "gender", "user"),
    IdField("age_band", "age_band", "user"),
    IdField("activity", "activity", "user"),
    IdField("declared_category", "category", "user"),
    IdField("declared_brand", "brand", "user"),
    IdField("declared_price", "price", "user"),
    IdField("image", "image", "item"),
    IdField("category", "category", "item"),
    IdField("brand", "brand", "item"),
    IdField("price", "price", "item"),
    IdField("position", "position", "context"),
    IdField("item_clicks", "item_clicks", "context"),
    IdField("item_age", "item_age", "context"),
    IdField("behavior_image", "image", "behavior"),
)
GENDERS = 3
AGE_BANDS = 6
BUCKETS = 10
"""Buckets of counts and ages: bucket b holds 2**b - 1 .. 2**(b + 1) - 2, the last one the rest."""
LOOK_CHANNELS = 0.35
SCENE_CHANNELS = 0.15
"""Shares of the channels that answer to the look and to the scene; the rest to nuisance alone."""

_ANY = float("inf")


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """Size and strengths of the world.

    A gain on clicks is in units of the logit per unit of a variable of variance one (taste,
    appeal, quality) or per match (category, brand, price).

    Raises:
      ConfigError: a value is of the wrong type or outside the range given beside it.
    """

    seed: int = 0  # whole number >= 0; everything random comes from it

    items: int = 8000  # count, >= 100
    categories: int = 24  # count, >= 2
    brands: int = 40  # count, >= 2
    price_levels: int = 5  # count, >= 2
    lifetime_days: float = 4.0  # exposure of an item falls by e in so many days; >= 0.1
    popularity_exponent: float = 0.6  # exposure ~ rank ** -exponent; in [0, 3], Zipf's law is 1

    content_width: int = 4096  # channels of a content row, >= 16
    look_planes: int = 3  # planes of the look, two dims each, >= 1
    look_decay: float = 0.5  # variance of a dim of the look over the one before; in [0.01, 1]
    styles: int = 12  # clusters of looks, >= 3
    style_spread: float = 0.8  # standard deviation within a style over that of centers; >= 0
    scenes: int = 3  # count, >= 1
    main_scene_share: float = (
        0.5  # share of scene 0, which turns nothing; the rest alike; in [0, 1]
    )
    nuisance_dims: int = 12  # dimensions, >= 1
    look_gain: float = 2.0  # channel units, >= 0
    scene_gain: float = 3.0  # channel units, >= 0
    nuisance_gain: float = 2.0  # channel units, >= 0
    noise_gain: float = 0.2  # channel units, noise of one channel of one photo; >= 0
    no_image_share: float = 0.01  # share of items without a photo; in [0, 1]

    users: int = 3300  # count, >= 10
    newcomer_share: float = 0.2  # share of users who join after the first day; in [0, 1]
    activity_spread: float = 0.8  # standard deviation of the log of visits per day; in [0, 3]
    profile_taste_share: float = 0.2  # share of taste that gender and age band set; in [0, 1]
    profile_truth: float = 0.7  # share of declared fields that are true, not random; in [0, 1]

    history_days: int = 30  # days before the train split, whose clicks are only behaviors; >= 0
    train_days: int = 14  # days, >= 1
    test_days: int = 4  # days, >= 1
    visits_per_day: float = 0.33  # mean visits of a user and day, at most one a day; in [0, 1]
    min_impressions: int = 6  # items drawn for a visit, >= 1
    max_impressions: int = 16  # items drawn for a visit, >= min_impressions
    targeted_share: float = 0.5  # share of places given to the better of two by habit; in [0, 1]
    max_behaviors: int = 50  # newest clicks kept as behaviors, >= 1

    click_rate: float = 0.2  # mean click probability that the bias aims at; in [0.001, 0.999]
    taste_gain: float = 1.1  # logit, >= 0
    appeal_gain: float = 0.9  # logit, >= 0
    category_gain: float = 0.8  # logit, >= 0
    brand_gain: float = 0.8  # logit, >= 0
    price_gain: float = 0.5  # logit, >= 0
    quality_gain: float = 0.3  # logit, >= 0
    position_gain: float = 0.03  # logit per place in the visit, >= 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and not isinstance(value, int | np.integer):
                raise ConfigError(
                    f"synthetic world with {field.name}={value!r}: give a whole number"
                )
            low, high = _RANGES.get(field.name, (0, _ANY))
            if not low <= value <= high:
                raise ConfigError(
                    f"synthetic world with {field.name}={value!r}: it must be in [{low}, {high}]"
                )
        if self.max_impressions < self.min_impressions:
            raise ConfigError(
                f"synthetic world with max_impressions={self.max_impressions}: "
                f"it must be at least min_impressions={self.min_impressions}"
            )

    @property
    def look_dims(self) -> int:
        """Dims of the look, two for each plane."""
        return 2 * self.look_planes

    @property
    def days(self) -> int:
        """All days of the simulation: history, train, test."""
        return self.history_days + self.train_days + self.test_days


_RANGES: dict[str, tuple[float, float]] = {
    "items": (100, _ANY),
    "categories": (2, _ANY),
    "brands": (2, _ANY),
    "price_levels": (2, _ANY),
    "lifetime_days": (0.1, _ANY),
    "popularity_exponent": (0, 3),
    "content_width": (16, _ANY),
    "look_decay": (0.01, 1),
    "look_planes": (1, _ANY),
    "styles": (3, _ANY),
    "scenes": (1, _ANY),
    "main_scene_share": (0, 1),
    "nuisance_dims": (1, _ANY),
    "no_image_share": (0, 1),
    "users": (10, _ANY),
    "newcomer_share": (0, 1),
    "activity_spread": (0, 3),
    "profile_taste_share": (0, 1),
    "profile_truth": (0, 1),
    "train_days": (1, _ANY),
    "test_days": (1, _ANY),
    "visits_per_day": (0, 1),
    "min_impressions": (1, _ANY),
    "targeted_share": (0, 1),
    "max_behaviors": (1, _ANY),
    "click_rate": (0.001, 0.999),
}
"""Closed ranges of the fields; a field that is not named has to be >= 0."""


@dataclasses.dataclass(frozen=True)
class Catalog:
    """The items as they are, also what the log does not show. Floats are float64."""

    look_NK: np.ndarray
    scene_N: np.ndarray
    category_N: np.ndarray
    brand_N: np.ndarray
    price_N: np.ndarray
    quality_N: np.ndarray
    appeal_N: np.ndarray
    exposure_N: np.ndarray  # relative exposure on the first day
    born_N: np.ndarray  # day, negative for the stock at the start
    image_N: np.ndarray


@dataclasses.dataclass(frozen=True)
class People:
    """The users as they are, also what the log does not show."""

    taste_UK: np.ndarray  # unit vectors
    categories_UC: np.ndarray
    brands_UC: np.ndarray
    price_U: np.ndarray
    profile_UF: np.ndarray  # gender, age band, declared category, brand and price
    rate_U: np.ndarray  # visits per day
    joined_U: np.ndarray  # day


@dataclasses.dataclass(frozen=True)
class Impressions:
    """All impressions of the simulation, by day, visit and place in the visit."""

    user_B: np.ndarray
    day_B: np.ndarray
    item_B: np.ndarray
    position_B: np.ndarray
    probability_B: np.ndarray
    click_B: np.ndarray


@dataclasses.dataclass(frozen=True)
class World:
    """What a log is cut from; tests look here at what a model should find."""

    catalog: Catalog
    people: People
    impressions: Impressions
    features: Features


def generate(config: WorldConfig) -> ClickLog:
    """The log of the world of `config`; the same for the same config, NumPy and machine type.

    No BLAS routine is used, so that the number of threads cannot change a bit.

    Example:
      >>> log = generate(WorldConfig(seed=1))
      >>> log.train.n_impressions, log.features.rows_VD.shape

    Raises:
      ConfigError: the world came out without impressions in a split, or without behaviors.
    """
    return to_log(config, simulate(config))


def simulate(config: WorldConfig) -> World:
    """The world itself, with looks, tastes and all days."""
    catalog_rng, people_rng, photo_rng, visit_rng = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(4)
    )
    centers_SK = _whiten(catalog_rng.standard_normal((config.styles, config.look_dims)))
    centers_SK *= _look_spectrum(config)
    catalog = _make_catalog(config, centers_SK, catalog_rng)
    people = _make_people(config, centers_SK, people_rng)
    return World(
        catalog=catalog,
        people=people,
        impressions=_run_days(config, catalog, people, visit_rng),
        features=_take_photos(config, catalog, photo_rng),
    )


def _make_catalog(config: WorldConfig, centers_SK: np.ndarray, rng: np.random.Generator) -> Catalog:
    n = config.items
    brand_N = rng.integers(config.brands, size=n)
    # Half of the items follow the house style of their brand: IDs know a little of the look.
    house_style_R = rng.integers(config.styles, size=config.brands)
    own_style_N = rng.integers(config.styles, size=n)
    style_N = np.where(rng.random(n) < 0.5, house_style_R[brand_N], own_style_N)
    spread_NK = rng.standard_normal((n, config.look_dims)) * _look_spectrum(config)
    look_NK = centers_SK[style_N] + config.style_spread * spread_NK
    look_NK /= np.sqrt(1 + config.style_spread**2)
    other_scene_N = (
        rng.integers(1, config.scenes, size=n) if config.scenes > 1 else np.zeros(n, int)
    )
    in_main_scene_N = rng.random(n) < config.main_scene_share
    has_photo_N = rng.random(n) >= config.no_image_share
    return Catalog(
        look_NK=look_NK,
        scene_N=np.where(in_main_scene_N, 0, other_scene_N),
        category_N=rng.integers(config.categories, size=n),
        brand_N=brand_N,
        price_N=rng.integers(config.price_levels, size=n),
        quality_N=rng.standard_normal(n),
        appeal_N=_standard((look_NK * rng.standard_normal(config.look_dims)).sum(-1)),
        exposure_N=(1.0 + rng.permutation(n)) ** -config.popularity_exponent,
        born_N=np.floor(rng.uniform(-config.lifetime_days, config.days, n)).astype(np.int64),
        image_N=np.where(has_photo_N, np.cumsum(has_photo_N) - 1, NO_IMAGE).astype(np.int32),
    )


def _make_people(config: WorldConfig, centers_SK: np.ndarray, rng: np.random.Generator) -> People:
    n = config.users
    gender_U = rng.integers(GENDERS, size=n)
    age_band_U = rng.integers(AGE_BANDS, size=n)
    order_US = np.argsort(rng.random((n, config.styles)), axis=1)
    weight_UC = rng.dirichlet(np.ones(3), size=n)
    weight_UC *= np.arange(3) < rng.integers(1, 4, size=n)[:, None]
    own_UK = _unit((weight_UC[:, :, None] * centers_SK[order_US[:, :3]]).sum(1))
    of_gender_GK = rng.standard_normal((GENDERS, config.look_dims)) * _look_spectrum(config)
    of_age_AK = rng.standard_normal((AGE_BANDS, config.look_dims)) * _look_spectrum(config)
    common_UK = (of_gender_GK - of_gender_GK.mean(0))[gender_U]
    common_UK = _unit(common_UK + (of_age_AK - of_age_AK.mean(0))[age_band_U])
    share = config.profile_taste_share
    taste_UK = np.sqrt(1 - share) * own_UK + np.sqrt(share) * common_UK
    rate_U = np.exp(config.activity_spread * rng.standard_normal(n))
    newcomer_U = rng.random(n) < config.newcomer_share
    categories_UC = rng.integers(config.categories, size=(n, 2))
    brands_UC = rng.integers(config.brands, size=(n, 3))
    price_U = rng.integers(config.price_levels, size=n)

    def declared(truth_U: np.ndarray, size: int) -> np.ndarray:
        return np.where(rng.random(n) < config.profile_truth, truth_U, rng.integers(size, size=n))

    profile = (
        gender_U,
        age_band_U,
        declared(categories_UC[:, 0], config.categories),
        declared(brands_UC[:, 0], config.brands),
        declared(price_U, config.price_levels),
    )
    return People(
        taste_UK=_unit(taste_UK),
        categories_UC=categories_UC,
        brands_UC=brands_UC,
        price_U=price_U,
        profile_UF=np.stack(profile, axis=1),
        rate_U=np.minimum(rate_U * (config.visits_per_day / rate_U.mean()), 1.0),
        joined_U=np.where(newcomer_U, rng.integers(config.days, size=n), 0),
    )


def _take_photos(config: WorldConfig, catalog: Catalog, rng: np.random.Generator) -> Features:
    """Content rows of the items that have a photo, rounded to uint8 with a scale per row."""
    width = config.content_width
    has_photo_N = catalog.image_N != NO_IMAGE
    scene_P = catalog.scene_N[has_photo_N]
    turned_PK = _turn(config, catalog.look_NK[has_photo_N], scene_P)
    kind_D = rng.random(width)
    look_DK = _unit(rng.standard_normal((width, config.look_dims)))
    look_DK *= config.look_gain * (kind_D < LOOK_CHANNELS)[:, None]
    is_scene_D = (kind_D >= LOOK_CHANNELS) & (kind_D < LOOK_CHANNELS + SCENE_CHANNELS)
    scene_DM = rng.standard_normal((width, config.scenes)) * config.scene_gain
    scene_DM *= is_scene_D[:, None]
    nuisance_DQ = _unit(rng.standard_normal((width, config.nuisance_dims))) * config.nuisance_gain
    threshold_D = rng.uniform(0.0, 1.0, width) * np.sqrt(config.nuisance_gain**2 + 0.5)
    n = len(scene_P)
    nuisance_PQ = rng.standard_normal((n, config.nuisance_dims))
    cause_PJ = np.concatenate([turned_PK, np.eye(config.scenes)[scene_P], nuisance_PQ], axis=1)
    cause_PJ = cause_PJ.astype(np.float32)
    weight_JD = np.concatenate([look_DK, scene_DM, nuisance_DQ], axis=1).T.astype(np.float32)
    rows_PD = np.empty((n, width), np.uint8)
    scale_P = np.empty(n, np.float32)
    for start in range(0, n, 512):  # bounds the memory of the float rows
        rows = slice(start, start + 512)
        x_PD = np.einsum("pj,jd->pd", cause_PJ[rows], weight_JD)  # einsum: not BLAS
        noise_PD = rng.standard_normal(x_PD.shape, np.float32)
        x_PD += np.float32(config.noise_gain) * noise_PD - threshold_D.astype(np.float32)
        np.maximum(x_PD, 0, out=x_PD)
        scale_P[rows] = np.maximum(x_PD.max(1), 1e-6) / 255
        rows_PD[rows] = np.rint(x_PD / scale_P[rows, None])
    return Features(rows_VD=rows_PD, scale_V=scale_P)


def _look_spectrum(config: WorldConfig) -> np.ndarray:
    """Standard deviation of each dim of the look, ``[K]``; their mean square is one."""
    variance_K = config.look_decay ** np.arange(config.look_dims)
    return np.sqrt(variance_K / variance_K.mean())


def _turn(config: WorldConfig, look_NK: np.ndarray, scene_N: np.ndarray) -> np.ndarray:
    """The look as its scene shows it: each plane, dims ``2a`` and ``2a + 1``, turned alike."""
    angle_N = 2 * np.pi * scene_N / config.scenes
    cos_N1, sin_N1 = np.cos(angle_N)[:, None], np.sin(angle_N)[:, None]
    x_NA, y_NA = look_NK[:, 0::2], look_NK[:, 1::2]
    turned_NA2 = np.stack([cos_N1 * x_NA - sin_N1 * y_NA, sin_N1 * x_NA + cos_N1 * y_NA], axis=-1)
    return turned_NA2.reshape(look_NK.shape)


def _run_days(
    config: WorldConfig, catalog: Catalog, people: People, rng: np.random.Generator
) -> Impressions:
    bias = _find_bias(config, catalog, people, rng)
    columns = []
    for day in range(config.days):
        visiting_U = (rng.random(config.users) < people.rate_U) & (people.joined_U <= day)
        user_B, item_B = _show(config, catalog, people, np.flatnonzero(visiting_U), day, rng)
        position_B = _rank_in_run(user_B)
        logit_B = bias + _preference(config, catalog, people, user_B, item_B)
        probability_B = _sigmoid(logit_B - config.position_gain * position_B)
        click_B = rng.random(len(user_B)) < probability_B
        day_B = np.full(len(user_B), day)
        columns.append((user_B, day_B, item_B, position_B, probability_B, click_B))
    return Impressions(*(np.concatenate(parts) for parts in zip(*columns, strict=True)))


def _show(
    config: WorldConfig,
    catalog: Catalog,
    people: People,
    user_V: np.ndarray,
    day: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of one day's impressions, sorted by user; no item twice in a visit."""
    n_V = rng.integers(config.min_impressions, config.max_impressions + 1, size=len(user_V))
    user_B = np.repeat(user_V, n_V)
    age_N = day - catalog.born_N
    exposure_N = np.where(age_N >= 0, catalog.exposure_N * np.exp(-age_N / config.lifetime_days), 0)
    cumulative_N = np.cumsum(exposure_N)
    draw_2B = rng.random((2, len(user_B))) * cumulative_N[-1]
    first_B, second_B = np.searchsorted(cumulative_N, draw_2B, side="right")
    better_B = _habit(config, catalog, people, user_B, second_B) > _habit(
        config, catalog, people, user_B, first_B
    )
    targeted_B = rng.random(len(user_B)) < config.targeted_share
    item_B = np.where(better_B & targeted_B, second_B, first_B)
    _, kept = np.unique(user_B * config.items + item_B, return_index=True)
    kept.sort()
    return user_B[kept], item_B[kept]


def _habit(
    config: WorldConfig, catalog: Catalog, people: People, user_B: np.ndarray, item_B: np.ndarray
) -> np.ndarray:
    """What category, brand and price of the item add to the logit of this user."""
    category_B = (people.categories_UC[user_B] == catalog.category_N[item_B, None]).any(1)
    brand_B = (people.brands_UC[user_B] == catalog.brand_N[item_B, None]).any(1)
    price_B = people.price_U[user_B] == catalog.price_N[item_B]
    return (
        config.category_gain * category_B
        + config.brand_gain * brand_B
        + config.price_gain * price_B
    )


def _preference(
    config: WorldConfig, catalog: Catalog, people: People, user_B: np.ndarray, item_B: np.ndarray
) -> np.ndarray:
    """The logit without bias and position."""
    taste_B = (people.taste_UK[user_B] * catalog.look_NK[item_B]).sum(-1)
    return (
        config.taste_gain * taste_B
        + config.appeal_gain * catalog.appeal_N[item_B]
        + config.quality_gain * catalog.quality_N[item_B]
        + _habit(config, catalog, people, user_B, item_B)
    )


def _find_bias(
    config: WorldConfig, catalog: Catalog, people: People, rng: np.random.Generator
) -> float:
    """The bias that gives `click_rate` on random pairs, by bisection."""
    user_B = rng.choice(config.users, size=20_000, p=people.rate_U / people.rate_U.sum())
    item_B = rng.integers(config.items, size=20_000)
    logit_B = _preference(config, catalog, people, user_B, item_B)
    low, high = -30.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        if _sigmoid(logit_B + middle).mean() < config.click_rate:
            low = middle
        else:
            high = middle
    return middle


def to_log(config: WorldConfig, world: World) -> ClickLog:
    """Cuts the days into groups and splits, and drops what a log does not show."""
    shown = world.impressions
    clicks_TN = np.zeros((config.days + 1, config.items), np.int64)
    np.add.at(clicks_TN[1:], (shown.day_B, shown.item_B), shown.click_B)
    clicks_TN = np.cumsum(clicks_TN, axis=0)  # row t: clicks before day t
    first_test_day = config.history_days + config.train_days
    train = _cut(config, world, clicks_TN, config.history_days, first_test_day)
    test = _cut(config, world, clicks_TN, first_test_day, config.days)
    known_N = np.zeros(config.items, bool)
    known_N[train.item_B] = True
    known_N[train.behavior_item_H] = True
    test = dataclasses.replace(test, cold_B=~known_N[test.item_B])
    catalog = world.catalog
    ids = (np.arange(config.items), catalog.category_N, catalog.brand_N, catalog.price_N)
    return ClickLog(
        name=f"synthetic-{config.seed}",
        fields=FIELDS,
        vocabulary_sizes=_vocabulary_sizes(config),
        items=Items(ids_NF=np.stack(ids, axis=1).astype(np.int32), image_N=catalog.image_N),
        features=world.features,
        train=train,
        test=test,
        notes=_notes(world, train, test),
    )


def _cut(
    config: WorldConfig, world: World, clicks_TN: np.ndarray, first_day: int, end_day: int
) -> GroupedImpressions:
    """The split of the days ``[first_day, end_day)``; a group is the visit of a user and day."""
    shown = world.impressions
    rows = slice(*np.searchsorted(shown.day_B, (first_day, end_day)))
    user_B, day_B, item_B = shown.user_B[rows], shown.day_B[rows], shown.item_B[rows]
    if not len(user_B):
        raise ConfigError(
            f"synthetic world with users={config.users}, visits_per_day={config.visits_per_day}: "
            f"no impressions in days {first_day} to {end_day - 1}; give more users or visits"
        )
    first_G = np.flatnonzero(shown.position_B[rows] == 0)
    user_G, day_G = user_B[first_G], day_B[first_G]
    behavior_offsets, behavior_item_H, n_clicks_G = _behaviors(config, shown, user_G, day_G)
    profile_GF = world.people.profile_UF[user_G]
    user_ids_GF = np.insert(profile_GF, 2, _bucket(n_clicks_G), axis=1)
    context = (
        shown.position_B[rows],
        _bucket(clicks_TN[day_B, item_B]),
        _bucket(day_B - world.catalog.born_N[item_B]),
    )
    return GroupedImpressions(
        user_G=user_G.astype(np.int32),
        user_ids_GF=user_ids_GF.astype(np.int32),
        behavior_offsets=behavior_offsets,
        behavior_item_H=behavior_item_H.astype(np.int32),
        impression_offsets=np.append(first_G, len(user_B)).astype(np.int64),
        item_B=item_B.astype(np.int32),
        context_ids_BF=np.stack(context, axis=1).astype(np.int32),
        click_B=shown.click_B[rows].astype(np.uint8),
        cold_B=np.zeros(len(user_B), bool),
        probability_B=shown.probability_B[rows].astype(np.float32),
    )


def _behaviors(
    config: WorldConfig, shown: Impressions, user_G: np.ndarray, day_G: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CSR offsets and items of the newest clicks before each group's day, and all clicks so far."""
    clicked = np.flatnonzero(shown.click_B)
    time_C = shown.user_B[clicked] * config.days + shown.day_B[clicked]
    order = np.argsort(time_C, kind="stable")
    time_C, item_C = time_C[order], shown.item_B[clicked][order]
    start_G = np.searchsorted(time_C, user_G * config.days)
    end_G = np.searchsorted(time_C, user_G * config.days + day_G)
    n_G = np.minimum(end_G - start_G, config.max_behaviors)
    offsets = np.concatenate([[0], np.cumsum(n_G)]).astype(np.int64)
    place_H = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - (end_G - n_G), n_G)
    return offsets, item_C[place_H], end_G - start_G


def _vocabulary_sizes(config: WorldConfig) -> dict[str, int]:
    return {
        "gender": GENDERS,
        "age_band": AGE_BANDS,
        "activity": BUCKETS,
        "category": config.categories,
        "brand": config.brands,
        "price": config.price_levels,
        "image": config.items,
        "position": config.max_impressions,
        "item_clicks": BUCKETS,
        "item_age": BUCKETS,
    }


def _notes(world: World, train: GroupedImpressions, test: GroupedImpressions) -> dict[str, float]:
    """Counts worth printing."""
    n_behaviors_G = np.diff(train.behavior_offsets)
    test_clicks = test.click_B == 1
    return {
        "items_without_image": float((world.catalog.image_N == NO_IMAGE).sum()),
        "train_click_rate": float(train.click_B.mean()),
        "test_click_rate": float(test.click_B.mean()),
        "behaviors_per_group": float(n_behaviors_G.mean()),
        "groups_without_behaviors": float((n_behaviors_G == 0).mean()),
        "cold_share_of_test_clicks": float(test.cold_B[test_clicks].mean()),
    }


def _rank_in_run(key_B: np.ndarray) -> np.ndarray:
    """How many equal keys stand directly before each one."""
    place_B = np.arange(len(key_B))
    starts_B = np.concatenate([[True], key_B[1:] != key_B[:-1]])[: len(key_B)]
    return place_B - np.maximum.accumulate(np.where(starts_B, place_B, 0))


def _bucket(count: np.ndarray) -> np.ndarray:
    """``floor(log2(count + 1))``, at most the last bucket."""
    exact = np.frexp(count + 1.0)[1] - 1
    return np.minimum(exact, BUCKETS - 1)


def _whiten(center_SK: np.ndarray) -> np.ndarray:
    """Mean zero and covariance one, so that worlds of different seeds are equally hard."""
    centered_SK = center_SK - center_SK.mean(0)
    covariance_KK = np.einsum("si,sj->ij", centered_SK, centered_SK) / len(center_SK)
    variance_K, axes_KK = np.linalg.eigh(covariance_KK)
    whitening_KK = np.einsum("ik,jk->ij", axes_KK / np.sqrt(variance_K), axes_KK)
    return np.einsum("si,ij->sj", centered_SK, whitening_KK)


def _standard(value: np.ndarray) -> np.ndarray:
    return (value - value.mean()) / value.std()


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.sqrt((vector**2).sum(-1, keepdims=True))


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))
