"""An application over a servable, and requests that no well-behaved client would make of it."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from dicm_jax.serving import Ranker
from dicm_jax.serving.http.app import Settings, create_app
from dicm_jax.serving.http.service import Service
from tests.serving.made import BUCKETS, ROOM


@dataclasses.dataclass(frozen=True)
class UnderTest:
    """What tests look at."""

    client: TestClient
    service: Service
    app: FastAPI

    def raw(
        self, path: str, messages: Sequence[dict[str, Any]], method: str = "POST", **headers: str
    ) -> tuple[int | None, dict[str, str], bytes]:
        """One request told as ASGI messages; a number among them is a pause, seconds.

        Returns:
          Status (None for no answer), headers and body.
        """
        import anyio

        waiting = list(messages)
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            message = waiting.pop(0)
            if "sleep" in message:
                await anyio.sleep(message["sleep"])
                message = waiting.pop(0)
            return message

        async def send(message: Any) -> None:
            sent.append(message)

        pairs = [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()]
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1"}
        scope |= {"method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        scope |= {"headers": pairs, "scheme": "http", "client": ("t", 1), "server": ("t", 80)}
        assert self.client.portal is not None
        self.client.portal.call(self.app, scope, receive, send)
        if not sent:
            return None, {}, b""
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, b"".join(m.get("body", b"") for m in sent[1:])

    def metric(self, name: str, **labels: str) -> float:
        """A number of ``/metrics``, 0 where it is not there."""
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


def body(*parts: bytes) -> list[dict[str, Any]]:
    """A request's body in parts."""
    made = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    made[-1]["more_body"] = False
    return made


@contextlib.contextmanager
def running(folder: Path, *, ready: bool = True, **settings: Any) -> Iterator[UnderTest]:
    """An application whose servable has been loaded, unless `ready` is false."""
    of_service = {n: settings.pop(n) for n in ("waiting", "timeout_s") if n in settings}
    load = settings.pop("load", lambda at: Ranker(at, room=ROOM, buckets=BUCKETS))
    chosen: dict[str, Any] = {"reload_s": 0.0} | settings
    service = Service(folder, load, **of_service)
    app = create_app(service, Settings(**chosen))
    with TestClient(app, raise_server_exceptions=False) as client:
        end = time.monotonic() + 60
        while ready and not service.started:
            assert time.monotonic() < end, "the servable was not loaded"
            time.sleep(0.01)
        yield UnderTest(client, service, app)
