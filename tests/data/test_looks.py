"""What pictures are drawn from."""

import numpy as np
from sklearn.decomposition import PCA

from dicm_jax.data.looks import LOOKS, looks
from dicm_jax.data.schema import Features
from dicm_jax.data.synthetic import reader as synthetic


def _features():
    world = synthetic.WorldConfig(
        items=400, users=200, content_width=37, train_days=3, test_days=2, seed=4
    )
    return synthetic.generate(world).features


def test_looks_are_the_principal_coordinates_of_the_rows():
    features = _features()
    assert isinstance(features, Features)
    rows = [3, 250, 17]
    found = looks(features, rows)
    assert features.scale_V is not None
    values = features.rows_VD.astype(np.float64) * features.scale_V[:, None]
    standard = (values - values.mean(0)) / (values.std(0) + 1e-6)
    expected = PCA(LOOKS, whiten=True, svd_solver="full").fit(standard)
    coordinates = expected.transform(standard[rows])
    np.testing.assert_allclose(np.abs(found), np.abs(coordinates), rtol=0.02, atol=0.02)


def test_looks_of_narrow_rows_have_all_coordinates():
    """Three numbers a row, as an embedding that somebody exported may have."""
    narrow = Features(np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    found = looks(narrow, [4, 7])
    assert found.shape == (2, LOOKS)
    assert not found[:, 3:].any()
    assert found[:, :3].all()
