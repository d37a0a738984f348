"""What a user reads when a Beam pipeline fails: the one message, not the way it came."""

import contextlib
import logging
import re
from collections.abc import Iterator

from dicm_jax import errors
from dicm_jax.errors import ConfigError, DicmError

# Beam hands on errors of workers as text: a traceback, in which it adds the step to the message.
_STEP = " [while running '"
_OURS = re.compile(rf"dicm_jax\.errors\.(\w+): (.*?)(?:{re.escape(_STEP)}|$)", re.MULTILINE)


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
        except DicmError as error:  # of a worker in this process
            raise type(error)(str(error).partition(_STEP)[0]) from error
        except Exception as error:
            found = found_in(str(error))
            if found is not None:
                raise found from error
            raise ConfigError(
                f"Apache Beam with --runner={runner} failed: {_gist(error)}; docs/beam.md says what"
                " a runner needs, and with --debug all that Beam said is shown. After mending it"
                " run the same command again: what is written is kept"
            ) from error


def found_in(text: str) -> DicmError | None:
    """The first error of this package in what a runner reports."""
    for name, message in _OURS.findall(text):
        kind = getattr(errors, name, None)
        if kind is not None:
            return kind(message)
    return None


def _gist(error: Exception) -> str:
    """What an error says; of a traceback, its last line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if "Traceback" in str(error) else " ".join(lines)


@contextlib.contextmanager
def _without_ours_in_the_log() -> Iterator[None]:
    """Keeps tracebacks of errors that are reported anyway out of the log, and nothing else."""
    logging.basicConfig()  # or Beam would, past this filter
    handlers = list(logging.getLogger().handlers)
    text_of = logging.Formatter().format

    def is_not_ours(record: logging.LogRecord) -> bool:
        return found_in(text_of(record)) is None

    for handler in handlers:
        handler.addFilter(is_not_ours)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_not_ours)
