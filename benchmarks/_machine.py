"""What a benchmark ran on, and how much memory it has held."""

import datetime
import importlib.metadata
import os
import platform
import resource
import sys
from typing import Any


def circumstances(*packages: str) -> dict[str, Any]:
    """What figures depend on: cores, load, versions of Python and `packages`, and the day."""
    return {
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "date": datetime.date.today().isoformat(),
    }


def thread_counts() -> list[int]:
    """PyTorch's settings; its threads wait for each other, so one may win on a busy machine."""
    return sorted({1, os.cpu_count() or 1})


def peak_rss_mib() -> float:
    """The most memory this process has held so far, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
