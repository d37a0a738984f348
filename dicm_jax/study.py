"""Run a study, variants by seeds, and report what it found.

    python -m dicm_jax.study --config=configs/study/synthetic.py --workdir=runs/study

Run the same command again after a kill and it goes on: cells that are done stay, the one that was
cut short continues from its checkpoint, those that failed are tried again. More seeds or variants
may be added to the file later. The last line on stdout is the result as one JSON object.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dicm_jax.cli import DONE, FAILED, PREEMPTED, run_command
from dicm_jax.command_line import split_overrides
from dicm_jax.errors import ConfigError
from dicm_jax.report.page import report
from dicm_jax.report.text import text_report
from dicm_jax.studies.cells import STUDY_FILE, Cell, cells_of, check_folder
from dicm_jax.studies.results import Results, as_json, gather
from dicm_jax.studies.runner import Runner
from dicm_jax.studies.study_file import load_study
from dicm_jax.train import PreemptedError
from dicm_jax.training.preemption import Preemption
from dicm_jax.whole_files import strict, write_json, write_text

_EXAMPLE = """\
example:
  python -m dicm_jax.study --config=configs/study/hm.py --workdir=runs/study-hm \\
      --config.data.path=data/hm
"""


def study(
    path: str,
    workdir: Path,
    overrides: Sequence[str],
    *,
    report_only: bool = False,
    drop_checkpoints: bool = False,
) -> int:
    """The whole command: check, run what is open, gather, report."""
    asked = load_study(path, overrides)
    cells = cells_of(asked, workdir)
    check_folder(asked, cells, workdir)
    if not report_only:
        write_json(workdir / STUDY_FILE, {"study": asked.name})
        try:
            _run(cells, drop_checkpoints=drop_checkpoints)
        except PreemptedError:
            print("preempted: saved; run the same command again to go on", file=sys.stderr)
            return PREEMPTED
    elif not any(cell.state == "done" for cell in cells):
        raise ConfigError(
            f"--report-only with --workdir={workdir}: no cell of the study is done there; run the"
            " same command without --report-only"
        )
    results = gather(asked, cells, shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]))
    text = text_report(results)
    write_text(workdir / "table.md", text)
    write_json(workdir / "results.json", as_json(results))
    write_text(workdir / "report.html", report(results))
    print(text)
    if results.failed:
        names = ", ".join(results.failed)
        print(
            f"error: {len(results.failed)} of {len(cells)} cells failed: {names}. Their messages"
            " stand above, and their tracebacks in traceback.txt of their folders; the same command"
            " tries them again",
            file=sys.stderr,
        )
    print(json.dumps(strict(_last_line(results, workdir))))
    return FAILED if results.failed else DONE


def _run(cells: list[Cell], *, drop_checkpoints: bool) -> None:
    """Run what is not done, one cell after another."""
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        raise ConfigError(
            f"JAX_COORDINATOR_ADDRESS={os.environ['JAX_COORDINATOR_ADDRESS']}: a study runs in one"
            " process; unset it, or run single cells with python -m dicm_jax.train"
        )
    runner = Runner(Preemption(), drop_checkpoints=drop_checkpoints)
    todo = [cell for cell in cells if cell.state != "done"]
    done = len(cells) - len(todo)
    pause = 0.1 if sys.stderr.isatty() else 5.0
    with tqdm(
        total=len(cells), initial=done, unit="cell", mininterval=pause, dynamic_ncols=True
    ) as bar:
        for cell in todo:
            bar.set_description(cell.name)
            runner.run(cell)
            if cell.state == "failed":
                bar.write(f"{cell.name} failed: {cell.failure()}", file=sys.stderr)
            bar.update()


def _last_line(results: Results, workdir: Path) -> dict[str, Any]:
    """The study in one line, for scripts."""
    variants = {}
    for name, finding in results.findings.items():
        gauc, auc = finding.summary("gauc"), finding.summary("auc")
        variants[name] = {"gauc": gauc.mean, "gauc_std": gauc.std, "auc": auc.mean, "seeds": gauc.n}
    return {
        "study": results.study.name,
        "cells": len(results.study.configs),
        "failed": len(results.failed),
        "not_run": len(results.open_cells),
        "report": str(workdir / "report.html"),
        "variants": variants,
        "differences": as_json(results)["differences"],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dicm_jax.study",
        description="Run a study, variants by seeds, or go on with one, and report what it found.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the study file")
    parser.add_argument(
        "--workdir", type=Path, metavar="DIR", help="folder (default: runs/study-NAME for NAME.py)"
    )
    parser.add_argument(
        "--config.a.b", metavar="VALUE", help="set b of section a in all cells; may be repeated"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="report on the cells that are done; run none"
    )
    parser.add_argument(
        "--drop-checkpoints",
        action="store_true",
        help="delete a cell's checkpoints once its results are written, but not those that other"
        " cells start from",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    overrides, rest = split_overrides(sys.argv[1:], parser)
    known = parser.parse_args(rest)
    workdir = known.workdir or Path("runs") / f"study-{Path(known.config).stem}"
    sys.exit(
        run_command(
            lambda: study(
                known.config,
                workdir,
                overrides,
                report_only=known.report_only,
                drop_checkpoints=known.drop_checkpoints,
            ),
            debug=known.debug,
        )
    )


if __name__ == "__main__":
    main()
