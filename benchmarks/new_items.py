"""Items that training never saw, added to the service by their feature rows: how well they rank.

Claim: with images, new items are ranked better than by their IDs alone.

The servable is exported with ``--leave-out-cold``: it knows no item that training has not seen.
They are added through ``/v1/items`` with their feature row and the IDs of their fields; then every
group of the test split is asked for, and GAUC is taken over the impressions of the new items.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks._machine import circumstances
from benchmarks._served_split import Client, served_split
from benchmarks._serving_load import serving
from dicm_jax.checkpoint.run_folder import config_of
from dicm_jax.data.readers import read_log
from dicm_jax.data.schema import NO_IMAGE, ClickLog, in_memory
from dicm_jax.exporting.catalogue import item_names, warm_items
from dicm_jax.metrics import score

DESCRIPTION = "GAUC of items that are added to the service, with and without images."
EXAMPLE = """example:
  python -m dicm_jax.export --workdir=runs/hm --baseline=runs/hm_ids --output=servables/hm_warm \\
      --leave-out-cold
  python -m benchmarks.new_items --workdir=runs/hm --servable=servables/hm_warm

Ends with one line of JSON: `ratio` is the GAUC of new items with images over that without."""
_TOGETHER = 32


def new_items(log: ClickLog) -> list[dict[str, Any]]:
    """What is sent of each item that training has not seen."""
    names, features = item_names(log), in_memory(log.features)
    fields = [field.name for field in log.fields_of("item")]
    sent = []
    for item in np.flatnonzero(~warm_items(log)).tolist():
        row = int(log.items.image_N[item])
        made = {
            "name": names[item],
            "fields": dict(zip(fields, log.items.ids_NF[item].tolist(), strict=True)),
        }
        if row != NO_IMAGE:
            values_D = features.rows_VD[row].astype(np.float32)
            if features.scale_V is not None:
                values_D = values_D * features.scale_V[row]
            made["features"] = {"image": values_D.tolist()}
        sent.append(made)
    return sent


def main(arguments: list[str]) -> None:
    """Adds the items, asks for the test split and prints the JSON line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.new_items",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    parser.add_argument("--servable", type=Path, required=True, help="exported --leave-out-cold")
    args = parser.parse_args(arguments)
    log = read_log(config_of(args.workdir).data)
    split, items = log.split("test"), new_items(log)
    with (
        serving(args.servable, f"--room={len(items)}") as server,
        contextlib.closing(Client(server.port)) as client,
    ):
        for first in tqdm(range(0, len(items), _TOGETHER), desc="items added", unit="request"):
            client.post("/v1/items", {"items": items[first : first + _TOGETHER]})
        scores = served_split(client, log, split, ["dicm", "baseline"])
    found = {
        name: {
            part: score(split.user_B[chosen_B], split.click_B[chosen_B], score_B[chosen_B]).gauc
            for part, chosen_B in {
                "new items": split.cold_B,
                "known items": ~split.cold_B,
                "all": np.ones(len(split.cold_B), bool),
            }.items()
        }
        for name, score_B in scores.items()
    }
    result = {
        "benchmark": "new_items",
        "against": "the model without images",
        "ratio": round(found["dicm"]["new items"] / found["baseline"]["new items"], 4),
        "gauc": found,
        "items_added": len(items),
        "impressions_of_new_items": int(split.cold_B.sum()),
        **circumstances("jax", "fastapi", "uvicorn"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
