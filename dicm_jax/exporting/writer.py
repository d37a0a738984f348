"""Writes a servable: from restored runs to a folder with everything that serving needs.

Shape legend
    N   items     V   content rows     E   width of vectors     P   width of Pre-rank's vectors
"""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from dicm_jax import sealed_json
from dicm_jax.ams.feature_table import Statistics, Storage, statistics
from dicm_jax.ams.layout import RowLayout
from dicm_jax.checkpoint.manager import named_leaves
from dicm_jax.checkpoint.restore import Restored
from dicm_jax.config_file import to_json_dict
from dicm_jax.data.schema import ClickLog, Features
from dicm_jax.errors import ServableError
from dicm_jax.exporting import programs
from dicm_jax.exporting.by_value import values_of
from dicm_jax.exporting.catalogue import Catalogue, catalogue_of
from dicm_jax.exporting.programs import Served
from dicm_jax.exporting.vectors import Format, at_rest, vectors_of, with_places
from dicm_jax.locked import locked
from dicm_jax.serving import format as files
from dicm_jax.serving.servable import packed, versions_in, write_lines
from dicm_jax.whole_files import strict

_LOCK = ".lock"


@dataclasses.dataclass(frozen=True)
class Draft:
    """A servable that has no name yet.

    Attributes:
      folder: where it is written.
      final: where it will lie.
    """

    folder: Path
    final: Path

    def publish(self) -> Path:
        """Lists the files and gives the folder its name: it is there whole, or not at all."""
        files.MANIFEST.write(self.folder)
        os.rename(self.folder, self.final)
        sealed_json.sync(self.final.parent)
        return self.final


@contextlib.contextmanager
def alone(output: Path) -> Iterator[None]:
    """Holds a folder of versions for one export.

    Raises:
      ServableError: the folder cannot be written, or another export is at work there.
    """
    busy = ServableError(
        f"{output}: another export is at work there; let it end, or name another folder"
    )
    with contextlib.ExitStack() as stack:
        with _told(output):
            output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(output / _LOCK, busy))
        yield


def begin(output: Path) -> Draft:
    """Room for the next version in a folder.

    Raises:
      ServableError: the folder cannot be written.
    """
    with _told(output):
        output.mkdir(parents=True, exist_ok=True)
        number = max([0, *versions_in(output)]) + 1
        draft = output / f"{number}.unfinished"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
    return Draft(draft, output / str(number))


