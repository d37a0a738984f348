"""Settings of the MovieLens reader."""

import dataclasses

from dicm_jax.config_values import setting


@dataclasses.dataclass(frozen=True)
class MovieLensConfig:
    """How ratings become impressions; the fields are described at `movielens.load`."""

    test_share: float = setting(
        0.2, "newest share of the ratings that is the test", above=0, below=1
    )
    period_s: int = setting(
        1, "seconds of ratings that see the same behaviors, those before them", at_least=1
    )
    posters: str | None = setting(
        None, "array of poster features (movie_id, rows); None = the one .npz or .npy there"
    )
