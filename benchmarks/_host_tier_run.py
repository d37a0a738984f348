"""One training run of the benchmark of tiers, in a process of its own, told when to take steps.

Reads a number of steps per line from stdin, takes them with all that a real run does from batch
number to new parameters, and answers each with a line of JSON on stdout.
"""

import dataclasses
import itertools
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import jax

from benchmarks._host_tier_log import LogSize, read_log
from dicm_jax.ams import mesh
from dicm_jax.ams.mesh import MeshShape
from dicm_jax.config import Config
from dicm_jax.config_file import load_config
from dicm_jax.data.schema import ClickLog
from dicm_jax.training import assemble
from dicm_jax.training.feed import THREADS, feed

# Unlike the peak that `resource` tells, that of the status does not begin with the parent's.
STATUS = Path("/proc/self/status")


class TierRun:
    """A run of the training program of ``features.tier``, from its first step on."""

    def __init__(self, config: Config, log: ClickLog):
        self.roles = mesh.colocated(MeshShape(1, 1))
        self.job = assemble.start_job(config, log, self.roles)
        source = assemble.train_source(config, log)
        model, params = assemble.new_model(self.job)
        self.connection = self.job.connect(source, model)
        moves = assemble.optimizers(config.optimizer, source)
        self.state = assemble.initial_state(self.job, model, params, moves, self.connection)
        self.step = self.connection.train_step(model, moves)
        # One feed from the first step to the last, as in a run.
        self.batches = feed(
            self.connection.plan,
            0,
            len(source),
            prefetch=config.train.prefetch,
            roles=self.roles,
        )
        self.untimed = untimed_steps(config)

    def take(self, steps: int) -> dict[str, Any]:
        """Takes steps; planning, gathering and sending their batches counts.

        Steps before those, not timed, use up what was planned while other runs had their turn.
        """
        losses = self._losses(self.untimed)
        start, cpu_start = time.perf_counter(), time.process_time()
        losses += self._losses(steps)
        return {
            "steps": steps,
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - cpu_start,
            "losses": losses,
            "peak_rss_mib": memory_mib("VmHWM"),
            "rss_anon_mib": memory_mib("RssAnon"),
            "pages_read": resource.getrusage(resource.RUSAGE_SELF).ru_majflt,
        }

    def _losses(self, steps: int) -> list[float]:
        """Takes steps; each loss is looked at one step later, as in a run."""
        losses, last = [], None
        for batch in itertools.islice(self.batches, steps):
            self.state, report = self.step(self.state, self.job.tables, batch)
            if last is not None:
                losses.append(float(last))
            last = report.workers.loss
        jax.block_until_ready(self.state)
        return losses if last is None else [*losses, float(last)]


def untimed_steps(config: Config) -> int:
    """Batches that may be planned ahead while a run waits."""
    return config.train.prefetch + THREADS


def memory_mib(name: str) -> int:
    """A line of this process's status, e.g. ``RssAnon``: private memory, without pages of files."""
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return round(int(fields[name].split()[0]) / 1024)


def main(rows: str, size: str, config: str, overrides: str) -> None:
    """Answers every line of stdin.

    Args:
      rows: file with the rows of the log.
      size: of the log, as JSON.
      config: a config file.
      overrides: of it, as JSON.
    """
    settings = load_config(config, json.loads(overrides))
    run = TierRun(settings, read_log(Path(rows), LogSize(**json.loads(size))))
    for line in sys.stdin:
        print(json.dumps(run.take(int(line))), flush=True)


def command(rows: Path, size: LogSize, config: str, overrides: list[str]) -> list[str]:
    """The command of a process that runs `main`."""
    given = [str(rows), json.dumps(dataclasses.asdict(size)), config, json.dumps(overrides)]
    return [sys.executable, "-m", "benchmarks._host_tier_run", *given]


if __name__ == "__main__":
    main(*sys.argv[1:])
