"""Looks at each step once the next one is on its way, so that the device never waits."""

import time

import jax
from tqdm import tqdm

from dicm_jax.training.events import Events
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
    """

    def __init__(self, events: Events, bar: tqdm, log_every: int):
        self._events, self._bar, self._log_every = events, bar, log_every
        self._pending: tuple[int, StepReport] | None = None
        self._taken, self._impressions, self._seconds = 0, 0.0, 0.0
        self._last = time.perf_counter()
        self.overflown = 0

    @property
    def samples_per_s(self) -> float:
        """Impressions a second, compilation left out; 0 before anything was timed."""
        return self._impressions / self._seconds if self._seconds else 0.0

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
        self._last = time.perf_counter()

    def _take(self, step: int, report: StepReport) -> None:
        seen = jax.device_get(report)
        check_finite(step, {name: float(value) for name, value in seen.magnitudes.items()})
        now = time.perf_counter()
        self._taken += 1
        self.overflown += int(seen.rounds) > 1
        if self._taken > WARM_UP:
            self._impressions += float(seen.impressions)
            self._seconds += now - self._last
        self._last = now
        self._bar.update()
        if step % self._log_every == 0:
            self._log(step, float(seen.loss))

    def _log(self, step: int, loss: float) -> None:
        speed = self.samples_per_s
        self._bar.set_postfix_str(f"{speed:,.0f} samples/s, loss {loss:.4f}")
        values = {"loss": loss, "samples_per_s": round(speed, 1), "overflown": self.overflown}
        self._events.write("train", step, values)
