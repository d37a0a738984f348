"""Newer versions of the servable that tests share, each a little different from the first."""

import json
import shutil
from pathlib import Path

import numpy as np
import safetensors.numpy

from dicm_jax import sealed_json
from dicm_jax.serving import format as files
from dicm_jax.serving import servable as servables


def publish(folder: Path, number: int, *, scale: float = 1.0, more: tuple[str, ...] = ()) -> Path:
    """Another version of version 1: ID rows times `scale`, with `more` items like the first."""
    made = shutil.copytree(folder / "1", folder / f"{number}.unfinished")
    path = made / "models/dicm" / files.TABLES
    tables = safetensors.numpy.load_file(path)
    tables["ids"] = tables["ids"] * np.float32(scale)
    safetensors.numpy.save_file(tables, path)
    body = json.loads((made / files.NAME).read_text())
    del body["crc32"]
    sealed_json.save(made / files.NAME, body | {"version_name": f"servable/{number}"})
    if more:
        names = servables.read_lines(made / files.ITEMS)
        servables.write_lines(made / files.ITEMS, [*names, *more])
        catalogue = safetensors.numpy.load_file(made / files.CATALOGUE)
        grown = {n: np.concatenate([a, a[[1] * len(more)]]) for n, a in catalogue.items()}
        safetensors.numpy.save_file(grown, made / files.CATALOGUE)
        path = made / "models/prerank" / files.TABLES
        tables = safetensors.numpy.load_file(path)
        index_NP = tables[files.INDEX]
        tables[files.INDEX] = np.concatenate([index_NP, index_NP[[0] * len(more)]])
        safetensors.numpy.save_file(tables, path)
    files.MANIFEST.write(made)
    return made.rename(folder / str(number))
