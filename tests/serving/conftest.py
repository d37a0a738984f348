"""A servable that the tests of serving share; see `tests.serving.made`."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from dicm_jax.serving import Query, Ranker, User
from dicm_jax.serving import servable as servables
from tests.serving import made
from tests.serving.made import BUCKETS, ROOM


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


@pytest.fixture(scope="session")
def queries(servable: Path) -> list[Query]:
    """The example users of the servable with what they were shown."""
    users = servables.examples_of(servables.read(servable))["users"]
    return [Query(User(u["fields"], u["behaviors"]), u["candidates"]) for u in users]


@pytest.fixture(scope="module")
def ranker(servable: Path, quickly_compiled: None) -> Ranker:
    """A ranker over the servable; a test that adds items uses names that no other has."""
    return Ranker(servable, room=ROOM, buckets=BUCKETS)
