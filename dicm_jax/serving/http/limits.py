"""What a client may not do: send too much, send too slowly, come without a token.

One ASGI middleware. It also measures every request, since it sees them all.
"""

import asyncio
import hmac
import json
import time
from typing import Any

from dicm_jax.serving.http.explorer import PATHS
from dicm_jax.serving.http.metrics import Metrics

OPEN = ("/healthz", "/readyz", *PATHS)
"""Paths that need no token: those of who watches over the service, and the page's own files, which
hold no data; the page asks for the token itself."""
GONE = 499
"""Counted where a client goes before there is an answer; it is never sent."""


class Limits:
    """Limits on requests.

    Args:
      app: the application behind it.
      metrics: what is counted.
      body_bytes: of a request's body, at most.
      body_s: seconds for a body to arrive.
      token: that requests must bear; None for none.
      paths: that are counted by name; others are counted together.
    """

    def __init__(
        self,
        app: Any,
        *,
        metrics: Metrics,
        body_bytes: int,
        body_s: float,
        token: str | None,
        paths: frozenset[str],
    ):
        self._app, self._metrics, self._paths = app, metrics, paths
        self._body_bytes, self._body_s = body_bytes, body_s
        self._token = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), GONE

        async def noted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        path = scope["path"] if scope["path"] in self._paths else "other"
        try:
            await self._within(scope, receive, noted)
        except Exception:  # answered outside of this
            status = 500
            raise
        finally:
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - began)

    async def _within(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        if self._token is not None and scope["path"] not in OPEN:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._token):
                await refuse(
                    send, 401, "a bearer token is needed: send Authorization: Bearer TOKEN"
                )
                return
        if scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        body = await self._body(headers, receive, send)
        if body is not None:
            await self._app(scope, _given(body, receive), send)

    async def _body(self, headers: dict[bytes, bytes], receive: Any, send: Any) -> bytes | None:
        """The whole body; None where the request has been refused, or the client is gone."""
        too_large = f"a body of more than {self._body_bytes:,} bytes: send fewer at a time"
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._body_bytes:
            await refuse(send, 413, too_large)
            return None
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._body_bytes:
                        await refuse(send, 413, too_large)
                        return None
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            late = f"the body did not arrive within {self._body_s:g} s: send it again, faster"
            await refuse(send, 408, late)
            return None


def _given(body: bytes, receive: Any) -> Any:
    """`receive` for an application whose body is there already."""
    given = False

    async def receive_again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def refuse(send: Any, status: int, error: str) -> None:
    """An answer that says why there is none."""
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # what else it sends is not read
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
