"""Errors that a user can act on: each ends a command with one message and exit code 1.

The form of every message: what was asked, what was found (with its value), what to do.
"""


class DicmError(Exception):
    """Base of all errors meant for the user; command lines print it without a traceback."""


class ConfigError(DicmError):
    """The configuration, or a combination of its values, cannot be used."""


class DataError(DicmError):
    """A log, a feature array or a part of one cannot be used."""


class MeshError(DicmError):
    """The devices at hand cannot be arranged as asked."""


class CheckpointError(DicmError):
    """A checkpoint does not fit the run that wants it."""


class NonFiniteError(DicmError):
    """A NaN or an infinity turned up in training."""


class LostProcessError(DicmError):
    """Another process of the run is lost, or has failed."""


class ServableError(DicmError):
    """A servable cannot be made or used."""


class RequestError(DicmError):
    """A request to a ranker cannot be answered; nothing else is affected."""


class UnknownNameError(RequestError):
    """A request names a user, an item or a field that is not there."""


class TooLargeError(RequestError):
    """A request asks for more than the ranker has room for."""
