"""Training steps of DICM on the H&M log, against the same model in PyTorch.

Claim: at least 3 times the impressions a second of PyTorch's CPU build on the same machine, for the
model as a PyTorch user writes it: a row per impression, `torch.unique` before each compressor,
float32, `nn.Embedding(sparse=True)` with SparseAdam, Adam for the rest, all data in memory.

Four contenders take turns, some steps each a round, so that whatever else the machine does hits all
of them: the project's step with bfloat16 products and int8 rows; the same in float32 throughout;
the PyTorch program above; and one that trains on the project's batches, in which impressions of a
group share their behaviors. PyTorch runs with one thread and with all, and the better one counts.
Making the batch is part of each step. Before that all of them start from the same weights, and
their float32 losses must agree.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import statistics
import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from benchmarks._machine import circumstances, thread_counts
from benchmarks._rounds import Pace, PerSecond, Program, medians, ratio, take_turns
from dicm_jax.ams.keys import IMAGE
from dicm_jax.ams.layout import RowLayout
from dicm_jax.config import Config, DataConfig, FeaturesConfig, ModelConfig, TrainConfig
from dicm_jax.data.batches import Source
from dicm_jax.data.hm import reader as hm
from dicm_jax.data.schema import ClickLog
from dicm_jax.errors import DicmError
from dicm_jax.training import assemble
from dicm_jax.training.devices import start_roles
from dicm_jax.training.feed import feed

if TYPE_CHECKING:
    from benchmarks._peer_torch_model import TorchBatch, TorchDICM

DESCRIPTION = "Times training steps of DICM on the H&M log against the same model in PyTorch."
EXAMPLE = """example:
  python -m benchmarks.peer_torch --data=../shared/data/hm --rounds=3

