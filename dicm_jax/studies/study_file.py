"""A study file, checked at once: the grid of its variants and seeds, and what is asked of it.

A study file is a Python file with ``get_config()``, which returns a dict (or a ConfigDict):

    def get_config():
        return {
            "title": "Do photos of behaviors help?",
            "base": "configs/dicm.py",                        # a run's config file
            "settings": {"train.epochs": 2},                  # of all cells
            "variants": {"without": {"model.images": "none"}, "with": {}},
            "seeds": [0, 1, 2],
            "seed_settings": ["train.seed"],                  # what gets the seed
            "comparisons": [{"variant": "with", "reference": "without", "text": "Images help."}],
        }

`dicm_jax.studies.grid` tells the other keys.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dicm_jax.config import Config
from dicm_jax.config_file import check_override, from_json_dict, read_config_file
from dicm_jax.errors import ConfigError
from dicm_jax.studies.grid import Bars, Comparison, Study, Table, started_from_cell

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DEFAULTS: dict[str, Any] = {
    "title": "",
    "text": "",
    "base": None,
    "settings": {},
    "variants": {},
    "averages": {},
    "labels": {},
    "seeds": (),
    "seed_settings": ("train.seed",),
    "reference": None,
    "comparisons": (),
    "tables": (),
    "bars": (),
    "curves": (),
    "curves_text": "",
    "curves_paper": {},
    "attention": None,
}


def load_study(path: str, overrides: Sequence[str] = ()) -> Study:
    """The checked study of a file.

    Args:
      path: the study file.
      overrides: settings of all cells that take precedence over the file's, each ``"a.b=value"``.

    Raises:
      ConfigError: no variants or no seeds, a seed given twice, an unknown key, setting or variant,
        a value that a run could not have.
    """
    given = {**_DEFAULTS, **_checked_keys(read_config_file(path), path)}
    variants = _variants(given["variants"], path)
    seeds = _seeds(given["seeds"], path)
    seed_settings = tuple(given["seed_settings"])
    study = Study(
        name=Path(path).stem,
        title=given["title"] or Path(path).stem,
        text=given["text"],
        configs=_configs(path, given, overrides, variants, seeds, seed_settings),
        labels=dict(given["labels"]),
        variants=variants,
        seeds=seeds,
        seed_settings=seed_settings,
        reference=given["reference"] or next(iter(variants)),
        comparisons=_entries(Comparison, given["comparisons"], f"{path}: comparisons"),
        tables=_entries(Table, given["tables"], f"{path}: tables"),
        bars=_entries(Bars, given["bars"], f"{path}: bars"),
        curves=tuple(given["curves"]),
        curves_text=given["curves_text"],
        curves_paper=dict(given["curves_paper"]),
        attention=given["attention"],
        averages=_averages(given["averages"], path),
    )
    _check_mentioned(study, path)
    _check_paper(study, path)
    _check_starts(study, path)
    return study


def _checked_keys(tree: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    for key in tree:
        if key not in _DEFAULTS:
            raise ConfigError(
                f"{path}: a study has no key {key!r};{_meant(key, _DEFAULTS)} keys: "
                + ", ".join(_DEFAULTS)
            )
    return tree


def _variants(variants: Any, path: str) -> dict[str, dict[str, Any]]:
    if not isinstance(variants, Mapping) or not variants:
        raise ConfigError(
            f"{path}: a grid with no cells: variants={variants!r}; name at least one variant, with "
            "its settings by dotted name"
        )
    for name in variants:
        if not _NAME.fullmatch(str(name)):
            raise ConfigError(
                f"{path}: variant {name!r} cannot be the name of a folder; use letters, digits, "
                "'_', '-' and '.'"
            )
        if not isinstance(variants[name], Mapping):
            raise ConfigError(
                f"{path}: variant {name!r} is {variants[name]!r}; give its settings by dotted name,"
                " {} if it has none of its own"
            )
    return {name: dotted(settings) for name, settings in variants.items()}


def _averages(averages: Any, path: str) -> dict[str, tuple[str, ...]]:
    for name, members in averages.items():
        if not isinstance(members, list | tuple) or not members:
            raise ConfigError(
                f"{path}: average {name!r} is {members!r}; give the variants that it is the mean of"
            )
    return {name: tuple(members) for name, members in averages.items()}


def _seeds(seeds: Any, path: str) -> tuple[int, ...]:
    if not isinstance(seeds, list | tuple) or not len(seeds):
        raise ConfigError(
            f"{path}: a grid with no cells: seeds={seeds!r}; give at least one, such as [0, 1, 2]"
        )
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise ConfigError(f"{path}: seed {seed!r} must be a whole number, 0 or more")
    twice = [seed for seed in dict.fromkeys(seeds) if list(seeds).count(seed) > 1]
    if twice:
        raise ConfigError(
            f"{path}: seed {twice[0]} is given twice in seeds={list(seeds)}; the second run would "
            "be the first again: give each seed once"
        )
    return tuple(seeds)


def _configs(
    path: str,
    given: Mapping[str, Any],
    overrides: Sequence[str],
    variants: Mapping[str, dict[str, Any]],
    seeds: Sequence[int],
    seed_settings: Sequence[str],
) -> dict[tuple[str, int], Config]:
    """The configuration of each cell: base, settings, overrides, variant, seed, the last wins."""
    if given["base"] is None:
        raise ConfigError(f"{path}: no base; name the config file of a run that cells start from")
    if not seed_settings:
        raise ConfigError(
            f"{path}: seed_settings is empty, so all seeds would be one run; name settings that "
            "get the seed, such as train.seed"
        )
    from_command_line: dict[str, Any] = {}
    for override in overrides:
        from_command_line |= check_override(override)
    common = dotted(read_config_file(str(given["base"]))) | dotted(given["settings"])
    configs = {}
    for name, settings in variants.items():
        _check_not_set_twice(path, name, settings, seed_settings, from_command_line)
        for seed in seeds:
            seeded = dict.fromkeys(seed_settings, seed)
            tree = common | from_command_line | settings | seeded
            configs[name, seed] = from_json_dict(tree, f"{path}, variant {name!r}")
    return configs


def _check_not_set_twice(
    path: str,
    variant: str,
    settings: Mapping[str, Any],
    seed_settings: Sequence[str],
    overrides: Mapping[str, Any],
) -> None:
    for setting in seed_settings:
        for source, given in ((f"{path}: variant {variant!r}", settings), ("--config", overrides)):
            if setting in given:
                raise ConfigError(
                    f"{source} sets {setting}={given[setting]!r}, but the seeds of the study set "
                    "it (seed_settings); leave it out in one of the two"
                )
    for setting in overrides:
        if setting in settings:
            raise ConfigError(
                f"--config.{setting}={overrides[setting]!r}: variant {variant!r} of {path} sets it "
                f"itself, to {settings[setting]!r}; change the study file instead"
            )


def dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted path, given so or nested."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= dotted(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def _entries(kind: type, entries: Iterable[Any], place: str) -> tuple[Any, ...]:
    """Entries of a list of a study file as `kind`, with its required and known keys."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    made = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise ConfigError(f"{place}[{number}] is {entry!r}; give a dict of {', '.join(fields)}")
        unknown = [key for key in entry if key not in fields]
        if unknown:
            raise ConfigError(
                f"{place}[{number}] has no key {unknown[0]!r};{_meant(unknown[0], fields)} keys: "
                + ", ".join(fields)
            )
        try:
            made.append(kind(**entry))
        except TypeError:
            raise ConfigError(
                f"{place}[{number}] is {dict(entry)!r}, which lacks a key; keys: "
                + ", ".join(fields)
            ) from None
    return tuple(made)


