"""Uvicorn, set up for short requests, and for clients that never get to the point."""

import asyncio
import contextlib
import logging
import signal
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dicm_jax.errors import ConfigError

_LOG = logging.getLogger("dicm_jax.serve")
_HEAD_S = 10.0
"""Seconds for a request's head to arrive: Uvicorn has no limit of its own."""


class ImpatientProtocol(HttpToolsProtocol):
    """Closes connections whose request does not begin to be answerable in time."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        """The next request begins."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """Its head is there; `dicm_jax.serving.http.limits` looks after the body."""
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop()
        self._patience = self.loop.call_later(_HEAD_S, self.transport.close)

    def _stop(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def run(app: Any, *, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT; answers that have begun are finished.

    Raises:
      ConfigError: the port cannot be listened at.
    """
    listener = _listener(host, port)
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        access_log=False,  # /metrics counts requests
        log_config=_LOGGING,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        limit_concurrency=1024,
        server_header=False,
    )
    at, port, *_ = listener.getsockname()
    _LOG.info("listening at http://%s:%d", f"[{at}]" if ":" in at else at, port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    # When it has ended, Uvicorn raises the signal that it was ended by once more.
    with contextlib.suppress(_Ended):
        uvicorn.Server(config).run(sockets=[listener])


class _Ended(BaseException):
    """A signal has ended the service."""


def _end(*_: Any) -> None:
    raise _Ended


def _listener(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ConfigError(
            f"--host={host} --port={port}: cannot be listened at ({error.strerror}): choose another"
            " port, or end what uses this one"
        ) from error


_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": "INFO", "propagate": False}
        for name in ("dicm_jax.serve", "uvicorn")
    },
}
