"""From the `data` section of a configuration to a checked log."""

import dataclasses

from dicm_jax.config import DataConfig
from dicm_jax.data.amazon import reader as amazon
from dicm_jax.data.behavior_fields import with_behavior_fields
from dicm_jax.data.fuxictr import reader as fuxictr
from dicm_jax.data.hm import reader as hm
from dicm_jax.data.holdout import with_validation
from dicm_jax.data.movielens import reader as movielens
from dicm_jax.data.permute import permuted_images
from dicm_jax.data.prepared import reader as prepared
from dicm_jax.data.prepared.stream import streamed_split
from dicm_jax.data.schema import ClickLog
from dicm_jax.data.synthetic import reader as synthetic
from dicm_jax.data.validate import validate


def read_log(config: DataConfig) -> ClickLog:
    """Read or generate the log that `config` names, and check it whole.

    Raises:
      DataError: what is wrong with the files, or with what they hold.
    """
    log = _READERS[config.kind](config)
    log = with_behavior_fields(log, config.behavior_fields)
    validate(log)
    return with_validation(log, config.validation_share)


def _prepared(config: DataConfig) -> ClickLog:
    assert config.path is not None  # checked by Config
    return prepared.load(
        config.path,
        features_path=config.feature_tables,
        verify=config.verify,
        permute_images=config.permute_images,
        seed=config.seed,
        read_train=streamed_split if config.stream else prepared.read_split,
    )


def _synthetic(config: DataConfig) -> ClickLog:
    log = synthetic.generate(config.world)
    if not config.permute_images:
        return log
    image_N = permuted_images(log.items.image_N, config.seed)
    return dataclasses.replace(log, items=dataclasses.replace(log.items, image_N=image_N))


def _hm(config: DataConfig) -> ClickLog:
    assert config.path is not None  # checked by Config
    return hm.load(
        config.path,
        behaviors=config.behaviors,
        cut=config.hm.cut,
        train_days=config.hm.train_days,
        test_days=config.hm.test_days,
        permute_images=config.permute_images,
        negatives=config.negatives,
        seed=config.seed,
        validation_days=config.validation_days,
    )


def _fuxictr(config: DataConfig) -> ClickLog:
    assert config.path is not None  # checked by Config
    return fuxictr.load(
        config.path,
        behaviors=config.behaviors,
        permute_images=config.permute_images,
        seed=config.seed,
        config=config.fuxictr,
    )


def _movielens(config: DataConfig) -> ClickLog:
    assert config.path is not None  # checked by Config
    return movielens.load(
        config.path,
        behaviors=config.behaviors,
        permute_images=config.permute_images,
        seed=config.seed,
        config=config.movielens,
    )


def _amazon(config: DataConfig) -> ClickLog:
    assert config.path is not None  # checked by Config
    return amazon.load(
        config.path,
        behaviors=config.behaviors,
        permute_images=config.permute_images,
        negatives=config.negatives,
        seed=config.seed,
        validation_days=config.validation_days,
        config=config.amazon,
    )


_READERS = {
    "synthetic": _synthetic,
    "prepared": _prepared,
    "hm": _hm,
    "fuxictr": _fuxictr,
    "movielens": _movielens,
    "amazon": _amazon,
}
