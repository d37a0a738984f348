"""Where the numbers of a fixture come from, as an array of strings that lies beside them.

The fixtures in this folder (`*.npz`) hold numbers that other people's packages computed. The
scripts `record_*.py` write them and need those packages; the tests read the numbers alone.
"""

import importlib.metadata
import platform
from pathlib import Path

import numpy as np


def save(path: Path, arrays: dict[str, np.ndarray], *packages: str) -> None:
    """Write a fixture, with the `provenance` of its numbers under the name ``source``."""
    source = provenance(*packages)
    np.savez_compressed(path, allow_pickle=False, source=source, **arrays)
    print(f"{path.name}: {', '.join(source)}; {path.stat().st_size:,} bytes")


def provenance(*packages: str) -> np.ndarray:
    """One line each: name, version and license of every package, and the Python that ran them."""
    lines = [f"{name} {_version(name)} ({_license(name)})" for name in packages]
    return np.array([*lines, f"Python {platform.python_version()}"])


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _license(package: str) -> str:
    """As the package declares it, in the newer field or in the older one."""
    metadata = importlib.metadata.metadata(package).json
    return str(metadata.get("license_expression") or metadata["license"]).split("\n")[0]
