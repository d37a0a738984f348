"""An hour's load in ten minutes: good requests at a steady rate, broken ones, reloads.

Claim: no good request fails, the service lives, and its memory does not grow.

Good requests come at a fixed rate, as many in all as an hour at a sixth of it has. Beside them come
broken ones of every kind (no JSON, wrong types, unknown items, too much, half a request and
silence, half a request and gone), new items, and newer versions of the servable, every third of
which is broken. Everything stays on the loopback interface, and all of it is bounded.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks._machine import circumstances
from benchmarks._serving_load import HOST, Server, answer, encoded, serving
from dicm_jax.serving import format as files
from dicm_jax.serving import servable as servables

DESCRIPTION = "A long load with broken requests and reloads mixed in."
EXAMPLE = """example:
  python -m benchmarks.serving_soak --servable=servables/dicm --minutes=10 --rate=150

Ends with one line of JSON: `ratio` is the share of good requests that were answered with 200."""
_CLIENTS = 8
_KEPT = 3
"""Versions of the servable that are left in the folder."""


class Publisher:
    """Newer versions of a servable, copies of the first; every third is broken.

    Args:
      servable: that is copied.
      folder: where versions appear.
    """

    def __init__(self, servable: Path, folder: Path):
        self._servable, self._folder, self._number = servable, folder, 0
        self.published, self.broken = 0, 0
        self.publish()

    def publish(self) -> None:
        """One more version; the oldest goes."""
        self._number += 1
        draft = self._folder / f"{self._number}.unfinished"
        shutil.copytree(self._servable, draft)
        if self._number % 3 == 0:
            table = draft / "models" / "dicm" / "tables.safetensors"
            table.write_bytes(table.read_bytes()[:-100])
            self.broken += 1
        draft.rename(self._folder / str(self._number))
        self.published += 1
        for old in servables.versions_in(self._folder)[:-_KEPT]:
            shutil.rmtree(self._folder / str(old))


def good_requests(names: Sequence[str], count: int) -> list[bytes]:
    """Requests of many sizes that the service must answer."""
    rng = np.random.default_rng(1)
    array = np.array(names, object)
    made = []
    for _ in range(count):
        behaviors = rng.choice(array, rng.integers(0, 60)).tolist()
        candidates = rng.choice(array, rng.integers(1, 200)).tolist()
        body = {
            "user": {"behaviors": behaviors},
            "candidates": candidates,
            "model": str(rng.choice(["dicm", "baseline"])),
            "images": bool(rng.random() < 0.8),
        }
        made.append(encoded(json.dumps(body).encode()))
    return made


def broken_requests(names: Sequence[str], width: int) -> dict[str, tuple[bytes, set[int]]]:
    """Requests that must be refused, and the statuses that say so."""
    some = names[0]
    bodies: dict[str, tuple[Any, set[int]]] = {
        "no JSON": (b"{", {422}),
        "no body": (b"", {422}),
        "another type": ([1, 2], {422}),
        "NaN": (b'{"user": {}, "candidates": [NaN]}', {422}),
        "no candidates": ({"user": {}, "candidates": []}, {422}),
        "numbers for names": ({"user": {}, "candidates": [1, 2]}, {422}),
        "unknown item": ({"user": {}, "candidates": ["no such item"]}, {404}),
        "unknown user": ({"user": {"id": "no such user"}, "candidates": [some]}, {404}),
        "unknown field": ({"user": {"fields": {"no_such": 1}}, "candidates": [some]}, {404}),
        "key out of range": ({"user": {}, "candidates": [some], "context": {"x": [1]}}, {404}),
        "a million candidates": ({"user": {}, "candidates": [some] * 1_000_000}, {413, 422}),
        "deep": (b"[" * 100_000, {422}),
    }
    found = {
        name: (encoded(body if isinstance(body, bytes) else json.dumps(body).encode()), wanted)
        for name, (body, wanted) in bodies.items()
    }
    item = {"items": [{"name": "bad", "features": {"image": [0.0] * (width - 1)}}]}
    found["a short feature row"] = (encoded(json.dumps(item).encode(), "/v1/items"), {422})
    return found


class Soak:
    """Everything that happens at once."""

    def __init__(self, args: argparse.Namespace, server: Server, publisher: Publisher):
        self._args, self._server, self._publisher = args, server, publisher
        self._names = servables.read_lines(args.servable / "items.jsonl")
        signature = json.loads((args.servable / files.NAME).read_text())
        self._width = signature["contents"]["image"]["width"]
        self._until = time.perf_counter() + 60 * args.minutes
        self.statuses, self.wrong = Counter[int](), Counter[str]()
        self.refused, self.broken_sent, self.items_added = 0, 0, 0
        self.seconds: list[float] = []
        self.rss_mib: list[float] = []

    async def run(self) -> None:
        """Until the time is over."""
        requests = good_requests(self._names, 500)
        clients = [self._good(requests, number) for number in range(_CLIENTS)]
        await asyncio.gather(
            *clients, self._broken(), self._silent(), self._items(), self._reloads(), self._memory()
        )

    @property
    def _over(self) -> bool:
        return time.perf_counter() >= self._until

    async def _good(self, requests: Sequence[bytes], number: int) -> None:
        """A client with its share of the rate; it does not make up for what it was late."""
        pause = _CLIENTS / self._args.rate
        reader, writer = await asyncio.open_connection(HOST, self._server.port, limit=2**22)
        due = time.perf_counter() + pause * number / _CLIENTS
        at = number * 37
        while not self._over:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sent = time.perf_counter()
            writer.write(requests[at % len(requests)])
            status = await answer(reader)
            self.statuses[status] += 1
            self.seconds.append(time.perf_counter() - sent)
            due, at = max(due + pause, sent), at + 1
        writer.close()

    async def _broken(self) -> None:
        """One broken request after the other, each over a connection of its own."""
        requests = broken_requests(self._names, self._width)
        while not self._over:
            for name, (request, wanted) in requests.items():
                reader, writer = await asyncio.open_connection(HOST, self._server.port, limit=2**22)
                self.broken_sent += 1
                try:
                    writer.write(request)
                    await writer.drain()
                    status = await asyncio.wait_for(answer(reader), 30)
                    if status not in wanted:
                        self.wrong[f"{name}: {status}"] += 1
                except ConnectionError:
                    pass  # refused before all was sent, and closed: so be it
                finally:
                    writer.close()
                await asyncio.sleep(0.1)

    async def _silent(self) -> None:
        """Clients that send half a request, and then nothing, or leave."""
        whole = good_requests(self._names, 1)[0]
        while not self._over:
            writers = []
            for part in (5, len(whole) // 2):
                _, writer = await asyncio.open_connection(HOST, self._server.port)
                writer.write(whole[:part])
                writers.append(writer)
                _, gone = await asyncio.open_connection(HOST, self._server.port)
                gone.write(whole[:part])
                gone.close()
            await asyncio.sleep(5)
            for writer in writers:
                writer.close()

    async def _items(self) -> None:
        """New items now and then, the same names again and again."""
        rng = np.random.default_rng(2)
        while not self._over:
            await asyncio.sleep(2)
            row = np.maximum(rng.standard_normal(self._width), 0).round(3).tolist()
            name = f"new {rng.integers(50)}"
            body = {"items": [{"name": name, "features": {"image": row}}]}
            reader, writer = await asyncio.open_connection(HOST, self._server.port, limit=2**22)
            writer.write(encoded(json.dumps(body).encode(), "/v1/items"))
            self.statuses[await answer(reader)] += 1
            self.items_added += 1
            writer.close()

    async def _reloads(self) -> None:
        while not self._over:
            await asyncio.sleep(self._args.reload_every)
            await asyncio.to_thread(self._publisher.publish)

    async def _memory(self) -> None:
        total = round(60 * self._args.minutes)
        for _ in tqdm(range(total), desc="soak", unit="s"):
            self.rss_mib.append(self._server.rss_mib)
            await asyncio.sleep(1)
            if self._over:
                return


def report(soak: Soak, publisher: Publisher) -> dict[str, Any]:
    """What came of it."""
    rss = np.array(soak.rss_mib)
    quarter = max(1, len(rss) // 4)
    good = sum(soak.statuses.values())
    return {
        "ratio": soak.statuses[200] / good,
        "good_requests": good,
        "statuses": dict(soak.statuses),
        "p50_ms": round(1000 * float(np.percentile(soak.seconds, 50)), 2),
        "p99_ms": round(1000 * float(np.percentile(soak.seconds, 99)), 2),
        "broken_requests": soak.broken_sent,
        "broken_answered_wrongly": dict(soak.wrong),
        "items_added": soak.items_added,
        "published": publisher.published,
        "published_broken": publisher.broken,
        "rss_mib": {
            "second_quarter": round(float(np.median(rss[quarter : 2 * quarter])), 1),
            "last_quarter": round(float(np.median(rss[-quarter:])), 1),
            "most": round(float(rss.max()), 1),
        },
    }


def main(arguments: list[str]) -> None:
    """Runs the load and prints its JSON line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving_soak",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--servable", type=Path, required=True, help="with a baseline in it")
    parser.add_argument("--minutes", type=float, default=10.0, help="default 10")
    parser.add_argument("--rate", type=float, default=150.0, help="good requests a second")
    parser.add_argument("--reload-every", type=float, default=30.0, help="seconds; default 30")
    args = parser.parse_args(arguments)
    if min(args.minutes, args.rate, args.reload_every) <= 0:
        parser.error("needs minutes, rate and reload-every above 0")
    args.servable = servables.newest(args.servable)
    with tempfile.TemporaryDirectory(prefix="soak_") as folder:
        publisher = Publisher(args.servable, Path(folder))
        with serving(Path(folder), "--reload-every=1") as server:
            soak = Soak(args, server, publisher)
            asyncio.run(soak.run())
            result = report(soak, publisher)
    result = {
        "benchmark": "serving_soak",
        "against": "all requests answered",
        **result,
        "minutes": args.minutes,
        "rate": args.rate,
        **circumstances("jax", "fastapi", "uvicorn"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
