"""What DICM is compared with: the same model without its image inputs (paper section 7.2)."""

import dataclasses

from dicm_jax.config import Config

FOLDER = "baseline"
"""Of its checkpoints, in the folder of the run with images."""


def without_images(config: Config) -> Config:
    """The settings of the baseline of a run.

    It starts from nothing, as the paper's does (Table 6): of a run with images, its net could take
    nothing over.
    """
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, images="none"),
        checkpoint=dataclasses.replace(config.checkpoint, warm_start=None),
    )
