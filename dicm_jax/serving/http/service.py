"""What stands between requests and the ranker: a bounded number of them at work, and reloads."""

import asyncio
import concurrent.futures
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dicm_jax.errors import DicmError
from dicm_jax.serving.http.metrics import Metrics
from dicm_jax.serving.ranker import Ranker
from dicm_jax.serving.servable import newest

T = TypeVar("T")
_LOG = logging.getLogger("dicm_jax.serve")


Files = frozenset[tuple[str, int, int]]
"""Name, length and time of change of each file of a folder."""


class NotReadyError(DicmError):
    """The servable is still being loaded."""


class BusyError(DicmError):
    """More requests wait than may."""


class LateError(DicmError):
    """A request was not answered in time."""


class Service:
    """A ranker in threads of its own.

    Args:
      folder: of the servable or of its versions.
      load: makes the ranker.
      waiting: requests at work or waiting, at most; more are refused at once.
      timeout_s: seconds after which a request is given up.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[Path], Ranker],
        *,
        waiting: int = 64,
        timeout_s: float = 5.0,
    ):
        self.folder, self.metrics = folder, Metrics()
        self._load, self._waiting, self._timeout_s = load, waiting, timeout_s
        self._ranker: Ranker | None = None
        self._served: Path | None = None
        self._refused: tuple[Path, Files] | None = None
        self._pending = 0
        workers = max(1, os.cpu_count() or 1)
        self._pool = concurrent.futures.ThreadPoolExecutor(workers, "rank")
        # Loading must not wait for requests, nor they for it.
        self._loader = concurrent.futures.ThreadPoolExecutor(1, "load")

    @property
    def ranker(self) -> Ranker:
        """The ranker.

        Raises:
          NotReadyError: it is still being loaded.
        """
        if self._ranker is None:
            raise NotReadyError("the servable is still being loaded: ask again in a second")
        return self._ranker

    @property
    def started(self) -> bool:
        """Whether a servable has been loaded."""
        return self._ranker is not None

    async def start(self) -> None:
        """Loads the servable.

        Raises:
          ServableError: it cannot be used.
        """
        served = newest(self.folder)
        loop = asyncio.get_running_loop()
        ranker = await loop.run_in_executor(self._loader, self._load, served)
        self._ranker, self._served = ranker, served
        self.metrics.serves(ranker.version, ranker.items)

    async def finish(self) -> None:
        """Compiles what was left to be able to answer soon; requests are answered meanwhile."""
        await asyncio.get_running_loop().run_in_executor(self._loader, self.ranker.finish)

    async def answer(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in one of the service's threads.

        Raises:
          BusyError: too many wait already.
          LateError: it took too long. It goes on, and counts as waiting until it ends.
        """
        if self._pending >= self._waiting:
            self.metrics.refused.inc()
            raise BusyError(
                f"{self._pending} requests are waiting, as many as may: ask again in a second"
            )
        self._pending += 1
        self.metrics.pending.set(self._pending)
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self._timeout_s)
        except TimeoutError:
            raise LateError(
                f"not answered within {self._timeout_s:g} s: ask for fewer candidates, or again"
                " when fewer others ask"
            ) from None

    def _done(self, future: "asyncio.Future[Any]") -> None:
        self._pending -= 1
        self.metrics.pending.set(self._pending)
        if not future.cancelled():
            future.exception()  # looked at, even where nobody waits any more

    async def watch(self, every_s: float) -> None:
        """Takes up newer versions as they appear, for ever."""
        while True:
            await asyncio.sleep(every_s)
            await self.take_up_newest()

    async def take_up_newest(self) -> None:
        """Serves the newest version from now on, if there is one that can be used."""
        try:
            found = newest(self.folder)
            seen = _files_of(found)
        except (DicmError, OSError) as error:
            _LOG.warning("%s", error)
            return
        # One that was refused may have been on its way: it is tried again when its files change.
        if found == self._served or (found, seen) == self._refused:
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._loader, self.ranker.reload, found)
        except Exception as error:  # whatever is wrong with it, the old one goes on
            self._refused = (found, seen)
            self.metrics.reloads.labels("refused").inc()
            _LOG.error("%s is not taken up, %s goes on: %s", found, self._served, error)
            return
        self._served = found
        self.metrics.reloads.labels("done").inc()
        self.metrics.serves(self.ranker.version, self.ranker.items)
        _LOG.info("serving %s", self.ranker.version)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._loader.shutdown(wait=False, cancel_futures=True)


def _files_of(folder: Path) -> Files:
    found = ((str(path), path.stat()) for path in folder.rglob("*"))
    return frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)
