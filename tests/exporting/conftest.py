"""A servable that the tests of exporting share; see `tests.serving.made`."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from tests.serving import made


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> made.Runs:
    """Folders of two trained runs; nobody writes into them."""
    base = tmp_path_factory.getbasetemp()
    # Of the whole test run, where several processes share it.
    of_all = base.parent if base.name.startswith("popen-") else base
    return made.once(of_all / "serving")


@pytest.fixture(scope="session")
def servable(runs: made.Runs) -> Path:
    """A folder of versions, with version 1; tests that alter it make a copy first."""
    return runs.dicm.parent / "servable"


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled() -> Iterator[None]:
    """Programs are compiled without optimization, and once for all that are alike."""
    names = ("jax_disable_most_optimizations", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    jax.config.update(names[0], True)
    jax.config.update(names[1], 0.0)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
