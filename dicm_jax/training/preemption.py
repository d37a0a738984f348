"""A polite end: SIGTERM asks a run to save and stop."""

import signal


class Preemption:
    """Whether SIGTERM has come since the object was made."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, *_) -> None:
        self.asked = True
