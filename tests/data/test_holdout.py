"""The validation split: the newest groups, each impression once, and messages."""

import numpy as np
import pytest

from dicm_jax.data.groups import cut
from dicm_jax.data.holdout import with_validation
from dicm_jax.data.schema import GroupedImpressions
from dicm_jax.data.validate import validate
from dicm_jax.errors import DataError
from tests import small_world


def arrays(split: GroupedImpressions) -> list[np.ndarray]:
    return [split.user_G, split.user_ids_GF, split.behavior_item_H, split.item_B, split.click_B]


def test_the_two_parts_are_train_in_its_order():
    log = small_world.log()
    held = with_validation(log, 0.3)
    validation = held.split("validation")
    assert validation.n_groups == round(0.3 * log.train.n_groups)
    validate(held)
    for whole, first, second in zip(
        arrays(log.train), arrays(held.train), arrays(validation), strict=True
    ):
        np.testing.assert_array_equal(whole, np.concatenate([first, second]))
    sizes = np.concatenate([np.diff(s.behavior_offsets) for s in (held.train, validation)])
    np.testing.assert_array_equal(sizes, np.diff(log.train.behavior_offsets))


def test_cold_items_of_validation_are_those_train_does_not_know():
    held = with_validation(small_world.log(), 0.3)
    validation = held.split("validation")
    known = {*held.train.item_B.tolist(), *held.train.behavior_item_H.tolist()}
    expected = [item not in known for item in validation.item_B.tolist()]
    np.testing.assert_array_equal(validation.cold_B, expected)
    assert 0 < sum(expected) < len(expected)


def test_a_cut_of_everything_is_everything():
    train = small_world.log().train
    for one, other in zip(arrays(cut(train, 0, train.n_groups)), arrays(train), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_a_share_nothing_is_held_out_and_asking_for_it_says_so():
    log = small_world.log()
    assert with_validation(log, 0.0) is log
    with pytest.raises(DataError, match=r"nothing is held out.*set data.validation_share"):
        log.split("validation")
    with pytest.raises(DataError, match=r"split 'tset'.*'train', 'validation' and 'test'"):
        log.split("tset")


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_that_leaves_a_part_empty_is_refused(share):
    with pytest.raises(DataError, match=rf"data.validation_share={share} of 137 train groups"):
        with_validation(small_world.log(), share)