def _check_mentioned(study: Study, path: str) -> None:
    for name in study.averages:
        if name in study.variants:
            raise ConfigError(
                f"{path}: average {name!r} is called like a variant; give it a name of its own"
            )
    runs, all_names = list(study.variants), [*study.variants, *study.averages]
    for place, name in _mentioned_runs(study):
        _check_name(place, name, runs, path)
    for place, name in _mentioned(study):
        _check_name(place, name, all_names, path)


def _check_name(place: str, name: str, known: list[str], path: str) -> None:
    if name not in known:
        raise ConfigError(
            f"{path}: {place} names the variant {name!r}, which the study does not have;"
            f"{_meant(name, known)} its variants: {', '.join(known)}"
        )


def _check_paper(study: Study, path: str) -> None:
    """What a report will read of the paper's figures; a mistake shall not wait until then."""
    for table in study.tables:
        for name, reported in table.paper.items():
            if not isinstance(reported, tuple | list) or len(reported) != 2:
                raise ConfigError(
                    f"{path}: table {table.title!r}: paper has {reported!r} for {name!r}; give"
                    " (GAUC, AUC), None where the paper has none"
                )


def _check_starts(study: Study, path: str) -> None:
    """A cell that starts from another's checkpoint comes after it."""
    order = list(study.variants)
    for (variant, _), config in study.configs.items():
        source = started_from_cell(config)
        if source is not None and source not in order[: order.index(variant)]:
            raise ConfigError(
                f"{path}: variant {variant!r} starts from the cell of {source!r}"
                " (checkpoint.warm_start), which is no variant before it; put that one first, of"
                f" {', '.join(order)}"
            )


def _mentioned_runs(study: Study) -> Iterable[tuple[str, str]]:
    """What a study names that must be a variant, since it asks for its runs, and where."""
    for average, members in study.averages.items():
        yield from ((f"average {average!r}", name) for name in members)
    yield from (("curves", name) for name in study.curves)
    if study.attention is not None:
        yield "attention", study.attention


def _mentioned(study: Study) -> Iterable[tuple[str, str]]:
    """What else a study names that has scores: a variant or an average, and where."""
    yield "reference", study.reference
    yield from (("labels", name) for name in study.labels)
    for comparison in study.comparisons:
        yield "comparisons", comparison.variant
        yield "comparisons", comparison.reference
    for table in study.tables:
        yield from ((f"table {table.title!r}", name) for name in (*table.rows, *table.paper))
    for bars in study.bars:
        for group in bars.groups.values():
            yield from ((f"bars {bars.title!r}", name) for name in group.values())


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" did you mean {near[0]!r}?" if near else ""
