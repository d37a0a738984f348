"""Some arrays of a checkpoint, arrays of several, or the same under other names."""

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dicm_jax.checkpoint.surgery.output import Cut
from dicm_jax.checkpoint.surgery.patterns import chosen, matching, split_pair
from dicm_jax.checkpoint.surgery.source import Source
from dicm_jax.errors import CheckpointError

_TABLE, _TABLE_ROWS = "ids.", "ids.row"
"""The arrays whose rows stand for keys of the record's vocabularies."""
_OF_TABLE = ("vocabularies", "vocabulary_crcs")
"""Entries of the record that say which keys, and which IDs, the rows stand for."""


def extract(source: Source, patterns: Sequence[str]) -> Cut:
    """Only the arrays that `patterns` mean.

    Raises:
      CheckpointError: a pattern means none.
    """
    kept = chosen(patterns, source.arrays)
    left_out = len(source.arrays) - len(kept)
    done = {"command": "extract", "kept": sorted(kept), "left_out": left_out}
    return _part(source, kept, done)


def drop(source: Source, patterns: Sequence[str]) -> Cut:
    """All but the arrays that `patterns` mean.

    Raises:
      CheckpointError: a pattern means none.
    """
    dropped = chosen(patterns, source.arrays)
    done = {"command": "drop", "dropped": sorted(dropped)}
    return _part(source, source.arrays.keys() - dropped, done)


def _part(source: Source, kept: set[str], done: dict[str, Any]) -> Cut:
    arrays = {name: array for name, array in source.arrays.items() if name in kept}
    done = {"command": done["command"], "from": [source.as_json()], **done}
    return Cut(source.step, source.record, arrays, done, source.files)


def merge(sources: Sequence[Source], prefer: int | None) -> Cut:
    """The arrays of all sources. Step and record are those of the first, vocabularies of the rows.

    Args:
      sources: checkpoints.
      prefer: the place in `sources` of the one whose array is taken where several have it; among
        others the earlier wins.

    Raises:
      CheckpointError: several have an array and none is preferred, or arrays of the ID table would
        come from checkpoints of different vocabularies.
    """
    having = {
        name: [i for i, s in enumerate(sources) if name in s.arrays] for name in _all(sources)
    }
    conflicts = [name for name, places in having.items() if len(places) > 1]
    if conflicts and prefer is None:
        first = conflicts[0]
        folders = " and ".join(str(sources[i].folder) for i in having[first][:2])
        raise CheckpointError(
            f"{len(conflicts)} arrays are in several of the checkpoints ({first} is in {folders});"
            " say with --prefer=first or --prefer=last whose are taken, or drop some before"
        )
    taken = {name: prefer if prefer in at else at[0] for name, at in having.items()}
    owner = sources[_owner_of_table(sources, taken)]
    of_owner = {name: owner.record[name] for name in _OF_TABLE if name in owner.record}
    record = sources[0].record | of_owner
    files = sources[0].files if owner is sources[0] else _settings_and_ids(sources[0], owner)
    done = {
        "command": "merge",
        "from": [source.as_json() for source in sources],
        "taken": [sum(place == i for place in taken.values()) for i in range(len(sources))],
        "conflicts": conflicts,
    }
    arrays = {name: sources[place].arrays[name] for name, place in taken.items()}
    return Cut(sources[0].step, record, arrays, done, files)


def _settings_and_ids(first: Source, owner: Source) -> dict[str, Path]:
    ids = {name: path for name, path in owner.files.items() if "/" in name}
    return ids | {name: path for name, path in first.files.items() if "/" not in name}


def _all(sources: Sequence[Source]) -> list[str]:
    return sorted({name for source in sources for name in source.arrays})


def _owner_of_table(sources: Sequence[Source], taken: dict[str, int]) -> int:
    """Whose vocabularies hold: those of the rows, with which all arrays of the table must agree."""
    places = {name: place for name, place in taken.items() if name.startswith(_TABLE)}
    owner = places.get(_TABLE_ROWS, next(iter(places.values()), 0))
    for name, place in places.items():
        ours, theirs = ([sources[i].record.get(n) for n in _OF_TABLE] for i in (owner, place))
        if ours != theirs:
            raise CheckpointError(
                f"{name} would come from {sources[place].folder}, whose vocabularies are"
                f" {theirs}, and other arrays of the ID table from {sources[owner].folder}, whose"
                f" are {ours}: drop the {_TABLE}* of one of them before"
            )
    return owner


def rename(source: Source, pairs: Sequence[str]) -> Cut:
    """The same arrays, some of them under other names.

    Args:
      source: a checkpoint.
      pairs: each ``OLD=NEW``: names, or globs with one ``*`` each, which stands for the same text.

    Raises:
      CheckpointError: a pair is malformed or means no array, or two arrays would have one name.
    """
    renamed: dict[str, str] = {}
    for pair in pairs:
        renamed |= _renamed(*split_pair(pair, "OLD=NEW"), list(source.arrays))
    names = {name: renamed.get(name, name) for name in source.arrays}
    for name, new in names.items():
        others = [other for other in names if names[other] == new and other != name]
        if others:
            raise CheckpointError(
                f"both {name} and {others[0]} would be called {new}; drop one of them before, or"
                " give another name"
            )
    done = {"command": "rename", "from": [source.as_json()], "renamed": renamed}
    arrays = {names[name]: array for name, array in source.arrays.items()}
    return Cut(source.step, source.record, arrays, done, source.files)


def _renamed(old: str, new: str, names: list[str]) -> dict[str, str]:
    if new.count("*") != old.count("*") or old.count("*") > 1:
        raise CheckpointError(
            f"'{old}={new}': OLD and NEW are two names, or have one * each, which stands for the"
            " same text in both"
        )
    found = [name for name in matching(old, names) if fnmatch.fnmatchcase(name, old)]
    if not found:
        raise CheckpointError(
            f"'{old}={new}': {old} is a group of arrays, not one; write '{old}.*={new}.*'"
        )
    before, _, after = old.partition("*")
    return {name: new.replace("*", name[len(before) : len(name) - len(after)]) for name in found}
