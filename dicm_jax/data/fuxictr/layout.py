"""Which column of a FuxiCTR set is the user, the item, the behaviors, a field of which level.

What a configuration leaves open follows from the feature map:

- user: ``group_id``; else the only ``meta`` column; else the first of source ``user``.
- history: the first sequence that shares an embedding; item: the column that it shares it with.
- level of another column: its ``source``. A column without one is of the ``item`` level if a
  sequence shares its embedding, as ``cate_history`` does with ``cate_id``, else of the impression
  (``context``), where nothing is supposed of it.
- A sequence that runs along the history and shares the embedding of a field of the item becomes a
  ``behavior`` field. Other sequences have no place here and are left out, with a note.
"""

import dataclasses

from dicm_jax.data.fuxictr.columns import Column, Columns
from dicm_jax.data.fuxictr.config import FuxiCTRConfig
from dicm_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class Layout:
    """The columns by role.

    Attributes:
      user, item, history: the columns of these.
      label: the column of the click.
      user_fields, item_fields, context_fields: ID fields by level; the first of the item's is the
        item itself.
      along: sequences that run along the history, with the item's field they share keys with.
      left_out: columns that are not used.
    """

    columns: Columns
    user: Column
    item: Column
    history: Column
    label: str
    user_fields: tuple[Column, ...]
    item_fields: tuple[Column, ...]
    context_fields: tuple[Column, ...]
    along: tuple[tuple[Column, Column], ...]
    left_out: tuple[str, ...]

    @property
    def read(self) -> tuple[Column, ...]:
        """Every column that is read, the user first, none twice."""
        of_fields = (*self.user_fields, *self.item_fields, *self.context_fields)
        sequences = (self.history, *(sequence for sequence, _ in self.along))
        return tuple(
            {column.name: column for column in (self.user, *of_fields, *sequences)}.values()
        )


def layout_of(columns: Columns, config: FuxiCTRConfig) -> Layout:
    """The roles of the columns, as `config` says and else as this module's rules do.

    Raises:
      DataError: a role that no column has or several could have, a column that is not there or of
        a type that does not fit its role, a level given twice.
    """
    _check_named(columns, config)
    used = {name: c for name, c in columns.by_name.items() if name not in config.ignore}
    sequences = [column for column in used.values() if column.kind == "sequence"]
    history = _history(columns, config, used, sequences)
    item = _role(columns, used, "item", config.item or history.vocabulary, ("categorical",))
    if history.vocabulary != item.vocabulary:
        raise DataError(
            f"{columns.path}: history {history.name!r} shares the embedding of "
            f"{history.vocabulary!r}, not of the item {item.name!r}; behaviors must be items: "
            "choose with data.fuxictr.history and data.fuxictr.item"
        )
    user = _user(columns, config, used)
    levels = _levels(columns, config, used, sequences, item)
    of_item = (item, *(c for c in levels["item"] if c.name != item.name))
    along = _along(sequences, history, of_item)
    placed = {history.name, user.name} | {sequence.name for sequence, _ in along}
    placed |= {column.name for level in levels.values() for column in level}
    return Layout(
        columns=columns,
        user=user,
        item=item,
        history=history,
        label=_label(columns, config),
        user_fields=levels["user"],
        item_fields=of_item,
        context_fields=levels["context"],
        along=along,
        left_out=tuple(name for name in columns.by_name if name not in placed),
    )


def _check_named(columns: Columns, config: FuxiCTRConfig) -> None:
    lists = {"user": config.user_fields, "item": config.item_fields}
    lists |= {"context": config.context_fields}
    named = [(name, f"{level}_fields") for level, names in lists.items() for name in names]
    for name, where in (*named, *((name, "ignore") for name in config.ignore)):
        _known(columns, f"data.fuxictr.{where}", name)
    names = [name for name, _ in named]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{columns.path}: {twice} stand in two of user_fields, item_fields and context_fields; "
            "a column has one level"
        )


