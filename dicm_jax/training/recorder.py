"""Looks at each step once the next one is on its way, so that the device never waits."""

import itertools
import time
from collections.abc import Iterable, Iterator

import jax
from tqdm import tqdm

from dicm_jax.errors import DicmError
from dicm_jax.training import progress
from dicm_jax.training.batch import Batch
from dicm_jax.training.events import Log
from dicm_jax.training.servers import Traffic
from dicm_jax.training.step import StepReport
from dicm_jax.training.watch import check_finite

WARM_UP = 2
"""Steps that compile and fill caches, left out of the speed."""


class Recorder:
    """Takes the report of each step: checks it, counts it, logs it, moves the bar.

    Args:
      events: where lines go.
      bar: the progress bar.
      log_every: steps between lines.

    Attributes:
      overflown: steps in which an exchange needed more than one round.
      stop: whether a process was asked to stop; the same in all of them.
      failure: what made the batches end early, if anything did.
    """

    def __init__(self, events: Log, bar: tqdm, log_every: int):
        self._events, self._bar, self._log_every = events, bar, log_every
        self._pending: tuple[int, StepReport] | None = None
        self._taken, self._impressions, self._seconds, self._waited = 0, 0.0, 0.0, 0.0
        self._last, self._waited_since = time.perf_counter(), 0.0
        self._traffic: Traffic | None = None
        self.overflown = 0
        self.stop = False
        self.failure: DicmError | None = None

    @property
    def samples_per_s(self) -> float:
        """Impressions a second, compilation left out; 0 before anything was timed."""
        return self._impressions / self._seconds if self._seconds else 0.0

    @property
    def input_wait_share(self) -> float:
        """Of the time that `samples_per_s` is taken over, what the loop waited for batches."""
        return self._waited / self._seconds if self._seconds else 0.0

    def awaited(self, batches: Iterable[Batch], first: int) -> Iterator[Batch]:
        """The batches, with the time that the loop waits for each on the clock.

        While it waits the device is at work on the step before, so this is more than what the
        device waits. Input that fails ends the batches, so that what is trained can be saved.

        Args:
          batches: one a step.
          first: number of the first step.

        Raises:
          DicmError: input failed in one of several processes, which cannot save alone.
        """
        ready = iter(batches)
        for step in itertools.count(first):
            seldom = step - first < WARM_UP  # these compile
            progress.at(f"waiting for the batch of step {step}", seldom=seldom)
            started = time.perf_counter()
            try:
                batch = next(ready, None)
            except DicmError as error:
                if jax.process_count() > 1:
                    raise
                self.failure = error
                return
            self._waited_since += time.perf_counter() - started
            if batch is None:
                return
            progress.at(f"step {step}", seldom=seldom)
            yield batch

    def add(self, step: int, report: StepReport) -> None:
        """Remember the report of step number `step`, just dispatched, and take the one before."""
        self.settle()
        self._pending = (step, report)

    def settle(self) -> None:
        """Take what is pending; after this, all steps dispatched so far are known to be sound.

        Raises:
          NonFiniteError: a step made a NaN or an infinity.
        """
        if self._pending is not None:
            self._take(*self._pending)
            self._pending = None

    def restart_clock(self) -> None:
        """Leave out the time since the last report: something else than training ran."""
        self._last, self._waited_since = time.perf_counter(), 0.0

    def _take(self, step: int, report: StepReport) -> None:
        progress.at(f"step {step}", seldom=self._taken < WARM_UP)
        seen = jax.device_get(report)
        magnitudes = seen.workers.magnitudes | seen.embedders
        check_finite(step, {name: float(value) for name, value in magnitudes.items()})
        now = time.perf_counter()
        self._taken += 1
        self.overflown += int(seen.rounds) > 1
        self.stop |= int(seen.workers.stop) > 0
        self._traffic = _added(self._traffic, seen.traffic)
        if self._taken > WARM_UP:
            self._impressions += float(seen.workers.impressions)
            self._seconds += now - self._last
            self._waited += self._waited_since
        self._last, self._waited_since = now, 0.0
        self._bar.update()
        if step % self._log_every == 0:
            self._log(step, float(seen.workers.loss))

    def _log(self, step: int, loss: float) -> None:
        speed = self.samples_per_s
        self._bar.set_postfix_str(f"{speed:,.0f} samples/s, loss {loss:.4f}", refresh=False)
        values = {
            "loss": loss,
            "samples_per_s": round(speed, 1),
            "input_wait_share": round(self.input_wait_share, 5),
            "overflown": self.overflown,
        }
        self._events.write("train", step, values | savings(self._traffic))
        self._traffic = None


def _added(before: Traffic | None, seen: Traffic) -> Traffic:
    if before is None:
        return jax.tree.map(int, seen)
    return jax.tree.map(lambda a, b: a + int(b), before, seen)


def savings(traffic: Traffic | None) -> dict[str, float]:
    """What de-duplication saves, by list: how many rows there would be for each one that there is.

    ``dedup_worker``: places of a batch for each row asked for; ``dedup_server``: rows asked for,
    for each one compressed or updated.
    """
    if traffic is None:
        return {}
    ratios = {}
    for name, listed in traffic.listed.items():
        ratios[f"dedup_worker/{name}"] = round(traffic.places[name] / max(listed, 1), 3)
        ratios[f"dedup_server/{name}"] = round(listed / max(traffic.handled[name], 1), 3)
    return ratios
