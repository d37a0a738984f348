"""A polite end: SIGTERM asks a run to save and stop."""

import signal

from dicm_jax.training.agreement import texts_of_all


class PreemptedError(Exception):
    """SIGTERM came; everything is saved."""


class Preemption:
    """Whether SIGTERM has come since the object was made.

    Each batch of training carries `asked` of the process that made it, so that all of them stop
    after the same step; where there are no such batches, `check` asks all of them.
    """

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, *_) -> None:
        self.asked = True

    def check(self) -> None:
        """To be called by all processes, where nothing is left to save.

        Raises:
          PreemptedError: one of them was asked to stop.
        """
        if any(texts_of_all("asked" if self.asked else "")):
            raise PreemptedError
