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
from tqdm import tqdm

from dicm_jax.ams.mesh import Roles, shape_of
from dicm_jax.checkpoint import known_ids
from dicm_jax.checkpoint.belonging import checkpoints_of
from dicm_jax.checkpoint.early_stopping import Patience, Stopping, WholeRun
from dicm_jax.checkpoint.fingerprint import settings_of_all
from dicm_jax.checkpoint.known_ids import keys_of
from dicm_jax.checkpoint.locate import BEST, CHECKPOINTS
from dicm_jax.checkpoint.run_folder import claimed
from dicm_jax.checkpoint.warm_report import WARM_REPORT
from dicm_jax.checkpoint.warm_start import warm_start, warm_up_of
from dicm_jax.cli import DONE, PREEMPTED
from dicm_jax.command_line import parse_command_line
from dicm_jax.config import Config
from dicm_jax.config_file import load_config, to_json_dict
from dicm_jax.data.readers import read_log
from dicm_jax.data.schema import ClickLog, GroupedImpressions
from dicm_jax.errors import ConfigError
from dicm_jax.training import assemble, baseline, company, progress, watchdog
from dicm_jax.training.devices import check_same_settings, is_main, start_roles
from dicm_jax.training.evaluation import oracle_gauc, predictor, score_split
from dicm_jax.training.events import Events, NoEvents, jsonable
from dicm_jax.training.feed import feed
from dicm_jax.training.preemption import PreemptedError, Preemption
from dicm_jax.training.recorder import Recorder
from dicm_jax.whole_files import write_json


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run ends with.

    Attributes:
      result: scores and counts, as ``result.json`` has them.
      probability_B: click probability of every impression of ``evaluate.split``, float32.
    """

    result: dict[str, Any]
    probability_B: np.ndarray


def fit(
    config: Config, log: ClickLog, roles: Roles, workdir: Path, preemption: Preemption
) -> Outcome:
    """One run from its first step, or its last checkpoint, to its result.

    Raises:
      PreemptedError: SIGTERM came; a checkpoint of the step that was reached is on disk.
      ConfigError: the run has taken more steps already than are asked for.
      DataError: input cannot be read; so is one then, if there is but one process.
    """
    # ---- Model, tables and input, and how they lie on the devices
    progress.at("making the model", seldom=True)
    job = assemble.start_job(config, log, roles)
    source = assemble.train_source(config, log)
    total = min(config.train.steps or len(source), len(source))

    with contextlib.ExitStack() as stack:
        # ---- Parameters: from the last checkpoint, or new
        of_run = checkpoints_of(job)
        kept = {"keep": config.checkpoint.keep, "keep_every": config.checkpoint.keep_every}
        checkpoints = stack.enter_context(of_run(workdir / CHECKPOINTS, **kept))
        done = checkpoints.latest() or 0
        if done > total:
            raise ConfigError(
                f"train.steps={total}: the run in {workdir} has taken {done} steps already; ask for"
                " more, score it by python -m dicm_jax.evaluate, or give another --workdir"
            )
        model, params = assemble.new_model(job, from_scratch=not done)
        connection = job.connect(source, model)
        moves = assemble.optimizers(config.optimizer, source)
        state = assemble.initial_state(job, model, params, moves, connection)
        notes: dict[str, Any] = {}
        if done:
            state = checkpoints.restore(done, like=state)
            notes = checkpoints.notes(done)
            _say(f"{workdir.name}: going on from step {done} of {total}")
        elif config.checkpoint.warm_start:
            state, warmed = warm_start(warm_up_of(config.checkpoint), state, keys_of(log))
            notes = {"steps_before": warmed.step}
            if is_main():
                warmed.save(workdir / WARM_REPORT)
            _say("\n".join(warmed.lines()))
        if is_main():
            known_ids.keep(workdir, keys_of(log))
        steps_before = notes.get("steps_before", 0)
        moves = moves.after(steps_before)
        stopping: Stopping = WholeRun()
        if config.train.patience:
            # Two: the run may have to go on from a checkpoint that is older than the newest best.
            best = stack.enter_context(of_run(workdir / BEST, keep=2))
            best.forget_after(done)  # an earlier try got further; its steps are taken again
            stopping = Patience(config.train.patience, best, notes)

        # ---- Steps and evaluation, compiled once
        step = connection.train_step(model, moves)
        watched = "validation" if config.train.patience else config.evaluate.split
        predict = predictor(job, watched, model)
        events = stack.enter_context(Events(workdir, done) if is_main() else NoEvents())
        bar = stack.enter_context(_bar(workdir.name, done, total))
        recorder = Recorder(events, bar, config.train.log_every)
        batches = feed(
            connection.plan,
            done,
            total if not stopping.over else done,
            prefetch=config.train.prefetch,
            roles=roles,
            stop=lambda: preemption.asked,
        )
        stack.push(company.on_failure)

        # ---- The loop
        preemption.check()
        saved = done
        for batch in recorder.awaited(batches, first=done + 1):
            state, report = step(state, job.tables, batch)
            done += 1
            recorder.add(done, report)
            last = done == total and not config.train.patience  # scored below
            evaluates = _due(done, config.evaluate.every) and not last
            if evaluates:
                recorder.settle()
                scores = _scores(log.split(watched), predict(state))
                events.write("eval", done, scores | {"split": watched})
                stopping.add(done, scores["gauc"], state)
                recorder.restart_clock()
            # A best step is not left behind by a kill if the run goes on from no earlier one.
            binding = evaluates and config.train.patience > 0
            if recorder.stop or binding or _due(done, config.checkpoint.every):
                recorder.settle()
                progress.at(f"saving step {done}", seldom=True)
                checkpoints.save(done, state, stopping.notes | {"steps_before": steps_before})
                saved = done
            if recorder.stop:
                raise PreemptedError
            if stopping.over:
                break
        recorder.settle()

        # ---- The end: save, choose, score, report
        progress.at(f"saving step {done}", seldom=True)
        if saved < done:
            checkpoints.save(done, state, stopping.notes | {"steps_before": steps_before})
        if recorder.failure is not None:
            raise recorder.failure
        preemption.check()
        chosen, state = stopping.chosen(done, state)
        if watched != config.evaluate.split:
            predict = predictor(job, config.evaluate.split, model)
        probability_B = predict(state)
        scores = _scores(log.split(config.evaluate.split), probability_B)
        events.write("eval", chosen, scores | {"split": config.evaluate.split})
        result = scores | {
            "steps": done,
            "best_step": chosen,
            "samples_per_s": round(recorder.samples_per_s, 1),
            "input_wait_share": round(recorder.input_wait_share, 5),
            "overflown_steps": recorder.overflown,
        }
        return Outcome(result, probability_B)


def _say(text: str) -> None:
    if is_main():
        print(text)


def _bar(name: str, done: int, total: int) -> tqdm:
    """A progress bar; where nobody watches, a line now and then."""
    pause = 0.1 if sys.stderr.isatty() else 5.0
    return tqdm(
        total=total,
        initial=done,
        desc=name,
        unit="step",
        mininterval=pause,
        dynamic_ncols=True,
        disable=not is_main(),
    )


def _scores(split: GroupedImpressions, probability_B: np.ndarray) -> dict[str, float]:
    progress.at("scoring", seldom=True)
    scores = score_split(split, probability_B)
    return {"gauc": scores.gauc, "auc": scores.auc, "logloss": scores.logloss}


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def train(path: str, workdir: Path, overrides: Sequence[str]) -> int:
    """The whole command: read, train, compare, report."""
    started = time.perf_counter()
    config = load_config(path, overrides)
    preemption = Preemption()
    roles = start_roles(config.mesh, config.train.lanes)
    check_same_settings(settings_of_all(to_json_dict(config)))
    try:
        with watchdog.watching(config.train), claimed(workdir, config):
            progress.at("reading the log", seldom=True)
            log = read_log(config.data)
            _describe(config, log, roles)
            result = fit(config, log, roles, workdir, preemption).result
            if config.train.baseline:
                plain = baseline.without_images(config)
                folder = workdir / baseline.FOLDER
                without = fit(plain, log, roles, folder, preemption).result
                result |= {"baseline_gauc": without["gauc"], "baseline_auc": without["auc"]}
    except PreemptedError:
        print("preempted: saved; run the same command again to go on", file=sys.stderr)
        return PREEMPTED
    result |= {"oracle_gauc": oracle_gauc(log.split(config.evaluate.split))}
    result |= {"seconds": round(time.perf_counter() - started, 1)}
    if is_main():
        write_json(workdir / "result.json", result)
    _say(json.dumps(jsonable(result)))
    return DONE


def _describe(config: Config, log: ClickLog, roles: Roles) -> None:
    _say(
        f"log {log.name}: {log.train.n_impressions:,} training impressions in"
        f" {log.train.n_groups:,} groups, {log.test.n_impressions:,} for the test;"
        f" {len(log.items.image_N):,} items, {log.features.count:,} images of width"
        f" {log.features.width}"
    )
    for name, value in log.notes.items():
        _say(f"  {name.replace('_', ' ')}: {value:,g}")
    shape = shape_of(roles.workers)
    place = "co-located" if roles.colocated else f"apart, {roles.servers.size} servers"
    _say(
        f"workers and servers {place}: worker {shape.worker} x server {shape.server} on"
        f" {jax.devices()[0].platform}, {jax.process_count()} process(es);"
        f" strategy {config.exchange.strategy}; model: images {config.model.images}"
    )


def main() -> None:
    """The command line."""
    arguments = parse_command_line(sys.argv[1:])
    sys.exit(
        company.in_company(
            lambda: train(arguments.path, Path(arguments.workdir), arguments.overrides),
            debug=arguments.debug,
        )
    )


if __name__ == "__main__":
    main()
