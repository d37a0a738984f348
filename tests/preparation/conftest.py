"""A feature table that the tests of preparation share."""

from pathlib import Path

import pytest

from tests.preparation import small_log


@pytest.fixture(scope="session", name="features")
def _features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_log.write_features(tmp_path_factory.mktemp("features"))
