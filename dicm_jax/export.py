"""A trained run becomes a servable folder, which serving needs no training code for.

    python -m dicm_jax.export --workdir=runs/dicm --output=servables/dicm

The last line on stdout is one JSON object.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from dicm_jax.checkpoint.locate import CHECKPOINTS
from dicm_jax.checkpoint.restore import Restored, restore_run
from dicm_jax.cli import DONE, run_command
from dicm_jax.errors import ServableError
from dicm_jax.exporting import writer
from dicm_jax.exporting.card import card
from dicm_jax.exporting.catalogue import warm_items
from dicm_jax.exporting.check import served_scores
from dicm_jax.exporting.examples import write_examples
from dicm_jax.serving import format as files
from dicm_jax.serving.buckets import OFFLINE
from dicm_jax.serving.ranker import Ranker
from dicm_jax.training import baseline
from dicm_jax.training.evaluation import predictor, score_split
from dicm_jax.whole_files import write_text

_EXAMPLE = """examples:
  python -m dicm_jax.export --workdir=runs/dicm --output=servables/dicm
  python -m dicm_jax.export --workdir=runs/hm --baseline=runs/hm_ids --prerank=runs/hm_prerank \\
      --output=servables/hm --vectors=int8 --photos
"""
_METRICS = ("gauc", "auc", "logloss")


def export(arguments: argparse.Namespace) -> int:
    """The whole command: restore, write, check the scores, publish."""
    runs = _runs(arguments)
    log = next(iter(runs.values())).job.log
    kept_N = warm_items(log) if arguments.leave_out_cold else np.ones(len(log.items.image_N), bool)
    with writer.alone(arguments.output):
        draft = writer.begin(arguments.output)
        signature = writer.write(draft, runs, kept_N, arguments.vectors)
        write_examples(draft.folder, log, kept_N, count=arguments.examples, photos=arguments.photos)
        checked = {} if arguments.leave_out_cold else _checked(draft, runs)
        write_text(draft.folder / files.CARD, card(signature, checked, log.notes))
        final = draft.publish()
    size = sum(path.stat().st_size for path in final.rglob("*") if path.is_file())
    result = {"servable": str(final), "bytes": size, "items": signature["items"]}
    print(json.dumps(result | {"models": checked}))
    return DONE


def _runs(arguments: argparse.Namespace) -> dict[str, Restored]:
    """The runs to be exported, by the names that their models will have."""
    main = restore_run(arguments.workdir, arguments.step)
    first = files.PRERANK if main.job.spec.net.stage == "prerank" else files.DICM
    runs = {first: main}
    own = arguments.workdir / baseline.FOLDER
    if arguments.baseline is not None:
        runs[files.BASELINE] = _beside(arguments.baseline, main)
    elif (own / CHECKPOINTS).is_dir():
        plain = baseline.without_images(main.job.config)
        runs[files.BASELINE] = restore_run(
            own, config=plain, log=main.job.log, roles=main.job.roles
        )
    if arguments.prerank is not None:
        runs[files.PRERANK] = _beside(arguments.prerank, main)
    for name, run in runs.items():
        _check_stage(name, run)
    return runs


def _beside(workdir: Path, main: Restored) -> Restored:
    """Another run on the same log."""
    run = restore_run(workdir, roles=main.job.roles)
    ours, theirs = main.job.log, run.job.log
    if ours.vocabulary_sizes != theirs.vocabulary_sizes or not np.array_equal(
        ours.items.ids_NF, theirs.items.ids_NF
    ):
        raise ServableError(
            f"{workdir}: a run on log {theirs.name!r}, whose items or vocabularies are not those of"
            f" {ours.name!r}: models of one servable must have been trained on the same log"
        )
    return run


def _check_stage(name: str, run: Restored) -> None:
    wanted = "prerank" if name == files.PRERANK else "rank"
    if (found := run.job.spec.net.stage) != wanted:
        raise ServableError(
            f"--{name}: that run has model.stage={found!r}; give one that was trained with"
            f" model.stage={wanted!r}"
        )


def _checked(draft: writer.Draft, runs: dict[str, Restored]) -> dict[str, dict[str, float]]:
    """Scores of the models that rank, on the test split: as served, and before export."""
    ranker = Ranker(draft.folder, room=0, buckets=OFFLINE, verify=False)
    checked = {}
    for name, run in runs.items():
        if run.job.spec.net.stage == "rank":
            split = run.job.log.split("test")
            evaluated_B = predictor(run.job, "test", run.model)(run.state)
            served_B = served_scores(ranker, run.job.log, split, name)
            before = dataclasses.asdict(score_split(split, evaluated_B))
            found = dataclasses.asdict(score_split(split, served_B))
            checked[name] = {metric: found[metric] for metric in _METRICS}
            checked[name] |= {f"evaluated_{metric}": before[metric] for metric in _METRICS}
            checked[name]["largest_difference"] = float(np.abs(served_B - evaluated_B).max())
    return checked


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dicm_jax.export",
        description="Make a servable folder of a trained run.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--workdir", required=True, type=Path, help="folder of the run")
    parser.add_argument("--step", type=int, help="checkpoint; default: best, else newest")
    parser.add_argument(
        "--output", required=True, type=Path, help="folder of versions; the next one is written"
    )
    parser.add_argument(
        "--vectors",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="format of image vectors; default %(default)s",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        help="run without images on the same log; default: the run's own, where it has one",
    )
    parser.add_argument("--prerank", type=Path, help="run of Pre-rank on the same log")
    parser.add_argument(
        "--examples", type=int, default=24, help="users to look at; default %(default)s"
    )
    parser.add_argument("--photos", action="store_true", help="copy the photos of examples")
    parser.add_argument(
        "--leave-out-cold",
        action="store_true",
        help="leave out items that training has not seen, to add them to the service",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    arguments = parser.parse_args(argv)
    if arguments.examples < 0:
        parser.error(f"--examples={arguments.examples}: give 0 or more")
    return arguments


def main() -> None:
    """The command line."""
    arguments = parse(sys.argv[1:])
    sys.exit(run_command(lambda: export(arguments), debug=arguments.debug))


if __name__ == "__main__":
    main()