def _known(columns: Columns, where: str, name: str) -> None:
    if name not in columns.by_name:
        raise DataError(
            f"{columns.path}: {where} names {name!r}, which is not listed; features: "
            f"{list(columns.by_name)}"
        )


def _role(
    columns: Columns, used: dict[str, Column], role: str, name: str, kinds: tuple[str, ...]
) -> Column:
    _known(columns, f"data.fuxictr.{role}", name)
    if name not in used or used[name].kind not in kinds:
        found = used[name].kind if name in used else "ignored"
        raise DataError(
            f"{columns.path}: the {role} is to be {name!r}, which is {found}; it must be "
            f"{' or '.join(kinds)}: choose with data.fuxictr.{role}"
        )
    return used[name]


def _history(
    columns: Columns, config: FuxiCTRConfig, used: dict[str, Column], sequences: list[Column]
) -> Column:
    if config.history is not None:
        return _role(columns, used, "history", config.history, ("sequence",))
    sharing = [column for column in sequences if column.vocabulary != column.name]
    if not sharing:
        raise DataError(
            f"{columns.path}: no sequence shares an embedding, so none is known to hold the user's "
            f"behaviors; sequences: {[column.name for column in sequences]}: give one "
            "share_embedding, the item's column"
        )
    return sharing[0]


def _user(columns: Columns, config: FuxiCTRConfig, used: dict[str, Column]) -> Column:
    meta = [name for name, column in used.items() if column.kind == "meta"]
    of_users = [n for n, c in used.items() if c.source == "user" and c.kind == "categorical"]
    name = config.user or columns.group_id
    if name is None and len(meta) == 1:
        name = meta[0]
    if name is None and not meta and of_users:
        name = of_users[0]
    if name is None:
        raise DataError(
            f"{columns.path}: which column is the user is not said: no group_id, meta columns "
            f"{meta}, columns of source user {of_users}; choose with data.fuxictr.user"
        )
    return _role(columns, used, "user", name, ("categorical", "meta"))


def _label(columns: Columns, config: FuxiCTRConfig) -> str:
    if config.label is None and len(columns.labels) != 1:
        raise DataError(
            f"{columns.path}: labels are {list(columns.labels)}; choose one with data.fuxictr.label"
        )
    label = columns.labels[0] if config.label is None else config.label
    if label not in columns.labels:
        raise DataError(
            f"{columns.path}: data.fuxictr.label names {label!r}; labels are {list(columns.labels)}"
        )
    return label


def _levels(
    columns: Columns,
    config: FuxiCTRConfig,
    used: dict[str, Column],
    sequences: list[Column],
    item: Column,
) -> dict[str, tuple[Column, ...]]:
    """The ID fields of each level."""
    said = dict.fromkeys(config.user_fields, "user") | dict.fromkeys(config.item_fields, "item")
    said |= dict.fromkeys(config.context_fields, "context") | {item.name: "item"}
    along = {column.vocabulary for column in sequences if column.vocabulary != column.name}
    levels: dict[str, list[Column]] = {"user": [], "item": [], "context": []}
    for name, column in used.items():
        if column.kind not in ("categorical", "numeric"):
            continue
        if column.pretrained and name not in said:
            continue
        level = said.get(name) or column.source or ("item" if name in along else "context")
        if level not in levels:
            raise DataError(
                f"{columns.path}: feature {name!r} has source {level!r}; known are user, item and "
                "context: say its level with data.fuxictr.user_fields and the like"
            )
        levels[level].append(column)
    return {level: tuple(of_level) for level, of_level in levels.items()}


def _along(
    sequences: list[Column], history: Column, of_item: tuple[Column, ...]
) -> tuple[tuple[Column, Column], ...]:
    """The first sequence of each field of the item, but the item itself."""
    found = {}
    for sequence in sequences:
        for column in of_item[1:]:
            shares = sequence.vocabulary == column.vocabulary and column.kind == "categorical"
            if shares and sequence is not history and column.name not in found:
                found[column.name] = (sequence, column)
    return tuple(found.values())
