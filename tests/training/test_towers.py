"""Vectors of Pre-rank computed ahead, and attention: read off a trained run.

Shape legend
    B   impressions     L   behaviors per group
"""

from pathlib import Path

import numpy as np
import pytest

from dicm_jax.checkpoint.restore import Restored, restore_run
from dicm_jax.data.groups import cut
from dicm_jax.errors import ConfigError
from dicm_jax.train import train
from dicm_jax.training.attention import attention
from dicm_jax.training.evaluation import predictor
from dicm_jax.training.towers import ad_vectors, user_vectors
from tests.test_train import SMALL

ROOT = Path(__file__).parents[2]
TOWERS = ("model.stage=prerank", "model.aggregator=sum", "model.tower_widths=16,6")


def trained(workdir: Path, *more: str) -> Restored:
    assert train(str(ROOT / "configs/dicm.py"), workdir, [*SMALL, "train.steps=30", *more]) == 0
    return restore_run(workdir)


@pytest.fixture(scope="module", name="towers")
def _towers(tmp_path_factory) -> Restored:
    return trained(tmp_path_factory.mktemp("towers"), *TOWERS)


@pytest.fixture(scope="module", name="rank")
def _rank(tmp_path_factory) -> Restored:
    return trained(tmp_path_factory.mktemp("rank"))


def test_offline_vectors_and_a_product_give_the_joint_score(towers):
    """Each ad's vector once for all users it is shown to, each user's once for all ads."""
    test = towers.job.log.test
    user_GP = user_vectors(towers.job, test, towers.model)(towers.state)
    shown = np.column_stack([test.item_B, test.context_ids_BF])
    distinct, ad_B = np.unique(shown, axis=0, return_inverse=True)
    ads = ad_vectors(towers.job, distinct[:, 0], distinct[:, 1:], towers.model)
    ad_AP = ads(towers.state)
    assert user_GP.shape == (test.n_groups, 6)
    assert len(ad_AP) == len(distinct) < test.n_impressions
    group_B = np.repeat(np.arange(test.n_groups), np.diff(test.impression_offsets))
    logit_B = np.einsum("bp,bp->b", user_GP[group_B].astype(float), ad_AP[ad_B].astype(float))
    joint_B = predictor(towers.job, "test", towers.model)(towers.state)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit_B)), joint_B, atol=1e-6)
    assert logit_B.std() > 0.01


def test_a_rank_model_has_no_towers(rank):
    with pytest.raises(ConfigError, match=r"model.stage='rank'.*only Pre-rank has them"):
        user_vectors(rank.job, rank.job.log.test, rank.model)


def test_attention_is_read_for_each_impression_and_is_zero_at_padding(rank):
    test = cut(rank.job.log.test, 3, 40)
    weights = attention(rank.job, test, rank.model)(rank.state)
    assert weights.keys() == {"image/image", "image/ids"}
    length_G = np.minimum(np.diff(test.behavior_offsets), rank.job.config.data.behaviors)
    length_B = np.repeat(length_G, np.diff(test.impression_offsets))
    for weight_BL in weights.values():
        assert weight_BL.shape == (test.n_impressions, rank.job.config.data.behaviors)
        there_BL = np.arange(weight_BL.shape[1]) < length_B[:, None]
        assert not weight_BL[~there_BL].any()
        assert weight_BL[there_BL].all()


def test_what_pools_without_attention_has_none(towers):
    assert attention(towers.job, towers.job.log.test, towers.model)(towers.state) == {}
