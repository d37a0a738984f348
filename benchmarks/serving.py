"""What images cost a ranking service: DICM and the baseline without them, from one servable.

Claim (the paper's, 24 ms against 21): DICM takes at most 1.14 times the baseline's time.

Both models are asked the same of one process, in turns: candidates for a user with his behaviors,
as JSON over HTTP on the loopback interface, by 1, 8 and 32 clients that ask without a pause. The
clients share the machine with the service.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks._machine import circumstances
from benchmarks._serving_load import Load, ask, encoded, serving
from dicm_jax.serving import servable as servables

DESCRIPTION = "Latency and throughput of the service, with and without images."
EXAMPLE = """example:
  python -m dicm_jax.export --workdir=runs/dicm --output=servables/dicm
  python -m benchmarks.serving --servable=servables/dicm

Ends with one line of JSON: `ratio` is the baseline's median time over DICM's for one client (the
claim: at least 1/1.14 = .877), `dicm_to_baseline` has all of them."""
_MODELS = ("dicm", "baseline")


def requests_of(
    folder: Path, model: str, *, candidates: int, behaviors: int, count: int
) -> list[bytes]:
    """Requests for random users and items of a servable, the same for each model."""
    rng = np.random.default_rng(0)
    names = np.array(servables.read_lines(servables.newest(folder) / "items.jsonl"), object)
    made = []
    for _ in range(count):
        user = {"behaviors": rng.choice(names, behaviors).tolist()}
        shown = rng.choice(names, candidates, replace=False).tolist()
        body = {"user": user, "candidates": shown, "model": model}
        made.append(encoded(json.dumps(body).encode()))
    return made


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Loads by clients and model, in turns."""
    sizes = {"candidates": args.candidates, "behaviors": args.behaviors, "count": 100}
    requests = {model: requests_of(args.servable, model, **sizes) for model in _MODELS}
    loads: dict[tuple[int, str], list[Load]] = {}
    with serving(args.servable) as server:
        for model in _MODELS:
            ask(server.port, requests[model], clients=2, seconds=1.0)
        turns = [(c, m) for c in args.clients for _ in range(args.rounds) for m in _MODELS]
        for clients, model in tqdm(turns, desc="turns"):
            load = ask(server.port, requests[model], clients=clients, seconds=args.seconds)
            if set(load.statuses) != {200}:
                raise RuntimeError(f"{model}, {clients} clients: answers {load.statuses}")
            loads.setdefault((clients, model), []).append(load)
    return report(loads, args.clients)


def report(loads: dict[tuple[int, str], list[Load]], clients: Sequence[int]) -> dict[str, Any]:
    """Medians over rounds, and medians of the rounds' ratios."""
    found: dict[str, Any] = {model: {} for model in _MODELS}
    ratios: dict[str, Any] = {}
    for number in clients:
        for model in _MODELS:
            rounds = loads[number, model]
            found[model][str(number)] = {
                "p50_ms": _median([load.percentile_ms(50) for load in rounds]),
                "p99_ms": _median([load.percentile_ms(99) for load in rounds]),
                "per_second": _median([load.per_second for load in rounds]),
            }
        pairs = list(zip(*(loads[number, model] for model in _MODELS), strict=True))
        ratios[str(number)] = {
            f"p{p}": _median([a.percentile_ms(p) / b.percentile_ms(p) for a, b in pairs])
            for p in (50, 99)
        }
    most = {model: max(of["per_second"] for of in found[model].values()) for model in _MODELS}
    first = ratios[str(clients[0])]["p50"]
    return {
        "ratio": round(1 / first, 3),
        "dicm_to_baseline": ratios,
        "most_per_second": most,
        **found,
    }


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 3)


def cold_starts(folder: Path, count: int) -> dict[str, list[float]]:
    """Seconds to ready: the first with an empty cache of compiled programs, the others with it."""
    with tempfile.TemporaryDirectory() as cache:
        seconds = []
        for _ in range(1 + count):
            with serving(folder, f"--cache={cache}") as server:
                seconds.append(round(server.ready_s, 2))
    return {"compiling": seconds[:1], "with_cache": seconds[1:]}


def parse(arguments: list[str]) -> argparse.Namespace:
    """The sizes asked for; ends with code 2 on those that make no benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--servable", type=Path, required=True, help="with a baseline in it")
    parser.add_argument("--candidates", type=int, default=400, help="default 400")
    parser.add_argument("--behaviors", type=int, default=50, help="default 50")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each model; default 5")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn; default 3")
    parser.add_argument("--starts", type=int, default=3, help="starts with a cache; default 3")
    args = parser.parse_args(arguments)
    if min(args.candidates, args.behaviors, args.rounds, *args.clients) < 1 or args.seconds <= 0:
        parser.error("needs candidates, behaviors, rounds, clients and seconds above 0")
    return args


def main(arguments: list[str]) -> None:
    """Runs the comparison and prints its JSON line."""
    args = parse(arguments)
    result = {
        "benchmark": "serving",
        "against": "the model without images",
        **measured(args),
        "seconds_to_ready": cold_starts(args.servable, args.starts),
        "candidates": args.candidates,
        "behaviors": args.behaviors,
        **circumstances("jax", "fastapi", "uvicorn"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
