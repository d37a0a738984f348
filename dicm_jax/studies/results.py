"""What a study has found so far, gathered from the folders of its cells."""

import dataclasses
import datetime
import importlib.metadata
import json
import platform
from collections.abc import Iterator
from typing import Any

import jax

from dicm_jax.studies.cells import PICTURES, Cell
from dicm_jax.studies.compare import Difference, Summary, paired, summary
from dicm_jax.studies.grid import Study

MEASURES = ("gauc", "auc", "logloss")
Curve = list[tuple[int, float]]
"""(step, value), in the order of steps."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the cells of one variant have found.

    Attributes:
      scores: measure -> seed -> value, of the cells that are done.
      segments: segment -> seed -> GAUC, where the segment has users with both classes.
      losses, gaucs: learning curves by seed.
      seconds: seed -> time of its cell, as far as the last start of it knows.
    """

    scores: dict[str, dict[int, float]]
    segments: dict[str, dict[int, float]]
    losses: dict[int, Curve]
    gaucs: dict[int, Curve]
    seconds: dict[int, float]

    def summary(self, measure: str = "gauc") -> Summary:
        """Mean and spread of a measure over seeds."""
        return summary(self.scores[measure].values())


@dataclasses.dataclass(frozen=True)
class Results:
    """All that a table or a report needs.

    Attributes:
      study: what was asked.
      findings: by variant, in the study's order, then by average.
      failed: message by cell's name.
      open_cells: names of cells that have not been run.
      oracle: mean GAUC of the true click probabilities, where they are known.
      segment_sizes: impressions of each segment, of the first cell that is done.
      pictures: see `dicm_jax.studies.pictures`, or None.
      command: what was typed.
      date: of the report.
      versions: of Python and what matters.
      device: what it ran on.
    """

    study: Study
    findings: dict[str, Finding]
    failed: dict[str, str]
    open_cells: list[str]
    oracle: float | None
    segment_sizes: dict[str, int]
    pictures: dict[str, Any] | None
    command: str
    date: str
    versions: dict[str, str]
    device: str

    def difference(self, variant: str, reference: str, measure: str = "gauc") -> Difference:
        """Paired difference of two variants, seed by seed."""
        return paired(
            self.findings[variant].scores[measure], self.findings[reference].scores[measure]
        )

    def segment_difference(self, segment: str, variant: str) -> Difference:
        """Paired difference in GAUC to the reference variant within a segment."""
        reference = self.findings[self.study.reference].segments.get(segment, {})
        return paired(self.findings[variant].segments.get(segment, {}), reference)


def gather(study: Study, cells: list[Cell], command: str) -> Results:
    """The results of all cells that are done, and what became of the others."""
    done = [cell for cell in cells if cell.state == "done"]
    results = {cell.name: cell.result() for cell in done}
    oracles = [r["oracle_gauc"] for r in results.values() if r["oracle_gauc"] is not None]
    first = next(iter(results.values()), {"segments": {}})
    findings = {
        variant: _finding([cell for cell in done if cell.variant == variant], results)
        for variant in study.variants
    }
    averages = {
        name: _average([findings[member] for member in members])
        for name, members in study.averages.items()
    }
    return Results(
        study=study,
        findings=findings | averages,
        failed={cell.name: cell.failure() for cell in cells if cell.state == "failed"},
        open_cells=[cell.name for cell in cells if cell.state == "open"],
        oracle=summary(oracles).mean if oracles else None,
        segment_sizes={name: of_it["impressions"] for name, of_it in first["segments"].items()},
        pictures=_pictures(done),
        command=command,
        date=datetime.date.today().isoformat(),
        versions=_versions(),
        device=f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
    )


def _finding(cells: list[Cell], results: dict[str, dict[str, Any]]) -> Finding:
    of = {cell.seed: results[cell.name] for cell in cells}
    names = dict.fromkeys(name for result in of.values() for name in result["segments"])
    return Finding(
        scores={
            name: {seed: r[name] for seed, r in of.items() if r[name] is not None}
            for name in MEASURES
        },
        segments={
            name: {
                seed: r["segments"][name]["gauc"]
                for seed, r in of.items()
                if r["segments"].get(name, {}).get("gauc") is not None
            }
            for name in names
        },
        losses={cell.seed: _curve(cell, "train", "loss") for cell in cells},
        gaucs={cell.seed: _curve(cell, "eval", "gauc") for cell in cells},
        seconds={seed: r["seconds"] for seed, r in of.items()},
    )


def _average(members: list[Finding]) -> Finding:
    """The mean of variants' scores, of the seeds that all of them have; it ran nothing itself."""

    def mean(scores: list[dict[int, float]]) -> dict[int, float]:
        seeds = set.intersection(*({*of} for of in scores))
        return {seed: sum(of[seed] for of in scores) / len(scores) for seed in sorted(seeds)}

    segments = set.intersection(*({*finding.segments} for finding in members))
    return Finding(
        scores={name: mean([finding.scores[name] for finding in members]) for name in MEASURES},
        segments={name: mean([f.segments[name] for f in members]) for name in sorted(segments)},
        losses={},
        gaucs={},
        seconds={},
    )


def _curve(cell: Cell, kind: str, name: str) -> Curve:
    events = [event for event in _events_of(cell, kind) if event.get(name) is not None]
    # A run that stops early is watched on one split and scored on another at its end.
    points = {e["step"]: e[name] for e in events if e.get("split") == events[0].get("split")}
    return sorted(points.items())


def _events_of(cell: Cell, kind: str) -> Iterator[dict[str, Any]]:
    """The complete lines of one kind in a cell's ``metrics.jsonl``, in their order."""
    path = cell.folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    for line in text[: text.rfind("\n") + 1].splitlines():
        event = json.loads(line)
        if event["kind"] == kind:
            yield event


def _pictures(done: list[Cell]) -> dict[str, Any] | None:
    for cell in done:
        path = cell.folder / PICTURES
        if cell.with_pictures and path.exists():
            return cell.pictures()
    return None


def _versions() -> dict[str, str]:
    names = ("dicm-jax", "jax", "jaxlib", "numpy", "flax", "optax")
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            continue
    return versions


def as_json(results: Results) -> dict[str, Any]:
    """Everything but the pictures, as plain values."""
    study = results.study
    return {
        "study": study.name,
        "title": study.title,
        "seeds": study.seeds,
        "settings": study.variants,
        "variants": {
            name: {
                **{measure: dataclasses.asdict(f.summary(measure)) for measure in MEASURES},
                "scores": f.scores,
                "segments": f.segments,
                "seconds": f.seconds,
            }
            for name, f in results.findings.items()
        },
        "differences": [
            {"variant": c.variant, "reference": c.reference, "text": c.text}
            | dataclasses.asdict(results.difference(c.variant, c.reference))
            for c in study.comparisons
        ],
        "oracle_gauc": results.oracle,
        "segment_sizes": results.segment_sizes,
        "failed": results.failed,
        "not_run": results.open_cells,
        "command": results.command,
        "date": results.date,
        "versions": results.versions,
        "device": results.device,
    }
