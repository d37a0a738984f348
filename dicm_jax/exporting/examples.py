"""Users of a log for people to look at: who they are, what they clicked, what they were shown.

examples.json    users: id, fields, behaviors, candidates, clicked (null: not shown to them),
                 context; photos: file of each item
photos/          PLACE.jpg, or PLACE.svg drawn from the content row where there is no photo
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from dicm_jax.data.looks import looks
from dicm_jax.data.schema import NO_IMAGE, ClickLog, GroupedImpressions
from dicm_jax.exporting.catalogue import item_names
from dicm_jax.report.photos import drawing
from dicm_jax.serving.format import EXAMPLES, PHOTOS
from dicm_jax.whole_files import write_json

_CANDIDATES = 24
"""Of each user: what he was shown, filled up with items that others were shown."""
_BEHAVIORS = 30
_SIZE = (160, 240)
"""Pixels of a photo, at most."""


def write_examples(
    folder: Path, log: ClickLog, kept_N: np.ndarray, *, count: int, photos: bool
) -> None:
    """Writes some groups of the test split, chosen evenly among those with a past and a click.

    Args:
      folder: of the servable.
      log: its log.
      kept_N: which items it knows.
      count: users; none for 0.
      photos: whether photos are copied, where the log has them; else they are drawn.
    """
    split, names = log.test, item_names(log)
    chosen = _chosen(split, count)
    others = np.unique(split.item_B[kept_N[split.item_B]])
    rng = np.random.default_rng(0)
    users = [_user(log, split, group, names, kept_N, others, rng) for group in chosen]
    seen = sorted({name for user in users for name in user["behaviors"] + user["candidates"]})
    place = {name: place for place, name in enumerate(np.array(names, object)[kept_N], start=1)}
    number = {name: number for number, name in enumerate(names)}
    pictures = _pictures(folder, log, {name: (place[name], number[name]) for name in seen}, photos)
    write_json(folder / EXAMPLES, {"users": users, "photos": pictures})


def _chosen(split: GroupedImpressions, count: int) -> list[int]:
    clicks_G = np.add.reduceat(split.click_B, split.impression_offsets[:-1], dtype=np.int64)
    past_G = np.diff(split.behavior_offsets)
    worth = np.flatnonzero((clicks_G > 0) & (past_G >= min(5, past_G.max(initial=0))))
    # One group of a user is enough.
    _, first = np.unique(split.user_G[worth], return_index=True)
    worth = np.sort(worth[first])
    places = np.unique(np.linspace(0, len(worth) - 1, min(count, len(worth))).astype(int))
    return worth[places].tolist()


def _user(
    log: ClickLog,
    split: GroupedImpressions,
    group: int,
    names: list[str],
    kept_N: np.ndarray,
    others: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, Any]:
    past = split.behavior_item_H[slice(*split.behavior_offsets[group : group + 2])]
    at = np.arange(*split.impression_offsets[group : group + 2])
    at = at[kept_N[split.item_B[at]]]
    shown = split.item_B[at]
    spare = np.setdiff1d(others, np.concatenate([shown, past]))
    more = rng.choice(spare, min(len(spare), max(0, _CANDIDATES - len(shown))), replace=False)
    user_names = [field.name for field in log.fields_of("user")]
    return {
        "id": str(group),
        "user": int(split.user_G[group]),
        "fields": dict(zip(user_names, split.user_ids_GF[group].tolist(), strict=True)),
        "behaviors": [names[item] for item in past[kept_N[past]][-_BEHAVIORS:]],
        "candidates": [names[item] for item in [*shown, *more]],
        "clicked": [*(split.click_B[at] == 1).tolist(), *[None] * len(more)],
    }


def _pictures(
    folder: Path, log: ClickLog, items: dict[str, tuple[int, int]], photos: bool
) -> dict[str, str]:
    """Writes a picture of each item that has one; the name of its file by the item's."""
    (folder / PHOTOS).mkdir(exist_ok=True)
    image_N = log.items.image_N
    pictured = {name: (p, int(image_N[n])) for name, (p, n) in items.items()}
    pictured = {name: (p, row) for name, (p, row) in pictured.items() if row != NO_IMAGE}
    look_of = dict(
        zip(pictured, looks(log.features, [row for _, row in pictured.values()]), strict=True)
    )
    made = {}
    for name, (place, row) in tqdm(pictured.items(), desc="pictures", unit="picture"):
        photo = log.photo(row) if photos and log.photo is not None else None
        if photo is None:
            made[name] = f"{place}.svg"
            (folder / PHOTOS / made[name]).write_text(drawing(look_of[name].tolist()))
        else:
            made[name] = f"{place}.jpg"
            (folder / PHOTOS / made[name]).write_bytes(_small(photo))
    return made


def _small(photo: Path) -> bytes:
    with Image.open(photo) as image:
        image.thumbnail(_SIZE)
        file = io.BytesIO()
        image.convert("RGB").save(file, "JPEG", quality=82)
    return file.getvalue()
