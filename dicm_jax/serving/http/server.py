"""Uvicorn, set up for short requests, and for clients that never get to the point."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
    """Serves until SIGTERM or SIGINT; answers that have begun are finished."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=ImpatientProtocol,
        ws="none",
        access_log=False,  # /metrics counts requests
        log_config=_LOGGING,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        limit_concurrency=1024,
        server_header=False,
    )
    uvicorn.Server(config).run()


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
