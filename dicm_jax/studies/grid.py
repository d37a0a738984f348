"""A study: the grid of its variants and seeds, and what is asked of it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from dicm_jax.config import Config


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A paired difference, ``variant - reference`` of each seed, and the sentence it stands for."""

    variant: str
    reference: str
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Variants beside what the paper reports for them.

    Attributes:
      title: its heading.
      rows: label of each variant, in order; differences are to the first.
      paper: (GAUC, AUC or None) of variants that the paper has.
      text: what to know about it.
    """

    title: str
    rows: dict[str, str]
    paper: dict[str, Sequence[float | None]] = dataclasses.field(default_factory=dict)
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Bars:
    """Groups of bars, such as basic nets with and without images.

    Attributes:
      title: its heading.
      groups: group -> label of a bar -> variant.
      paper: group -> label of a bar -> GAUC.
      text: what to know about it.
    """

    title: str
    groups: dict[str, dict[str, str]]
    paper: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
      name: of its file, without ``.py``.
      title, text: what it asks, for the report.
      configs: the configuration of each cell, by variant and seed.
      labels: what reports call a variant, where not by its name.
      variants: what makes each variant, by dotted setting.
      seeds: whole numbers, each once.
      seed_settings: settings that get the seed.
      reference: the variant that others are compared with in the table of all.
      comparisons: the paired differences that the study is made for.
      tables, bars: results beside the paper's.
      curves: variants whose learning curves are drawn.
      curves_text: what to know about them.
      curves_paper: label -> (step, GAUC) of the paper's curves.
      attention: variant whose attention to photos is shown, of the first seed.
      averages: what stands for several variants, such as the days of a chain: the mean of their
        scores, seed by seed.
    """

    name: str
    title: str
    text: str
    configs: dict[tuple[str, int], Config]
    labels: dict[str, str]
    variants: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    seed_settings: tuple[str, ...]
    reference: str
    comparisons: tuple[Comparison, ...]
    tables: tuple[Table, ...]
    bars: tuple[Bars, ...]
    curves: tuple[str, ...]
    curves_text: str
    curves_paper: dict[str, Sequence[tuple[int, float]]]
    attention: str | None
    averages: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def label(self, variant: str) -> str:
        """What reports call a variant."""
        return self.labels.get(variant, variant)


CELL = "cell:"
"""``checkpoint.warm_start="cell:NAME"`` starts from the cell of variant NAME with the same seed."""


def started_from_cell(config: Config) -> str | None:
    """The variant whose cell a cell starts from; None where it starts from none of the study."""
    given = config.checkpoint.warm_start
    return given.removeprefix(CELL) if given is not None and given.startswith(CELL) else None