PyTorch comes with the extra `bench`, or with `pip install torch`. The last line is one of JSON:
`ratio` says how many times more impressions a second the project trains than the PyTorch program,
`ratio_float32` the same in float32, `ratio_grouped` against a PyTorch program that also groups."""

FAST = ModelConfig(query_fields=("product_type",), compute_dtype="bfloat16")
FLOAT32 = ModelConfig(query_fields=("product_type",), compute_dtype="float32")
WARM_UP_STEPS = 5
LOSS_TOLERANCE = 1e-4


class Contender(Protocol):
    """A program under test."""

    def train(self, steps: int) -> tuple[int, list[float]]:
        """Trains `steps` batches to the end; impressions trained on, and losses."""
        ...


class Ours:
    """The project's training step behind its own input path, as a run of `dicm_jax.train` has it.

    Args:
      config: of the run.
      log: its data.
    """

    def __init__(self, config: Config, log: ClickLog):
        roles = start_roles(config.mesh, config.train.lanes)
        job = assemble.start_job(config, log, roles)
        self.spec, self.tables = job.spec, job.tables
        self.source = assemble.train_source(config, log)
        model, params = assemble.new_model(job)
        connection = job.connect(self.source, model)
        moves = assemble.optimizers(config.optimizer, self.source)
        self.state = assemble.initial_state(job, model, params, moves, connection)
        self.train_step = connection.train_step(model, moves)
        self.batches = feed(
            connection.plan,
            0,
            len(self.source),
            prefetch=config.train.prefetch,
            roles=roles,
        )

    def train(self, steps: int) -> tuple[int, list[float]]:
        impressions, losses = 0, []
        for batch in islice(self.batches, steps):
            self.state, report = self.train_step(self.state, self.tables, batch)
            impressions += int(np.asarray(batch.samples.weight_B).sum())
            losses.append(report.workers.loss)
        jax.block_until_ready(self.state)
        return impressions, [float(loss) for loss in losses]


def _torch_model(ours: Ours) -> "TorchDICM":
    """A PyTorch model with the weights, ID rows and feature rows of `ours` (all float32)."""
    from benchmarks import _peer_torch_model as peer

    net = ours.spec.net
    ids = RowLayout(ours.source.stack.n_keys)
    images = RowLayout(ours.source.log.features.count)
    model = peer.TorchDICM(
        peer.torch.from_numpy(_by_key(ours.tables[IMAGE].stored_VD, images)),
        ids.n_keys,
        net.user_fields + net.impression_fields,
        net.query_fields,
    )
    params = jax.tree.map(np.asarray, ours.state.params)
    peer.copy_weights(model, params.embedders, params.net, _by_key(ours.state.ids["row"], ids))
    return model


def _by_key(rows: jax.Array, layout: RowLayout) -> np.ndarray:
    return np.asarray(rows)[layout.row(np.arange(layout.n_keys))]


def contenders(config: Config, log: ClickLog) -> tuple[dict[str, list[Contender]], dict[str, Any]]:
    """The four programs, warmed up, and what was found out about them on the way.

    Raises:
      DicmError: their losses differ, so they do not train the same model.
    """
    from benchmarks import _peer_torch_model as peer

    rate = config.optimizer.learning_rate
    rows = peer.ImpressionRows(log, log.train, config.data.behaviors)
    float32 = Ours(
        dataclasses.replace(config, features=FeaturesConfig("float32"), model=FLOAT32), log
    )
    source = float32.source
    shuffled = rows.shuffled(config.train.batch_size, config.train.seed)
    plain = peer.TorchProgram(_torch_model(float32), shuffled, rate)
    grouped = peer.TorchProgram(_torch_model(float32), _grouped(source), rate)
    first_AB = source[0].impression_AB
    first = rows.batch(peer.torch.from_numpy(first_AB[first_AB >= 0]))
    agreement = _agreement(plain.model.loss(first).item(), float32, grouped)
    fast = Ours(dataclasses.replace(config, features=FeaturesConfig("int8"), model=FAST), log)
    for program in (fast, plain):
        program.train(WARM_UP_STEPS)
    programs: dict[str, list[Contender]] = {
        "ours": [fast],
        "ours_float32": [float32],
        "torch": [peer.WithThreads(plain, count) for count in thread_counts()],
        "torch_grouped": [peer.WithThreads(grouped, count) for count in thread_counts()],
    }
    images = {
        "torch": _unique_images(plain.batches),
        "torch_grouped": _unique_images(_grouped(source)),
    }
    images |= dict.fromkeys(("ours", "ours_float32"), images["torch_grouped"])
    return programs, agreement | {"unique_images_per_step": images}


def _agreement(plain_loss: float, ours: Contender, grouped: Contender) -> dict[str, float]:
    """Losses of the same weights, and after one step, which takes gradients and optimizers in.

    Later steps amplify rounding, so they are warm-up only.
    """
    our_losses = ours.train(WARM_UP_STEPS)[1]
    grouped_losses = grouped.train(WARM_UP_STEPS)[1]
    found = {
        "loss_difference": max(
            abs(loss - our_losses[0]) for loss in (plain_loss, grouped_losses[0])
        ),
        "loss_difference_after_a_step": abs(grouped_losses[1] - our_losses[1]),
    }
    if max(found.values()) > LOSS_TOLERANCE:
        raise DicmError(
            f"same weights and batches, yet losses of {our_losses[:2]} here, {grouped_losses[:2]}"
            f" in PyTorch grouped and {plain_loss} in PyTorch, over {LOSS_TOLERANCE} apart: bring"
            " benchmarks/_peer_torch_model.py in line with the model"
        )
    return found


def _grouped(source: Source) -> "Iterator[TorchBatch]":
    from benchmarks._peer_torch_model import grouped_batch

    return (grouped_batch(source[n]) for n in range(len(source)))


def _unique_images(batches: "Iterator[TorchBatch]") -> int:
    """Images compressed per step, the mean of 20 batches."""
    return round(statistics.mean(batch.unique_images() for batch in islice(batches, 20)))


def compare(programs: dict[str, list[Contender]], steps: int, rounds: int) -> dict[str, list[Pace]]:
    """How fast each program was in each round, at its best setting, in impressions."""

    def turn(program: Contender) -> Program:
        return lambda: program.train(steps)[0]

    turns = {name: [turn(setting) for setting in settings] for name, settings in programs.items()}
    return take_turns(turns, rounds, "impressions")


def _ratios(paces: dict[str, list[Pace]], unit: PerSecond, suffix: str = "") -> dict[str, float]:
    fast, float32, torch, grouped = paces.values()
    return {
        f"ratio{suffix}": ratio(fast, torch, unit),
        f"ratio{suffix}_float32": ratio(float32, torch, unit),
        f"ratio{suffix}_grouped": ratio(fast, grouped, unit),
        f"ratio{suffix}_grouped_float32": ratio(float32, grouped, unit),
    }


def _rounded(paces: dict[str, float]) -> dict[str, int]:
    return {name: round(pace) for name, pace in paces.items()}


def report(paces: dict[str, list[Pace]], args: argparse.Namespace) -> dict[str, Any]:
    """The figures, and all that they depend on."""
    return {
        "benchmark": "peer_torch",
        "against": "PyTorch: a row per impression, torch.unique, float32, SparseAdam",
        **_ratios(paces, "per_second"),
        **_ratios(paces, "per_cpu_second", "_cpu"),
        "impressions_per_s": _rounded(medians(paces)),
        "impressions_per_cpu_s": _rounded(medians(paces, "per_cpu_second")),
        "ours": "bfloat16 products, int8 rows",
        "batch_size": args.batch_size,
        "steps": args.steps,
        "rounds": args.rounds,
        "threads": {"torch": thread_counts(), "jax": os.cpu_count()},
        **circumstances("jax", "numpy", "torch"),
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    """The sizes asked for; ends with code 2 on those that make no benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peer_torch",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", default="../shared/data/hm", help="folder of the H&M log; default %(default)s"
    )
    parser.add_argument("--steps", type=int, default=12, help="of each a round; default 12")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--batch_size", type=int, default=1024, help="impressions; default 1024")
    parser.add_argument("--seed", type=int, default=0, help="of the order of samples; default 0")
    args = parser.parse_args(arguments)
    if args.steps < 1 or args.rounds < 1 or args.batch_size < 1:
        parser.error("needs steps, rounds and batch_size of at least 1")
    return args


def main(arguments: list[str]) -> None:
    """Runs the comparison and prints its JSON line.

    Raises:
      DicmError: PyTorch or the data is missing, or the programs train different models.
    """
    args = parse(arguments)
    if importlib.util.find_spec("torch") is None:
        raise DicmError(
            "PyTorch is not installed, there is nothing to compare with: pip install torch, or"
            " this project with its extra, pip install -e '.[bench]'"
        )
    log = hm.load(args.data)
    batches = WARM_UP_STEPS + args.steps * args.rounds
    epochs = 2 + batches * args.batch_size // log.train.n_impressions
    config = Config(
        data=DataConfig(kind="hm", path=args.data),
        train=TrainConfig(batch_size=args.batch_size, seed=args.seed, epochs=epochs),
    )
    programs, found = contenders(config, log)
    paces = compare(programs, args.steps, args.rounds)
    print(json.dumps(report(paces, args) | found))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DicmError as error:
        sys.exit(f"benchmarks.peer_torch: {error}")
