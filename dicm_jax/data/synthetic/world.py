"""The synthetic world: a small shop, simulated day by day with NumPy alone.

What there is to learn, and from where:

*Items* have a *look*, a point of ``2 * look_planes`` dims near the center of one of a few styles.
Nothing but the photo shows the look, and the photo shows it turned (`photos.py`).

*Users* have a taste, a unit vector in look space: the mean of one to three styles, and a part that
gender and age band have in common. They have habits: favorite categories and brands, a usual price
level. The log names no user; the taste stands in the looks of the items clicked before, and to a
small part in gender and age band; the habits stand in the declared profile, where it is true.

*Clicks* are Bernoulli draws with::

    logit p = bias + taste_gain * <taste, look> + appeal_gain * <appeal, look>
              + category_gain * [favorite category] + brand_gain * [favorite brand]
              + price_gain * [usual price level] + quality_gain * quality
              - position_gain * position in the visit

*Time*: items are born every day and shown for a few days, so that part of the test clicks fall on
items that no training sample knows.

No BLAS routine works on more than a few numbers, so that the number of threads cannot change a bit.

Shape legend
    N   items               U   users               B   impressions
    K   look dims           S   styles              V   visits of a day
    C   favorites           F   profile fields
"""

import dataclasses

import numpy as np

from dicm_jax.data.schema import NO_IMAGE, Features
from dicm_jax.data.synthetic.config import WorldConfig
from dicm_jax.data.synthetic.photos import take_photos
from dicm_jax.errors import ConfigError

GENDERS = 3
AGE_BANDS = 6


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
    """What a log is cut from; what a model should find is in the catalog and the people."""

    catalog: Catalog
    people: People
    impressions: Impressions
    features: Features


def simulate(config: WorldConfig) -> World:
    """The world of `config`: looks, tastes, photos and all days.

    Raises:
      ConfigError: there is nothing to show on some day.
    """
    catalog_rng, people_rng, photo_rng, visit_rng = (
        np.random.default_rng(seed) for seed in np.random.SeedSequence(config.seed).spawn(4)
    )
    centers_SK = _whiten(catalog_rng.standard_normal((config.styles, config.look_dims)))
    centers_SK *= _look_spectrum(config)
    catalog = _make_catalog(config, centers_SK, catalog_rng)
    people = _make_people(config, centers_SK, people_rng)
    has_photo_N = catalog.image_N != NO_IMAGE
    look_PK, scene_P = catalog.look_NK[has_photo_N], catalog.scene_N[has_photo_N]
    return World(
        catalog=catalog,
        people=people,
        impressions=_run_days(config, catalog, people, visit_rng),
        features=take_photos(config, look_PK, scene_P, photo_rng),
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
    other_scene_N = rng.integers(1, max(config.scenes, 2), size=n) % config.scenes
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
    taste_UK = _make_tastes(config, centers_SK, gender_U, age_band_U, rng)
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
        taste_UK=taste_UK,
        categories_UC=categories_UC,
        brands_UC=brands_UC,
        price_U=price_U,
        profile_UF=np.stack(profile, axis=1),
        rate_U=np.minimum(rate_U * (config.visits_per_day / rate_U.mean()), 1.0),
        joined_U=np.where(newcomer_U, rng.integers(config.days, size=n), 0),
    )


def _make_tastes(
    config: WorldConfig,
    centers_SK: np.ndarray,
    gender_U: np.ndarray,
    age_band_U: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Unit vectors ``[U, K]``: one to three styles, and what gender and age band have in common."""
    n = len(gender_U)
    order_US = np.argsort(rng.random((n, config.styles)), axis=1)
    weight_UC = rng.dirichlet(np.ones(3), size=n)
    weight_UC *= np.arange(3) < rng.integers(1, 4, size=n)[:, None]
    own_UK = _unit((weight_UC[:, :, None] * centers_SK[order_US[:, :3]]).sum(1))
    of_gender_GK = rng.standard_normal((GENDERS, config.look_dims)) * _look_spectrum(config)
    of_age_AK = rng.standard_normal((AGE_BANDS, config.look_dims)) * _look_spectrum(config)
    common_UK = (of_gender_GK - of_gender_GK.mean(0))[gender_U]
    common_UK = _unit(common_UK + (of_age_AK - of_age_AK.mean(0))[age_band_U])
    share = config.profile_taste_share
    return _unit(np.sqrt(1 - share) * own_UK + np.sqrt(share) * common_UK)


def _look_spectrum(config: WorldConfig) -> np.ndarray:
    """Standard deviation of each dim of the look, ``[K]``; their mean square is one."""
    variance_K = config.look_decay ** np.arange(config.look_dims)
    return np.sqrt(variance_K / variance_K.mean())


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
    cumulative_N = np.cumsum(_exposure(config, catalog, day))
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


def _exposure(config: WorldConfig, catalog: Catalog, day: int) -> np.ndarray:
    """How often each item is shown on this day, relative to the others, ``[N]``."""
    age_N = day - catalog.born_N
    # a maximum keeps the unborn from overflowing before they are left out
    fading_N = np.exp(-np.maximum(age_N, 0) / config.lifetime_days)
    exposure_N = np.where(age_N >= 0, catalog.exposure_N * fading_N, 0)
    if not exposure_N.any():
        raise ConfigError(
            f"synthetic world, items={config.items}: none is on show on day {day} of "
            f"{config.days}; give more items or fewer days"
        )
    return exposure_N


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


def _rank_in_run(key_B: np.ndarray) -> np.ndarray:
    """How many equal keys stand directly before each one."""
    place_B = np.arange(len(key_B))
    starts_B = np.concatenate([[True], key_B[1:] != key_B[:-1]])[: len(key_B)]
    return place_B - np.maximum.accumulate(np.where(starts_B, place_B, 0))


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
