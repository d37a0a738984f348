"""Saved on one device, on eight and in two processes; restored on each other: equal in every bit.

One device and eight are co-located (eight with repeated tables), the two processes have servers
apart from workers.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.multiprocess import places
from tests.multiprocess.processes import start
from tests.multiprocess.test_processes import ended_well


@pytest.fixture(scope="module", name="saved")
def _saved(tmp_path_factory) -> tuple[Path, dict[str, list[float]]]:
    """Folder of what all places saved, and the losses of their straight runs.

    The two processes also restore there what the others saved: their losses are in ``two.json``.
    """
    folder = tmp_path_factory.mktemp("places")
    straight = {place: places.save_and_go_on(folder, place) for place in ("one", "eight")}
    ended_well(start([["-m", "tests.multiprocess.places", str(folder)]] * 2, devices=2))
    straight["two"] = json.loads((folder / "two.json").read_text())["two"]
    return folder, straight


def test_the_straight_runs_agree_and_hold_every_kind_of_array(saved):
    folder, straight = saved
    for place in straight:
        np.testing.assert_allclose(straight[place], straight["one"], rtol=1e-5, err_msg=place)
        arrays = places.held(folder, place)
        for kind in ("params.net", "params.embedders", "dense_optimizer.net", "moments"):
            assert any(name.startswith(kind) for name in arrays), kind
        for name in ("ids.row", "ids.mu", "ids.nu", "step"):
            assert np.count_nonzero(arrays[name]), name


@pytest.mark.parametrize("restored_on", ["one", "eight"])
def test_what_the_others_saved_is_restored_in_one_process(saved, restored_on):
    folder, straight = saved
    run = places.start(restored_on)
    for saved_by in {*places.PLACES} - {restored_on}:
        found = places.restore_and_go_on(folder, saved_by, run)
        expected = straight[saved_by][places.SAVED :]
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=saved_by)


def test_what_one_process_saved_is_restored_in_two(saved):
    folder, straight = saved
    found = json.loads((folder / "two.json").read_text())
    for saved_by in ("one", "eight"):
        expected = straight[saved_by][places.SAVED :]
        np.testing.assert_allclose(found[saved_by], expected, rtol=1e-5, err_msg=saved_by)
