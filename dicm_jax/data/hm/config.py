"""Settings of the H&M reader."""

import dataclasses

from dicm_jax.config_values import setting


@dataclasses.dataclass(frozen=True)
class HMConfig:
    """Which days of the log are the splits."""

    cut: str = setting("2020-05-17", "first day of the test, YYYY-MM-DD")
    train_days: int = setting(
        0,
        "days before the cut that are the train split, as a window that moves with it; 0 = all;"
        " behaviors and statistics know all earlier days",
        at_least=0,
    )
    test_days: int = setting(0, "days from the cut on that are the test; 0 = all", at_least=0)
