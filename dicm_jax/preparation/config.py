"""Every setting of a preparation: where the log tables are, what their columns are called.

The documented schema of a log is four tables, each one file, a folder or a glob of Parquet or CSV
files (``.csv``, ``.csv.gz``):

    impressions   user, item, time, click (0 or 1); any further ID columns
    behaviors     user, item, time; a dwell time in seconds, if known. Left out: the clicked
                  impressions are the behaviors
    catalogue     item, the ID of its image (left out: the item's own); any ID columns
    users         user, any ID columns; may be left out

IDs are text or integers (``7`` and ``"7"`` are the same ID). Times are timestamps, dates, integers
in ``time_unit`` since 1970, or ISO text; without a zone they are UTC. Rows may come in any order;
impressions that are not in the order of time within a user are counted, no more. A user's behaviors
on one item in one period are one behavior; impressions all count, however often they are repeated.
"""

import dataclasses
from typing import Literal

from dicm_jax.config import DataConfig
from dicm_jax.config_values import setting
from dicm_jax.errors import ConfigError

STATISTICS = ("history_length", "since_behavior", "item_behaviors", "item_age")
_TAKEN = ("user", "who", "behavior_item", "second", "period", "click", "cold", "row")


class _IdColumns:
    """A table with ID columns beside those that every such table has."""

    fields: tuple[str, ...]

    @property
    def column_of(self) -> dict[str, str]:
        """The column of each ID field, by the field's name."""
        parts = [field.partition("=") for field in self.fields]
        return {name: column or name for name, _, column in parts}


@dataclasses.dataclass(frozen=True)
class ImpressionsTable(_IdColumns):
    """Ads shown."""

    path: str | None = setting(None, "file, folder or glob of Parquet or CSV files")
    user: str = setting("user", "column")
    item: str = setting("item", "column")
    time: str = setting("time", "column")
    click: str = setting("click", "column, 0 or 1")
    fields: tuple[str, ...] = setting(
        (), "further ID columns, such as the page or the hour; or NAME=COLUMN"
    )


@dataclasses.dataclass(frozen=True)
class BehaviorsTable:
    """Items clicked."""

    path: str | None = setting(None, "file, folder or glob; none: the clicked impressions")
    user: str = setting("user", "column")
    item: str = setting("item", "column")
    time: str = setting("time", "column")
    dwell: str | None = setting(None, "column of seconds stayed, if there is one")


@dataclasses.dataclass(frozen=True)
class CatalogueTable(_IdColumns):
    """The catalogue."""

    path: str | None = setting(None, "file, folder or glob of Parquet or CSV files")
    item: str = setting("item", "column")
    image: str | None = setting(None, "column of the image's ID; none: the item's own ID")
    fields: tuple[str, ...] = setting((), "ID columns, such as category and brand; or NAME=COLUMN")


@dataclasses.dataclass(frozen=True)
class UsersTable(_IdColumns):
    """Profiles."""

    path: str | None = setting(None, "file, folder or glob; none: there are no profiles")
    user: str = setting("user", "column")
    fields: tuple[str, ...] = setting(
        (), "ID columns, such as age group and gender; or NAME=COLUMN"
    )


@dataclasses.dataclass(frozen=True)
class BehaviorsConfig:
    """Which behaviors a group has."""

    window_s: int = setting(
        14 * 86_400,
        "seconds before the impression that are looked at, up to whole periods; 0 = all time",
        at_least=0,
    )
    most: int = setting(50, "newest behaviors kept per group", at_least=0)
    min_dwell_s: float = setting(
        0.0, "seconds; shorter or unknown stays are no behaviors", at_least=0
    )


