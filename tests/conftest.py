"""The conditions that every test runs under: 8 virtual CPU devices and strict numerics.

This file must not import `dicm_jax`: its annotations are checked in tests by an import hook that
pytest installs after reading this file.
"""

import os
import shutil
import tempfile
from pathlib import Path

# Read when jax is first imported, and inherited by the processes that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Programs that several tests, or the processes they start, compile alike are compiled once.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp(prefix="dicm_jax_compiled_"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import pytest

N_DEVICES = 8
HM_FOLDER = Path(
    os.environ.get("DICM_HM_FOLDER", Path(__file__).parents[2] / "shared" / "data" / "hm")
)

# Only before the first use of a device; jax refuses the setting beside its older spelling.
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", N_DEVICES)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(scope="session")
def hm_folder() -> Path:
    """The H&M log in Kaggle's layout; tests that need it are skipped where it is not."""
    if not HM_FOLDER.is_dir():
        pytest.skip(
            f"no H&M log in {HM_FOLDER}; name its folder in DICM_HM_FOLDER to run this test"
        )
    return HM_FOLDER


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the compiled programs, unless somebody else chose their place or still uses them."""
    if hasattr(config, "workerinput"):  # one of several processes that share them
        return
    cache = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    if cache.name.startswith("dicm_jax_compiled_"):
        shutil.rmtree(cache, ignore_errors=True)
