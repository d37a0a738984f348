"""Which users are shown, and what is cut out for them."""

import json

import numpy as np

from dicm_jax.data.schema import NO_IMAGE
from dicm_jax.data.synthetic import reader as synthetic
from dicm_jax.studies import pictures
from tests import small_world


def _log():
    world = synthetic.WorldConfig(
        items=400, users=200, content_width=37, train_days=3, test_days=2, seed=4
    )
    return synthetic.generate(world)


def test_sampled_groups_have_behaviors_and_both_kinds_of_impressions():
    split = _log().test
    group_G = pictures.sample_groups(split)
    assert len(group_G) == pictures.USERS
    assert len(set(split.user_G[group_G])) == len(group_G)
    for group in group_G:
        rows = slice(*split.impression_offsets[group : group + 2])
        assert set(split.click_B[rows]) == {0, 1}
        assert np.diff(split.behavior_offsets)[group] >= pictures.FEWEST
    assert group_G.tolist() == pictures.sample_groups(split).tolist()


def test_a_log_without_such_groups_gives_none():
    assert len(pictures.sample_groups(small_world.log().test)) == 0  # at most 6 behaviors


def test_taken_groups_are_what_they_were():
    split = _log().test
    group_G = np.array([7, 2, 30])
    taken = pictures.take_groups(split, group_G)
    for number, group in enumerate(group_G):
        for offsets, values in (
            ("behavior_offsets", "behavior_item_H"),
            ("impression_offsets", "item_B"),
        ):
            here = slice(*getattr(taken, offsets)[number : number + 2])
            there = slice(*getattr(split, offsets)[group : group + 2])
            np.testing.assert_array_equal(
                getattr(taken, values)[here], getattr(split, values)[there]
            )
    assert taken.user_G.tolist() == split.user_G[group_G].tolist()
    assert len(taken.click_B) == len(taken.item_B) == len(taken.context_ids_BF)


def test_pictures_of_a_run(tmp_path, monkeypatch):
    """Newest behaviors, their weights, a click and a no: all taken at the right places."""
    log = _log()
    probability_B = np.linspace(0, 1, log.test.n_impressions).astype(np.float32)
    behaviors, roles = 50, small_world.roles_of(1, 8, "colocated")

    class Run:
        job = model = state = None

    def fake(job, impressions, model):
        lengths = np.minimum(np.diff(impressions.behavior_offsets), behaviors)
        rows = np.repeat(lengths, np.diff(impressions.impression_offsets))
        place_L = np.arange(behaviors)
        weight_BL = np.where(place_L < rows[:, None], place_L - rows[:, None] + 0.0, 0)
        return lambda state: {"image/ids": weight_BL * 2, "image/image": weight_BL}

    monkeypatch.setattr(pictures, "restore_run", lambda *_, **__: Run())
    monkeypatch.setattr(pictures, "attention", fake)
    found = pictures.sample_pictures(tmp_path, log, roles, log.test, probability_B)
    json.dumps(found)
    assert len(found["users"]) == pictures.USERS
    for user, group in zip(found["users"], pictures.sample_groups(log.test), strict=True):
        shown = len(user["behaviors"])
        items = log.test.behavior_item_H[slice(*log.test.behavior_offsets[group : group + 2])]
        assert [behavior["item"] for behavior in user["behaviors"]] == items[-shown:].tolist()
        clicked, not_clicked = user["impressions"]
        assert (clicked["clicked"], not_clicked["clicked"]) == (True, False)
        assert list(clicked["weights"]) == ["image/image", "image/ids"]
        assert clicked["weights"]["image/image"] == [-float(n) for n in range(shown, 0, -1)]
        place = log.test.impression_offsets[group] + clicked["place"]
        assert log.test.click_B[place] == 1
        assert clicked["probability"] == float(probability_B[place])
        for thing in (*user["behaviors"], clicked, not_clicked):
            assert thing["row"] == log.items.image_N[thing["item"]]
            assert thing["row"] == NO_IMAGE or thing["row"] in found["looks"]
