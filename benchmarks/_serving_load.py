"""A service as a process of its own, and clients that ask it again and again.

Clients are closed loops over kept connections: each sends its next request when it has the last
answer. Requests are encoded ahead, and of answers only the head is looked at, so that little of
what is measured is the clients' own.
"""

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"


@dataclasses.dataclass(frozen=True)
class Server:
    """A service that is ready.

    Attributes:
      port: on the loopback interface.
      pid: of its process.
      ready_s: seconds from the start of the process until it answered that it is ready.
    """

    port: int
    pid: int
    ready_s: float

    @property
    def rss_mib(self) -> float:
        """Memory that the process holds now."""
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def serving(servable: Path, *options: str, limit_s: float = 120.0) -> Iterator[Server]:
    """Runs ``python -m dicm_jax.serve`` until the block ends."""
    port = free_port()
    command = [sys.executable, "-m", "dicm_jax.serve", f"--servable={servable}", f"--port={port}"]
    with tempfile.TemporaryFile() as log:  # not a pipe: nobody reads it while the service runs
        started = time.perf_counter()
        process = subprocess.Popen([*command, *options], cwd=ROOT, stderr=log)
        try:
            while not _is_ready(port):
                if process.poll() is not None or time.perf_counter() - started > limit_s:
                    log.seek(0)
                    raise RuntimeError(f"the service did not start: {log.read().decode()}")
                time.sleep(0.01)
            yield Server(port, process.pid, time.perf_counter() - started)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def encoded(body: bytes, path: str = "/v1/rank") -> bytes:
    """A whole request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclasses.dataclass(frozen=True)
class Load:
    """What clients saw.

    Attributes:
      seconds_N: of each answer.
      elapsed_s: of all.
      statuses: how often each status came.
    """

    seconds_N: np.ndarray
    elapsed_s: float
    statuses: dict[int, int]

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.seconds_N) / self.elapsed_s

    def percentile_ms(self, percent: float) -> float:
        """Milliseconds that so many percent of the answers took at most."""
        return float(1000 * np.percentile(self.seconds_N, percent))


def ask(port: int, requests: Sequence[bytes], *, clients: int, seconds: float) -> Load:
    """Clients ask for so many seconds, each from another request of the list on."""
    return asyncio.run(_ask(port, requests, clients, seconds))


async def _ask(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Load:
    began = time.perf_counter()
    until = began + seconds
    starts = [number * len(requests) // clients for number in range(clients)]
    found = await asyncio.gather(*[_client(port, requests, first, until) for first in starts])
    elapsed = time.perf_counter() - began
    statuses: dict[int, int] = {}
    for status in (status for of_client in found for status, _ in of_client):
        statuses[status] = statuses.get(status, 0) + 1
    times = np.array([seconds for of_client in found for _, seconds in of_client])
    return Load(times, elapsed, statuses)


async def _client(
    port: int, requests: Sequence[bytes], first: int, until: float
) -> list[tuple[int, float]]:
    reader, writer = await asyncio.open_connection(HOST, port, limit=2**22)
    made, number = [], first
    try:
        while time.perf_counter() < until:
            sent = time.perf_counter()
            writer.write(requests[number % len(requests)])
            status = await answer(reader)
            made.append((status, time.perf_counter() - sent))
            number += 1
    finally:
        writer.close()
        await writer.wait_closed()
    return made


async def answer(reader: asyncio.StreamReader) -> int:
    """The status of an answer, once all of it is there."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    at = head.index(b"content-length:") + len(b"content-length:")
    await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
    return int(head[9:12])
