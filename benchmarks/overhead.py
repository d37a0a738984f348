"""What it costs to split one batch over more devices: CPU seconds a step on 1, 2, 4, 8 devices.

Claim: 8 virtual devices need at most 1.3 times the CPU seconds of one for the same global batch.

Virtual devices share the machine's cores, so splitting gains nothing here; what is left is the cost
of splitting: exchanges, rows that several servers' chunks leave half full, dense parameters updated
on every device. The step is the one of ``configs/dicm.py`` on the built-in log, at a global batch
of 8,192 impressions; all device counts take turns in one process, and planning is not counted.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

import jax

from benchmarks._machine import circumstances
from benchmarks._rounds import Pace, medians, ratio, take_turns
from dicm_jax.ams import mesh
from dicm_jax.ams.mesh import MeshShape
from dicm_jax.config import Config
from dicm_jax.config_file import load_config
from dicm_jax.data.readers import read_log
from dicm_jax.data.schema import ClickLog
from dicm_jax.training import assemble
from dicm_jax.training.feed import lay_out

DESCRIPTION = "CPU seconds of a training step at a fixed global batch on 1, 2, 4, 8 devices."
EXAMPLE = """example:
  python -m benchmarks.overhead --batch_size=2048 --rounds=3

Ends with one line of JSON: `ratio` is the CPU seconds of one device over those of the most devices
(1 would be free splitting; the claim is at least 1 / 1.3 = .77), `cost` the same of each count."""

WARM_UP = 2


def program(config: Config, log: ClickLog, shape: MeshShape, steps: int) -> Callable[[], int]:
    """Takes `steps` steps on batches that lie ready, and says how many."""
    roles = mesh.colocated(shape)
    job = assemble.start_job(config, log, roles)
    source = assemble.train_source(config, log)
    model, params = assemble.new_model(job)
    connection = job.connect(source, model)
    moves = assemble.optimizers(config.optimizer, source)
    state = assemble.initial_state(job, model, params, moves, connection)
    step = connection.train_step(model, moves)
    batches = [lay_out(connection.plan(n), roles) for n in range(min(steps, len(source)))]

    def turn() -> int:
        nonlocal state
        for n in range(steps):
            state, report = step(state, job.tables, batches[n % len(batches)])
        jax.block_until_ready((state, report))
        return steps

    for _ in range(WARM_UP):
        turn()
    return turn


def report(paces: dict[str, list[Pace]]) -> dict[str, Any]:
    """Cost of each device count over that of the first, in CPU seconds."""
    names = list(paces)
    one = paces[names[0]]
    seconds = {name: 1 / pace for name, pace in medians(paces, "per_cpu_second").items()}
    return {
        "ratio": ratio(paces[names[-1]], one, "per_cpu_second"),
        "cost": {name: round(1 / ratio(paces[name], one, "per_cpu_second"), 3) for name in names},
        "cost_clock": {name: round(1 / ratio(paces[name], one), 3) for name in names},
        "cpu_seconds_per_step": {name: round(value, 4) for name, value in seconds.items()},
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    """The sizes asked for; ends with code 2 on those that make no benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="configs/dicm.py", help="default %(default)s")
    parser.add_argument("--devices", default="1,2,4,8", help="default %(default)s")
    parser.add_argument("--batch_size", type=int, default=8192, help="impressions; default 8192")
    parser.add_argument("--steps", type=int, default=4, help="of each a round; default 4")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    args, overrides = parser.parse_known_args(arguments)
    args.overrides = [override.removeprefix("--config.") for override in overrides]
    args.devices = [int(count) for count in args.devices.split(",")]
    if args.steps < 1 or args.rounds < 1 or min(args.devices) < 1:
        parser.error("needs steps, rounds and devices of at least 1")
    return args


def main(arguments: list[str]) -> None:
    """Runs the comparison and prints its JSON line."""
    args = parse(arguments)
    jax.config.update("jax_num_cpu_devices", max(args.devices))
    config = load_config(args.config, args.overrides)
    train = dataclasses.replace(config.train, batch_size=args.batch_size)
    config = dataclasses.replace(config, train=train)
    log = read_log(config.data)
    programs = {
        f"{count} devices": [program(config, log, MeshShape(1, count), args.steps)]
        for count in args.devices
    }
    paces = take_turns(programs, args.rounds, "steps")
    result = {
        "benchmark": "overhead",
        "against": "the same step on one device",
        **report(paces),
        "batch_size": args.batch_size,
        "rounds": args.rounds,
        **circumstances("jax", "numpy"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