@contextlib.contextmanager
def _told(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServableError(
            f"{output}: cannot be written ({error.strerror}): name a folder with leave to write"
        ) from error


def write(
    draft: Draft, runs: Mapping[str, Restored], kept_N: np.ndarray, vectors: Format
) -> dict[str, Any]:
    """Writes everything but the card and the manifest.

    Args:
      draft: where.
      runs: trained models of one log by name: ``"dicm"``, ``"baseline"``, ``"prerank"``.
      kept_N: which items of the log the catalogue has.
      vectors: format of vectors at rest.

    Returns:
      The signature, as ``servable.json`` has it.
    """
    log = next(iter(runs.values())).job.log
    catalogue = catalogue_of(log, kept_N)
    _write_catalogue(draft.folder, log, catalogue)
    models = {
        name: _write_model(draft.folder / files.MODELS / name, run, catalogue, vectors)
        for name, run in runs.items()
    }
    number = draft.final.name
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    signature = {
        "format": files.FORMAT,
        "version": files.VERSION,
        "version_name": f"{draft.final.parent.name}/{number}",
        "made": made,
        "made_with": {name: _version(name) for name in ("dicm-jax", "jax")},
        "log": log.name,
        "behaviors": next(iter(runs.values())).job.config.data.behaviors,
        "items": len(catalogue.names),
        "fields": [[field.name, field.level, field.vocabulary] for field in log.fields],
        "vocabularies": [list(pair) for pair in log.vocabulary_sizes.items()],
        "contents": {
            name: {"width": content.features.width, "rows": content.features.count}
            for name, content in log.contents.items()
        },
        "models": models,
    }
    sealed_json.save(draft.folder / files.NAME, strict(signature))
    return signature


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # run from its source


def _write_catalogue(folder: Path, log: ClickLog, catalogue: Catalogue) -> None:
    rows = {f"{name}_rows": place_N for name, place_N in catalogue.rows_N.items()}
    arrays = {"items": catalogue.items_NF, "context": catalogue.context_NF} | rows
    safetensors.numpy.save_file(arrays, folder / files.CATALOGUE)
    write_lines(folder / files.ITEMS, catalogue.names)
    for name, values in log.ids.items():
        write_lines(folder / files.VOCABULARIES / f"{name}.jsonl", values().to_pylist())


def _write_model(
    folder: Path, run: Restored, catalogue: Catalogue, vectors: Format
) -> dict[str, Any]:
    folder.mkdir(parents=True)
    stage = run.job.spec.net.stage
    served = programs.served(
        run.model,
        _host(run.state.params.net),
        _host(run.state.moments),
        values_of(run.job.spec.net, run.job.log),
    )
    tables = {"ids": _id_rows(run)} | _vectors(run, vectors) | served.weights
    compressors = {name: _compressor(run, name) for name in run.model.embedders}
    lowered = _rank_programs(served, tables, run) if stage == "rank" else {}
    if stage == "prerank":
        lowered = _prerank_programs(served, tables, run)
        tables[files.INDEX] = _index(served, tables, catalogue)
    lowered |= _embed_programs(run, compressors)
    for name, code in lowered.items():
        (folder / f"{name}{files.PROGRAM}").write_bytes(code)
    safetensors.numpy.save_file(
        {name: packed(array) for name, array in tables.items()}, folder / files.TABLES
    )
    if compressors:
        flat = {f"{of}/{n}": a for of, parts in compressors.items() for n, a in parts.items()}
        safetensors.numpy.save_file(flat, folder / files.COMPRESSORS)
    attention = list(_attention_names(served)) if files.ATTENTION in lowered else []
    return {
        "stage": stage,
        "step": run.step,
        "images": run.job.spec.net.images,
        "inputs": [dataclasses.asdict(seen) for seen in run.job.spec.inputs],
        "vectors": vectors,
        "attention": attention,
        "programs": sorted(lowered),
        "platforms": list(programs.PLATFORMS),
        "config": to_json_dict(run.job.config),
    }


def _host(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


def _id_rows(run: Restored) -> np.ndarray:
    """ID rows in the order of their keys, behind that of nothing."""
    n_keys = sum(run.job.log.vocabulary_sizes.values())
    row_VE = np.asarray(run.state.ids["row"])
    row_KE = row_VE[RowLayout(n_keys).row(np.arange(n_keys))]
    return np.concatenate([np.zeros((1, row_KE.shape[1]), np.float32), row_KE])


def _vectors(run: Restored, format: Format) -> dict[str, np.ndarray]:
    """Vectors of every embedding model, with those of missing content, by array."""
    views = run.state.params.net.get("views", {})
    arrays = {}
    for name, content in run.job.spec.tables.items():
        vectors_VE = vectors_of(run, name)
        none_E = np.zeros(vectors_VE.shape[1], np.float32)
        missing = {part: np.asarray(views[content].get(part, none_E)) for part in _MISSING}
        placed_VE = with_places(vectors_VE, *missing.values())
        for part, array in at_rest(placed_VE, format).items():
            arrays[f"{name}_{part}"] = array
    return arrays


_MISSING = ("no_ad_E", "no_behavior_E")


def _compressor(run: Restored, name: str) -> dict[str, np.ndarray]:
    """Parameters of an embedding model by name, and the statistics that rows are given by."""
    params = {part: np.asarray(a) for part, a in named_leaves(run.state.params.embedders[name])}
    stats = _statistics(run, run.job.spec.tables[name])
    return params | {"mean": stats.mean_D, "deviation": stats.deviation_D}


def _statistics(run: Restored, content: str) -> Statistics:
    if content in run.job.files:
        return run.job.files[content].statistics
    features = run.job.log.contents[content].features
    assert isinstance(features, Features)  # what lies in files is among `files`
    return statistics(features.rows_VD, features.scale_V)


def _storage(run: Restored, content: str) -> Storage:
    in_files = run.job.files.get(content)
    return in_files.storage if in_files else run.job.config.features.storage


def _arguments(
    served: Served, tables: Mapping[str, np.ndarray], run: Restored, **known: int
) -> tuple[Any, Any]:
    """What a program takes; sizes that are not known are symbols."""
    sizes, log = programs.dims(**known), run.job.log
    seen = {seen.content for seen in run.job.spec.inputs}
    item_fields = len(log.fields_of("item"))
    of_items = {"items": np.zeros((1, item_fields), np.int32)}
    of_items |= {f"{content}_rows": np.zeros(1, np.int32) for content in seen}
    asked = programs.asked_shapes(sizes, len(log.fields_of("user")), len(log.fields_of("context")))
    return programs.table_shapes(sizes, of_items | dict(tables)), asked


def _rank_programs(
    served: Served, tables: Mapping[str, np.ndarray], run: Restored
) -> dict[str, bytes]:
    arguments = _arguments(served, tables, run)
    one_user = _arguments(served, tables, run, users=1)
    made = {
        files.RANK: programs.lower(served.probability, *one_user),
        files.RANK_MANY: programs.lower(served.probability, *arguments),
    }
    if _attention_names(served):
        made[files.ATTENTION] = programs.lower(served.attention, *one_user)
    return made


def _attention_names(served: Served) -> tuple[str, ...]:
    """What attention weights are called; none for a model without attention."""
    spec = served.model.spec.net
    if spec.stage != "rank" or not spec.sees_behavior_images:
        return ()
    if spec.aggregator not in ("attentive", "multi_query"):
        return ()
    queries = spec.query_names[: 1 if spec.aggregator == "attentive" else None]
    return tuple(f"{content}/{query}" for content in spec.contents for query in queries)


def _prerank_programs(
    served: Served, tables: Mapping[str, np.ndarray], run: Restored
) -> dict[str, bytes]:
    arguments = _arguments(served, tables, run)
    return {
        files.USER: programs.lower(served.user_vectors, *_arguments(served, tables, run, users=1)),
        files.ITEM: programs.lower(served.item_vectors, *arguments),
    }


def _embed_programs(
    run: Restored, compressors: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, bytes]:
    made = {}
    for name, content in run.job.spec.tables.items():
        template = run.state.params.embedders[name]
        embed = programs.embed_program(run.model, name, _storage(run, content))

        def by_name(params: Any, *rows: Any, template: Any = template, embed: Any = embed) -> Any:
            leaves = [params[part] for part, _ in named_leaves(template)]
            return embed(jax.tree.unflatten(jax.tree.structure(template), leaves), *rows)

        arrays = {n: jax.ShapeDtypeStruct(a.shape, a.dtype) for n, a in compressors[name].items()}
        mean, deviation = arrays.pop("mean"), arrays.pop("deviation")
        width = run.job.spec.content_widths[content]
        (count,) = jax.export.symbolic_shape("R")
        rows = jax.ShapeDtypeStruct((count, width), jnp.float32)
        made[f"{files.EMBED}_{name}"] = programs.lower(by_name, arrays, mean, deviation, rows)
    return made


def _index(served: Served, tables: Mapping[str, np.ndarray], catalogue: Catalogue) -> np.ndarray:
    """Pre-rank's vectors of all items, in their usual context."""
    rows = {f"{name}_rows": place_N for name, place_N in catalogue.rows_N.items()}
    all_tables = {"items": catalogue.items_NF} | rows | dict(tables)
    on_device = {name: jnp.asarray(array) for name, array in all_tables.items()}
    vectors = jax.jit(served.item_vectors)
    user_fields, chunk = served.model.spec.net.user_fields, 4096
    made = []
    for first in range(1, len(catalogue.names) + 1, chunk):
        place_B = np.minimum(np.arange(first, first + chunk), len(catalogue.names))
        asked = {
            "user_GF": np.zeros((1, user_fields), np.int32),
            "behavior_GL": np.zeros((1, 1), np.int32),
            "item_B": place_B.astype(np.int32),
            "context_BF": catalogue.context_NF[place_B],
            "group_B": np.zeros(chunk, np.int32),
        }
        made.append(np.asarray(vectors(on_device, asked)))
    return np.concatenate(made)[: len(catalogue.names)]
