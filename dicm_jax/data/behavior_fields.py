"""More ID fields for behaviors: what the log says of an item, said of it as a behavior too."""

import dataclasses
from collections.abc import Sequence

from dicm_jax.data.schema import ClickLog, IdField
from dicm_jax.errors import DataError


def with_behavior_fields(log: ClickLog, names: Sequence[str]) -> ClickLog:
    """The log with a behavior field for each named item field, called ``behavior_NAME``.

    Args:
      log: the log.
      names: item fields; behaviors may have one of them already.

    Raises:
      DataError: a name that is no item field, or one given twice.
    """
    items = {field.name: field for field in log.fields_of("item")}
    there = {field.vocabulary for field in log.fields_of("behavior")}
    added = []
    for name in names:
        if name not in items:
            raise DataError(
                f"data.behavior_fields names {name!r}, which is no item field of log {log.name!r}:"
                f" it has {', '.join(items)}"
            )
        if names.count(name) > 1:
            raise DataError(f"data.behavior_fields names {name!r} more than once: leave one")
        if items[name].vocabulary not in there:
            added.append(IdField(f"behavior_{name}", items[name].vocabulary, "behavior"))
    return dataclasses.replace(log, fields=(*log.fields, *added))
