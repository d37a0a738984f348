"""The last stage of a preparation: a bucket of groups as a shard, and all shards as a set.

Shape legend
    G   groups
"""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dicm_jax import sealed_json
from dicm_jax.ams.keys import IMAGE
from dicm_jax.data.prepared.assembly import Catalogue, Split, finish
from dicm_jax.data.prepared.manifest import Prepared
from dicm_jax.data.prepared.shards import (
    DATASET_FOLDER,
    Shard,
    group_sizes,
    shard_name,
    write_shard,
)
from dicm_jax.data.schema import NO_IMAGE, Items
from dicm_jax.errors import DataError
from dicm_jax.preparation.by_user import UNORDERED, in_order
from dicm_jax.preparation.catalogue import ItemCatalogue
from dicm_jax.preparation.plan import SPLITS, Plan, collisions, id_fields
from dicm_jax.preparation.scan import Scan
from dicm_jax.preparation.sources import settings_of, source_files
from dicm_jax.preparation.vocabularies import Vocabulary

_FORMAT, _VERSION = "dicm_jax prepared shard", 1


@dataclasses.dataclass(frozen=True)
class Written:
    """A bucket that became a shard, or None where no group came.

    Attributes:
      bucket: its number.
      path: of the shard, before it gets its name in the set.
      shard: what it holds.
      sizes_G: impressions of each group.
      unordered: impressions that stand in their table above an earlier one of the same user.
    """

    bucket: int
    path: Path
    shard: Shard
    sizes_G: np.ndarray
    unordered: int


def write_bucket(plan: Plan, bucket: int, groups: pa.Table | None, folder: Path) -> Written | None:
    """Writes the groups of a bucket in order of time and user; see `written_bucket` before.

    Args:
      plan: of the preparation.
      bucket: its number.
      groups: rows that `groups_of_users` made for it, in any order.
      folder: where shards lie until all are there.
    """
    if groups is None:
        return None
    path, record, sizes = _files_of(bucket, folder)
    folder.mkdir(parents=True, exist_ok=True)
    ordered = in_order(groups)
    shard = write_shard(path, ordered, plan.config.output.block_groups)
    np.save(sizes, group_sizes(ordered))
    sealed_json.sync(sizes)
    unordered = int(groups[UNORDERED].to_numpy().sum())
    body = {"format": _FORMAT, "version": _VERSION, "unordered": unordered}
    sealed_json.save(record, body | {"shard": dataclasses.asdict(shard)})
    return Written(bucket, path, shard, group_sizes(ordered), unordered)


def written_bucket(bucket: int, folder: Path) -> Written | None:
    """What `write_bucket` made of a bucket before, or None if it did not get to the end of it."""
    path, record, sizes = _files_of(bucket, folder)
    if not record.exists():
        return None
    body = sealed_json.load(record, format=_FORMAT, version=_VERSION, what="a written shard")
    shard = Shard(**body["shard"])
    return Written(bucket, path, shard, np.load(sizes), body["unordered"])


def _files_of(bucket: int, folder: Path) -> tuple[Path, Path, Path]:
    """The shard, its record, which comes last, and the impressions of its groups."""
    shard, record, sizes = (
        folder / f"bucket-{bucket:06d}.{kind}" for kind in ("array_record", "json", "npy")
    )
    return shard, record, sizes


def finished(
    plan: Plan,
    items: ItemCatalogue,
    seen: Scan,
    written: Sequence[Written | None],
    counts: dict[str, int],
    folder: Path,
) -> Prepared:
    """Puts all shards in their places in `folder` and writes what stands beside them.

    Args:
      plan, items, seen: of the preparation.
      written: all buckets.
      counts: what the stages counted.
      folder: of the set.

    Raises:
      DataError: no group for train or for the test.
    """
    there = [made for made in written if made is not None]
    counts = counts | {"impressions_out_of_order": sum(made.unordered for made in there)}
    splits = {}
    for split in SPLITS:
        mine = [made for made in there if plan.split_of(made.bucket) == split]
        if mine:
            sizes_G = np.concatenate([made.sizes_G for made in mine])
            splits[split] = Split([made.shard for made in mine], sizes_G)
        for number, made in enumerate(mine):
            _place(made.path, folder / DATASET_FOLDER / shard_name(split, number, len(mine)))
    for split in SPLITS:
        if split not in splits and plan.buckets_of(split):
            raise DataError(
                f"no group is left for the {split} split; counted: {counts}: look at the cuts in"
                " split and at what the policies dropped"
            )
    fields, sizes = id_fields(plan, items)
    with_values = plan.fields | items.encodings | {"user": plan.users}
    catalogue = Catalogue(
        fields=fields,
        vocabulary_sizes=sizes,
        items=Items(items.ids_NF, items.image_N),
        item_ids=items.ids(),
        vocabularies={
            name: encoding.values
            for name, encoding in with_values.items()
            if isinstance(encoding, Vocabulary)
        },
        features={IMAGE: items.table.files},
    )
    return finish(
        folder,
        catalogue,
        splits,
        name=plan.config.name,
        block_groups=plan.config.output.block_groups,
        notes=_notes(plan, items, seen, splits, counts),
        settings=settings_of(plan.config),
        source=source_files(plan.config),
    )


def _notes(
    plan: Plan,
    items: ItemCatalogue,
    seen: Scan,
    splits: dict[str, Split],
    counts: dict[str, int],
) -> dict[str, float]:
    notes: dict[str, float] = {f"{table}_rows": float(rows) for table, rows in seen.rows.items()}
    notes |= {name: float(count) for name, count in sorted(counts.items())}
    notes["items_without_image"] = float((items.image_N == NO_IMAGE).sum())
    notes |= collisions(plan, items, seen)
    for name, split in splits.items():
        for what in ("groups", "impressions", "behaviors", "clicks", "cold"):
            notes[f"{name}_{what}"] = float(sum(getattr(s, what) for s in split.shards))
    return notes


def _place(made: Path, place: Path) -> None:
    """Gives a shard its name in the set; the other name stays until the work is cleared."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    try:
        os.link(made, place)
    except OSError:  # a file system without links
        shutil.copyfile(made, place)
