"""Train the Deep Image CTR Model: the main job, read from top to bottom.

    python -m dicm_jax.train --config=configs/dicm.py --workdir=runs/dicm

Run the same command again after a kill and it goes on from the last checkpoint. The last line on
stdout is the result as one JSON object.
"""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from dicm_jax.ams.mesh import batch_sharding, shape_of
from dicm_jax.checkpoint.fingerprint import fingerprint
from dicm_jax.checkpoint.manager import Checkpoints
from dicm_jax.cli import DONE, PREEMPTED, run_command
from dicm_jax.command_line import parse_command_line
from dicm_jax.config import Config
from dicm_jax.config_file import load_config, to_json_dict
from dicm_jax.data.readers import read_log
from dicm_jax.data.schema import ClickLog, GroupedImpressions
from dicm_jax.training import assemble
from dicm_jax.training.evaluation import oracle_gauc, predictor, score_split
from dicm_jax.training.events import Events, jsonable
from dicm_jax.training.feed import feed
from dicm_jax.training.model import build_model
from dicm_jax.training.preemption import Preemption
from dicm_jax.training.recorder import Recorder
from dicm_jax.training.step import make_train_step


class PreemptedError(Exception):
    """SIGTERM came; everything is saved."""


def fit(
    config: Config, log: ClickLog, mesh: Mesh, workdir: Path, preemption: Preemption
) -> dict[str, Any]:
    """One run from its first step, or its last checkpoint, to its result.

    Raises:
      PreemptedError: SIGTERM came; a checkpoint of the step that was reached is on disk.
    """
    # ---- Model, input and how both lie on the mesh
    source = assemble.train_source(config, log)
    total = min(config.train.steps or len(source), len(source))
    spec = assemble.model_spec(config, log, source)
    room = assemble.capacities(config, source, mesh, spec)
    features = assemble.build_features(config, log, mesh)

    with contextlib.ExitStack() as stack:
        # ---- Parameters: from the last checkpoint, or new
        checkpoints = stack.enter_context(
            Checkpoints(
                workdir / "checkpoints",
                keep=config.checkpoint.keep,
                settings=fingerprint(to_json_dict(config)),
            )
        )
        done = checkpoints.latest() or 0
        directions = None if done else assemble.starting_directions(config, log, spec)
        model, params = build_model(spec, config.train.seed, directions)
        moves = assemble.optimizers(config.optimizer, len(source))
        state = assemble.initial_state(config, params, moves, source, mesh)
        if done:
            state = checkpoints.restore(done, like=state)
            print(f"{workdir.name}: going on from step {done} of {total}")

        # ---- Steps and evaluation, compiled once
        step = make_train_step(model, moves, room, mesh)
        predict = predictor(config, log, config.evaluate.split, mesh, model, spec, features)
        split = log.split(config.evaluate.split)
        events = stack.enter_context(Events(workdir, resumed_at=done))
        bar = stack.enter_context(_bar(workdir.name, done, total))
        recorder = Recorder(events, bar, config.train.log_every)
        batches = feed(
            assemble.planner(source, mesh, room, spec),
            done,
            total,
            prefetch=config.train.prefetch,
            sharding=batch_sharding(mesh),
        )

        # ---- The loop
        saved = done
        for batch in batches:
            state, report = step(state, features, batch)
            done += 1
            recorder.add(done, report)
            if preemption.asked or _due(done, config.checkpoint.every):
                recorder.settle()
                checkpoints.save(done, state)
                saved = done
            if preemption.asked:
                raise PreemptedError
            if _due(done, config.evaluate.every) and done < total:
                recorder.settle()
                events.write("eval", done, _scores(split, predict(state)))
                recorder.restart_clock()
        recorder.settle()

        # ---- The end: save, score, report
        if saved < done:
            checkpoints.save(done, state)
        scores = _scores(split, predict(state))
        events.write("eval", done, scores)
        return scores | {
            "steps": done,
            "samples_per_s": round(recorder.samples_per_s, 1),
            "overflown_steps": recorder.overflown,
        }


def _bar(name: str, done: int, total: int) -> tqdm:
    """A progress bar; where nobody watches, a line now and then."""
    pause = 0.1 if sys.stderr.isatty() else 5.0
    return tqdm(
        total=total, initial=done, desc=name, unit="step", mininterval=pause, dynamic_ncols=True
    )


def _scores(split: GroupedImpressions, probability_B: np.ndarray) -> dict[str, float]:
    scores = score_split(split, probability_B)
    return {"gauc": scores.gauc, "auc": scores.auc, "logloss": scores.logloss}


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _without_images(config: Config) -> Config:
    """The baseline: the same run of the same model without its image inputs."""
    return dataclasses.replace(config, model=dataclasses.replace(config.model, images="none"))


def train(path: str, workdir: Path, overrides: Sequence[str]) -> int:
    """The whole command: read, train, compare, report."""
    started = time.perf_counter()
    config = load_config(path, overrides)
    preemption = Preemption()
    mesh = assemble.start_mesh(config.mesh, config.train.lanes)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(to_json_dict(config), indent=2) + "\n")
    log = read_log(config.data)
    _describe(config, log, mesh)
    try:
        result = fit(config, log, mesh, workdir, preemption)
        if config.train.baseline:
            baseline = fit(_without_images(config), log, mesh, workdir / "baseline", preemption)
            result |= {"baseline_gauc": baseline["gauc"], "baseline_auc": baseline["auc"]}
    except PreemptedError:
        print("preempted: saved; run the same command again to go on", file=sys.stderr)
        return PREEMPTED
    result |= {"oracle_gauc": oracle_gauc(log.split(config.evaluate.split))}
    result |= {"seconds": round(time.perf_counter() - started, 1)}
    (workdir / "result.json").write_text(json.dumps(jsonable(result), indent=2) + "\n")
    print(json.dumps(jsonable(result)))
    return DONE


def _describe(config: Config, log: ClickLog, mesh: Mesh) -> None:
    shape = shape_of(mesh)
    print(
        f"log {log.name}: {log.train.n_impressions:,} training impressions in"
        f" {log.train.n_groups:,} groups, {log.test.n_impressions:,} for the test;"
        f" {len(log.items.image_N):,} items, {len(log.features.rows_VD):,} images of width"
        f" {log.features.rows_VD.shape[1]}"
    )
    for name, value in log.notes.items():
        print(f"  {name.replace('_', ' ')}: {value:,g}")
    print(
        f"mesh: worker {shape.worker} x server {shape.server} on"
        f" {jax.devices()[0].platform}; model: images {config.model.images}"
    )


def main() -> None:
    """The command line."""
    arguments = parse_command_line(sys.argv[1:])
    sys.exit(
        run_command(
            lambda: train(arguments.path, Path(arguments.workdir), arguments.overrides),
            debug=arguments.debug,
        )
    )


if __name__ == "__main__":
    main()
