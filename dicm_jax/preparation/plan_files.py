"""A plan as files, from which other machines load it: a sealed record and its vocabularies."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dicm_jax import sealed_json
from dicm_jax.errors import DataError
from dicm_jax.features.file_crc import file_crc
from dicm_jax.preparation.config import PrepareConfig
from dicm_jax.preparation.plan import Plan
from dicm_jax.preparation.vocabularies import Encoding, Hashed, Vocabulary

_RECORD = "plan.json"
_FORMAT, _VERSION = "dicm_jax preparation plan", 1


def save(plan: Plan, folder: Path) -> None:
    """Writes a plan without its settings; the record comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    body = {
        "format": _FORMAT,
        "version": _VERSION,
        "users": _save_encoding(plan.users, folder / "users.arrow"),
        "items": _save_encoding(plan.items, folder / "items.arrow"),
        "fields": {
            name: _save_encoding(encoding, folder / f"field-{number:03d}.arrow")
            for number, (name, encoding) in enumerate(plan.fields.items())
        },
        "now": plan.now,
        "cuts": list(plan.cuts),
        "edges": plan.edges_Q.tolist(),
        "partitions": plan.partitions,
    }
    sealed_json.save(folder / _RECORD, body)


def load(config: PrepareConfig, folder: Path) -> Plan:
    """Reads a plan.

    Args:
      config: the settings that the plan was made with.
      folder: that it was saved in.

    Raises:
      DataError: no plan there, or one that was altered.
    """
    body = sealed_json.load(
        folder / _RECORD, format=_FORMAT, version=_VERSION, what="the plan of a preparation"
    )
    items = _load_encoding(body["items"], folder)
    assert isinstance(items, Vocabulary)
    return Plan(
        config=config,
        users=_load_encoding(body["users"], folder),
        items=items,
        fields={name: _load_encoding(saved, folder) for name, saved in body["fields"].items()},
        now=body["now"],
        cuts=(body["cuts"][0], body["cuts"][1]),
        edges_Q=np.array(body["edges"], np.int64),
        partitions=body["partitions"],
    )


def _save_encoding(encoding: Encoding, path: Path) -> dict[str, Any]:
    if isinstance(encoding, Hashed):
        return {"hashed": encoding.size}
    values = pa.record_batch({"value": encoding.values})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, values.schema) as writer:
        writer.write_batch(values)
    sealed_json.sync(path)
    return {"vocabulary": path.name, "crc32": file_crc(path)}


def _load_encoding(saved: dict[str, Any], folder: Path) -> Encoding:
    if "hashed" in saved:
        return Hashed(saved["hashed"])
    path = folder / saved["vocabulary"]
    crc32 = file_crc(path)
    if crc32 != saved["crc32"]:
        raise DataError(
            f"{path}: damaged: {crc32:08x} is its CRC-32, {saved['crc32']:08x} is recorded; remove"
            " the folder of the unfinished preparation and run the same command again"
        )
    # Read, not mapped: the folder is removed while workers may still hold the plan.
    with pa.OSFile(str(path), "rb") as file:
        return Vocabulary(pa.ipc.open_file(file).get_batch(0)["value"])