@dataclasses.dataclass(frozen=True)
class IdsConfig:
    """How values become keys."""

    hashed: tuple[str, ...] = setting(
        (),
        "ID fields whose values are hashed; 'user' hashes the users' numbers: users who share one"
        " are one user",
    )
    buckets: int = setting(2**24, "keys of a hashed field", at_least=2, below=2**31)
    most: int = setting(
        50_000_000,
        "values of a vocabulary that are collected before hashing is asked for",
        at_least=1,
    )


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Cuts by time; train is what comes before the first."""

    validation_from: str | None = setting(None, "ISO date or time; none: no validation split")
    test_from: str | None = setting(None, "ISO date or time of the first test impression")


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """What happens to rows that cannot be used: the preparation ends, or they are counted."""

    missing: Literal["error", "drop"] = setting("error", "a user, item, time or click is missing")
    label: Literal["error", "drop"] = setting("error", "a click other than 0 and 1")
    future: Literal["error", "drop"] = setting("error", "a time after now")
    unknown_item: Literal["error", "drop"] = setting("error", "an item that the items lack")
    now: str | None = setting(None, "ISO time; none: the clock when the preparation first started")


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """How groups are stored."""

    block_groups: int = setting(256, "groups of a record", at_least=1)
    shard_groups: int = setting(
        65_536, "groups of a shard file, about; log tables: impressions", at_least=1
    )
    storage: Literal["float32", "bfloat16", "int8"] = setting(
        "int8", "format at rest of features that a reader's log brings along"
    )


@dataclasses.dataclass(frozen=True)
class RunnerConfig:
    """How the work is done; none of it changes what comes out."""

    workers: int = setting(0, "threads; 0 = one for each core", at_least=0)
    chunk_rows: int = setting(1_000_000, "rows of a table that are handled at a time", at_least=1)
    partition_rows: int = setting(
        1_000_000, "rows of a partition by user or item, about", at_least=1
    )


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """All settings of a preparation.

    Raises:
      ConfigError: two settings that exclude each other.
    """

    name: str = setting("log", "what the log is called in reports")
    source: Literal["tables", "reader"] = setting(
        "tables", "the log tables below; or the log that `data` reads, as in training"
    )
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    impressions: ImpressionsTable = dataclasses.field(default_factory=ImpressionsTable)
    behaviors: BehaviorsTable = dataclasses.field(default_factory=BehaviorsTable)
    catalogue: CatalogueTable = dataclasses.field(default_factory=CatalogueTable)
    users: UsersTable = dataclasses.field(default_factory=UsersTable)
    time_unit: Literal["day", "s", "ms", "us", "ns"] = setting("s", "of times that are integers")
    period_s: int = setting(
        1,
        "seconds; impressions of a user in one period are a group and know earlier periods only",
        at_least=1,
    )
    history: BehaviorsConfig = dataclasses.field(default_factory=BehaviorsConfig)
    statistics: tuple[str, ...] = setting(
        STATISTICS, "ID fields made of counts and ages before the impression, in log buckets"
    )
    statistics_unit_s: int = setting(86_400, "seconds; unit of ages in statistics", at_least=1)
    ids: IdsConfig = dataclasses.field(default_factory=IdsConfig)
    split: SplitConfig = dataclasses.field(default_factory=SplitConfig)
    policy: PolicyConfig = dataclasses.field(default_factory=PolicyConfig)
    features: str | None = setting(
        None, "folder that `python -m dicm_jax.features` wrote; a log needs its images"
    )
    output: OutputConfig = dataclasses.field(default_factory=OutputConfig)
    runner: RunnerConfig = dataclasses.field(default_factory=RunnerConfig)

    def __post_init__(self) -> None:
        _check_statistics(self.statistics)
        if self.source == "tables":
            _check_tables(self)


def _check_statistics(names: tuple[str, ...]) -> None:
    for name in names:
        if name not in STATISTICS:
            raise ConfigError(
                f"statistics names {name!r}, which is none; there are {', '.join(STATISTICS)}"
            )


def _check_tables(config: PrepareConfig) -> None:
    needed = {
        "impressions.path": config.impressions.path,
        "catalogue.path": config.catalogue.path,
        "features": config.features,
        "split.test_from": config.split.test_from,
    }
    for name, value in needed.items():
        if value is None:
            raise ConfigError(
                f"{name}=None with source='tables': the preparation needs it; set --config.{name}"
            )
    if config.history.min_dwell_s and config.behaviors.dwell is None:
        raise ConfigError(
            f"history.min_dwell_s={config.history.min_dwell_s} with behaviors.dwell=None: name the"
            " column of seconds stayed, or set history.min_dwell_s=0"
        )
    fields = [
        field.partition("=")[0]
        for table in (config.users, config.impressions, config.catalogue)
        for field in table.fields
    ]
    for name in fields:
        if not name or name in _TAKEN or "/" in name:
            raise ConfigError(
                f"ID field {name!r} cannot be called so: {', '.join(_TAKEN)} have another meaning"
                " here, and a name is part of a file's; write NAME=COLUMN with another name"
            )
    fields += [*config.statistics, "item"]
    for name in fields:
        if fields.count(name) > 1:
            raise ConfigError(
                f"ID field {name!r} stands {fields.count(name)} times among the fields of users,"
                " impressions, items and statistics: rename a column, so that each name is one"
                " vocabulary"
            )
    unknown = [name for name in config.ids.hashed if name not in (*fields, "user")]
    if unknown:
        raise ConfigError(
            f"ids.hashed names {unknown[0]!r}, which is no ID field; there are"
            f" {', '.join(['user', *fields])}"
        )
