"""Runs the small model in every setting of `SETTINGS`; started by the tests, once a process.

    python -m tests.multiprocess.steps OUT DEVICES

joins the other processes that the environment speaks of, takes some steps in each setting, each
process with its own share of every batch, and writes what came out into the file OUT (process 0).
"""

import json
import sys
from typing import Any

import jax

STEPS = 5


def settings(devices: int) -> dict[str, dict[str, Any]]:
    """Arguments of `small_world.run` by name, for `devices` devices over all processes."""
    from dicm_jax.config import ExchangeConfig

    half = devices // 2
    usual, raw, in_batch, inexact = (
        ExchangeConfig(chunk=64),
        ExchangeConfig(strategy="ps_server", chunk=64),
        ExchangeConfig(strategy="ps_worker", chunk=64),
        ExchangeConfig(wire="int8", id_wire="bfloat16", chunk=64),
    )
    # Every process compiles everything: more of them share the machine, so they get less to do.
    if devices > 4:
        return {
            "ams": {"settings": usual, "worker": 1, "server": devices},
            "ps_server, dedicated": {
                "settings": raw,
                "worker": 1,
                "server": half,
                "placement": "dedicated",
            },
        }
    return {
        "overflown": {"settings": usual, "worker": 2, "server": half, "per_server": 4},
        "dedicated, rows on the host": {
            "settings": usual,
            "worker": 1,
            "server": half,
            "placement": "dedicated",
            "on_host": True,
        },
        "int8 rows, inexact wires": {
            "settings": inexact,
            "worker": 1,
            "server": devices,
            "storage": "int8",
        },
        "ps_worker": {"settings": in_batch, "worker": 1, "server": devices},
    }


def outcomes(devices: int) -> dict[str, dict[str, Any]]:
    """Losses, rounds and traffic of every setting, the same in every process."""
    from tests import small_world

    found = {}
    for name, arguments in settings(devices).items():
        run = small_world.run(**arguments)
        reports = run.go(STEPS)
        found[name] = {
            "losses": [float(report.workers.loss) for report in reports],
            "squares": {key: float(value) for key, value in reports[-1].workers.magnitudes.items()},
            "rounds": max(int(report.rounds) for report in reports),
            "listed": {key: int(value) for key, value in reports[-1].traffic.listed.items()},
            "handled": {key: int(value) for key, value in reports[-1].traffic.handled.items()},
        }
    return found


def main(out: str, devices: str) -> None:
    """The command line."""
    jax.config.update("jax_default_matmul_precision", "highest")
    from dicm_jax.config import MeshConfig
    from dicm_jax.training.devices import is_main, join_processes

    join_processes(MeshConfig())
    found = outcomes(int(devices))
    if is_main():
        with open(out, "w") as file:
            json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
