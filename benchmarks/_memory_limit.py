"""Run a program under a limit of memory, and see whether the limit holds.

A memory control group (version 1 or 2) counts all that a process keeps in memory, pages of files
included, and takes such pages back when it is full. Where no group can be made there is
``RLIMIT_DATA``, which counts private memory only: then nothing limits mapped files, whose pages are
the system's to take.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Kind = Literal["cgroup", "rlimit"]

CONTROLLERS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
"""Where groups of version 1 and of version 2 are made."""
_LIMIT = ("memory.limit_in_bytes", "memory.max")
_PEAK = ("memory.max_usage_in_bytes", "memory.peak")
_ALLOCATE = "import sys; print(len(b'x' * int(sys.argv[1])))"


@dataclasses.dataclass(frozen=True)
class MemoryLimit:
    """A limit that programs can be started under.

    Attributes:
      kind: what holds it.
      n_bytes: the limit.
      group: folder of the control group, if that is its kind.
    """

    kind: Kind
    n_bytes: int
    group: Path | None = None

    def wrapped(self, command: list[str]) -> list[str]:
        """The command that runs `command` under the limit, in the same process."""
        if self.group is None:
            return ["sh", "-c", 'ulimit -d "$0" && exec "$@"', str(self.n_bytes // 1024), *command]
        enter = 'echo $$ > "$0" && exec "$@"'
        return ["sh", "-c", enter, str(self.group / "cgroup.procs"), *command]

    def peak_bytes(self) -> int | None:
        """The most that the group has held, pages of files included; None where nobody counts."""
        return None if self.group is None else _read_number(self.group, _PEAK)

    def times_reached(self) -> int | None:
        """How often the group was full; None where nobody counts."""
        if self.group is None:
            return None
        events = self.group / "memory.events"
        if not events.exists():
            return _read_number(self.group, ("memory.failcnt",))
        counts = dict(line.split() for line in events.read_text().splitlines())
        return int(counts["max"])

    def holds(self) -> bool:
        """Whether a program that takes a quarter more ends, and would not without the limit."""
        command = [sys.executable, "-c", _ALLOCATE, str(self.n_bytes * 5 // 4)]
        free, limited = (
            subprocess.run(each, capture_output=True, check=False).returncode
            for each in (command, self.wrapped(command))
        )
        return free == 0 and limited != 0


@contextlib.contextmanager
def memory_limit(n_bytes: int, kind: Kind | None = None) -> Iterator[MemoryLimit]:
    """A limit of `n_bytes` that holds, in a control group where one can be made.

    Args:
      n_bytes: the limit.
      kind: what is to hold it; None takes the first that does.

    Raises:
      RuntimeError: no limit of this kind can be set, or it does not hold.
    """
    with contextlib.ExitStack() as stack:
        limits = []
        if kind != "rlimit":
            limits += stack.enter_context(_group(n_bytes))
        if kind != "cgroup":
            limits.append(MemoryLimit("rlimit", n_bytes))
        limit = next((limit for limit in limits if limit.holds()), None)
        if limit is None:
            raise RuntimeError(
                f"no limit of {n_bytes} bytes that holds could be set (kind {kind or 'any'}): run"
                " where control groups may be made, or where RLIMIT_DATA is kept to"
            )
        yield limit


def ending(code: int, errors: str) -> str:
    """How a program ended, in words."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    last = errors.strip().splitlines()[-1:] or [""]
    return f"code {code}: {last[0][:200]}" if code else "done"


@contextlib.contextmanager
def _group(n_bytes: int) -> Iterator[list[MemoryLimit]]:
    """A new group with the limit; nothing where none can be made. Removed at the end."""
    controller = next((path for path in CONTROLLERS if _may_limit(path)), None)
    if controller is None:
        yield []
        return
    group = controller / f"dicm_jax_benchmark_{os.getpid()}"
    try:
        group.mkdir()
        _write_number(group, _LIMIT, n_bytes)
    except OSError:
        yield []
    else:
        yield [MemoryLimit("cgroup", n_bytes, group)]
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()


def _may_limit(controller: Path) -> bool:
    """Version 1 has the controller in every group, version 2 in those that it is handed down to."""
    handed_down = controller / "cgroup.subtree_control"
    if handed_down.exists():
        return "memory" in handed_down.read_text().split()
    return controller.name == "memory" and os.access(controller, os.W_OK)


def _read_number(group: Path, names: tuple[str, ...]) -> int | None:
    found = [group / name for name in names if (group / name).exists()]
    return int(found[0].read_text()) if found else None


def _write_number(group: Path, names: tuple[str, ...], number: int) -> None:
    path = next((group / name for name in names if (group / name).exists()), group / names[0])
    path.write_text(str(number))
