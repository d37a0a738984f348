"""What a user reads when a Beam pipeline fails: the one message, not the way it came."""

import contextlib
import logging
import re
from collections.abc import Iterator

from dicm_jax import errors
from dicm_jax.errors import ConfigError, DicmError

# Beam hands on errors of workers as text: a traceback, in which it adds the step to the message.
_OURS = re.compile(r"dicm_jax\.errors\.(\w+): (.*?)(?: \[while running '|$)", re.MULTILINE)


@contextlib.contextmanager
def one_message(runner: str) -> Iterator[None]:
    """Turns whatever Beam raises into the error that a worker raised, or one about Beam.

    Args:
      runner: the name of the runner.

    Raises:
      DicmError: of the class that the worker raised.
      ConfigError: Beam failed, and not for an error of ours.
    """
    with _without_ours_in_the_log():
        try:
            yield
        except Exception as error:
            found = found_in(str(error))
            if found is not None:
                raise found from error
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ConfigError(
                f"Apache Beam with --runner={runner} failed: {lines[-1]}; docs/beam.md says what a"
                " runner needs, and with --debug all that it said is shown. After mending it run"
                " the same command again: what is written is kept"
            ) from error


def found_in(text: str) -> DicmError | None:
    """The first error of this package in what a runner reports."""
    for name, message in _OURS.findall(text):
        kind = getattr(errors, name, None)
        if kind is not None:
            return kind(message)
    return None


@contextlib.contextmanager
def _without_ours_in_the_log() -> Iterator[None]:
    """Keeps tracebacks of errors that are reported anyway out of Beam's log, and nothing else."""
    beam_log = logging.getLogger("apache_beam")
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: found_in(handler.format(record)) is None)
    propagate, beam_log.propagate = beam_log.propagate, False
    beam_log.addHandler(handler)
    try:
        yield
    finally:
        beam_log.removeHandler(handler)
        beam_log.propagate = propagate
