"""Size and strengths of the synthetic world; what they mean is told in `world.py`."""

import dataclasses

from dicm_jax.config_values import check_value, setting
from dicm_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """Size and strengths of the world.

    Taste (its inner product with the look), appeal and quality have a variance of about one.

    Raises:
      ConfigError: a value is of another type or outside its limits, or two exclude each other.
    """

    seed: int = setting(0, "of everything random", at_least=0)

    items: int = setting(8000, "items of the catalog, born evenly over the days", at_least=100)
    categories: int = setting(24, "categories of items", at_least=2)
    brands: int = setting(40, "brands of items", at_least=2)
    price_levels: int = setting(5, "price levels of items", at_least=2)
    lifetime_days: float = setting(
        4.0, "days in which the exposure of an item falls by the factor e", at_least=0.5
    )
    popularity_exponent: float = setting(
        0.6, "exposure ~ rank ** -exponent; Zipf's law is 1", at_least=0, at_most=3
    )

    content_width: int = setting(4096, "channels of a content row", at_least=16)
    look_planes: int = setting(3, "planes of the look, two dims each", at_least=1)
    look_decay: float = setting(
        0.5, "variance of a dim of the look over the one before", at_least=0.01, at_most=1
    )
    styles: int = setting(12, "clusters of looks, more than the look has dims", at_least=3)
    style_spread: float = setting(
        0.8, "standard deviation of looks in a style, in those of style centers", at_least=0
    )
    scenes: int = setting(3, "scenes in which photos are taken", at_least=1)
    main_scene_share: float = setting(
        0.5, "share of photos in scene 0, which turns no look; others alike", at_least=0, at_most=1
    )
    nuisance_dims: int = setting(12, "dims of what else photos differ in", at_least=1)
    look_gain: float = setting(2.0, "channel units per unit of look", at_least=0)
    scene_gain: float = setting(3.0, "channel units, standard deviation over scenes", at_least=0)
    nuisance_gain: float = setting(2.0, "channel units per unit of nuisance", at_least=0)
    noise_gain: float = setting(
        0.2, "channel units, noise that one channel of one photo has to itself", at_least=0
    )
    no_image_share: float = setting(0.01, "share of items without a photo", at_least=0, at_most=0.9)

    users: int = setting(3300, "users", at_least=10)
    newcomer_share: float = setting(
        0.2, "share of users who join on a random day, not the first", at_least=0, at_most=1
    )
    activity_spread: float = setting(
        0.8, "standard deviation of the log of visits per day", at_least=0, at_most=3
    )
    profile_taste_share: float = setting(
        0.2, "share of a user's taste that gender and age band set", at_least=0, at_most=1
    )
    profile_truth: float = setting(
        0.7, "share of declared habits that are true, not random", at_least=0, at_most=1
    )

    history_days: int = setting(
        30, "days before the train split, whose clicks are only behaviors", at_least=0
    )
    train_days: int = setting(14, "days", at_least=1)
    test_days: int = setting(4, "days", at_least=1)
    unseen_days: int = setting(
        0,
        "days at the end that the log does not know yet; its splits end before them, and so many"
        " history days fewer come before",
        at_least=0,
    )
    visits_per_day: float = setting(
        0.33, "mean visits of a user and day, at most one a day", above=0, at_most=1
    )
    min_impressions: int = setting(6, "items drawn for a visit, repeats dropped", at_least=1)
    max_impressions: int = setting(16, "items drawn for a visit, repeats dropped", at_least=1)
    targeted_share: float = setting(
        0.5, "share of places given to the better of two items by habit", at_least=0, at_most=1
    )
    max_behaviors: int = setting(50, "newest clicks kept as behaviors", at_least=1)

    click_rate: float = setting(
        0.2, "mean click probability that the bias aims at", at_least=0.001, at_most=0.999
    )
    taste_gain: float = setting(1.1, "logit per unit of taste", at_least=0)
    appeal_gain: float = setting(0.9, "logit per unit of appeal", at_least=0)
    category_gain: float = setting(0.8, "logit for a favorite category", at_least=0)
    brand_gain: float = setting(0.8, "logit for a favorite brand", at_least=0)
    price_gain: float = setting(0.5, "logit for the usual price level", at_least=0)
    quality_gain: float = setting(0.3, "logit per unit of quality", at_least=0)
    position_gain: float = setting(0.03, "logit lost per place in the visit", at_least=0)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            try:
                value = check_value(field.type, getattr(self, field.name), field.metadata)
            except ConfigError as error:
                raise ConfigError(f"synthetic world, {field.name}: {error}") from None
            object.__setattr__(self, field.name, value)
        if self.max_impressions < self.min_impressions:
            raise ConfigError(
                f"synthetic world, max_impressions={self.max_impressions}: must be at least "
                f"min_impressions={self.min_impressions}; raise the one or lower the other"
            )
        if self.unseen_days > self.history_days:
            raise ConfigError(
                f"synthetic world, unseen_days={self.unseen_days}: must be at most "
                f"history_days={self.history_days}, of which they are taken; give more history days"
            )
        if self.styles <= self.look_dims:
            raise ConfigError(
                f"synthetic world, styles={self.styles}: must be more than the {self.look_dims} "
                f"dims of look_planes={self.look_planes}; give more styles or fewer planes"
            )

    @property
    def look_dims(self) -> int:
        """Dims of the look, two for each plane."""
        return 2 * self.look_planes

    @property
    def days(self) -> int:
        """All days of the simulation: history, train, test, and those not seen yet."""
        return self.history_days + self.train_days + self.test_days

    @property
    def first_train_day(self) -> int:
        """Where the train split begins."""
        return self.history_days - self.unseen_days
