"""Which photo belongs to which image row."""

import numpy as np
import pyarrow as pa

from dicm_jax.data.hm.photos import Photos


def test_a_row_has_the_photo_of_its_article(tmp_path):
    ids = pa.array(["0108775015", "0120129001", "0110065001"])
    for name in ("0108775015", "0120129001"):
        path = tmp_path / "images" / name[:3] / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    photos = Photos(tmp_path, ids, np.array([4, -1, 2], np.int32))
    assert photos(4) == tmp_path / "images/010/0108775015.jpg"
    assert photos(2) is None  # no file
    assert photos(0) is None  # a row of no article
    assert photos(99) is None
    assert photos(-1) is None
