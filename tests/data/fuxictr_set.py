"""Small sets in the formats that FuxiCTR reads and writes, made for tests."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

USERS, ITEMS, CATEGORIES, WIDTH, LONGEST = 12, 40, 6, 5, 8
Rows = list[dict[str, Any]]

SEQUENCES = {"item_history": "item_id", "cate_history": "cate_id", "skipped": "item_id"}
CATEGORICAL = {"user_id": "user", "age": "user", "item_id": "item", "cate_id": "item"}
CATEGORICAL |= {"pid": "context"}
FEATURE_COLS = [
    {"name": "user_id", "active": True, "dtype": "int", "type": "categorical", "source": "user"},
    {"name": ["age"], "active": True, "dtype": "str", "type": "categorical", "source": "user"},
    {
        "name": ["item_id", "cate_id"],
        "active": True,
        "dtype": "str",
        "type": "categorical",
        "source": "item",
    },
    {"name": "pid", "active": True, "dtype": "str", "type": "categorical", "source": "context"},
    {"name": "hour", "active": False, "dtype": "str", "type": "categorical"},
    {"name": "price", "active": True, "dtype": "float", "type": "numeric", "source": "context"},
    *(
        {
            "name": name,
            "active": True,
            "dtype": "str",
            "type": "sequence",
            "share_embedding": shared,
            "splitter": "^",
            "max_len": LONGEST,
            "padding": "pre",
        }
        for name, shared in SEQUENCES.items()
    ),
]


def item(number: int) -> str:
    return f"B{number:05d}"


def category(number: int) -> str:
    """Of the item; some categories have a single item, so that a test item may be of a new one."""
    return f"cat {number % CATEGORIES if number < 36 else number}"


def rows(split: str, seed: int = 0) -> Rows:
    """Impressions in the order of time; test holds items and users that train lacks."""
    rng = np.random.default_rng([seed, split == "test"])
    users, first, last = (USERS - 3, 0, 30) if split == "train" else (USERS, 10, ITEMS)
    made: Rows = []
    for _ in range(60):
        user = int(rng.integers(users))
        history = rng.integers(first, last, rng.integers(0, LONGEST + 4)).tolist()
        for _ in range(int(rng.integers(1, 4))):
            shown = int(rng.integers(first, last))
            made.append(
                {
                    "label": int(rng.random() < 0.4),
                    "user_id": user,
                    "age": f"{20 + user % 5}",
                    "item_id": item(shown),
                    "cate_id": category(shown),
                    "pid": f"430539_{rng.integers(1007, 1010)}",
                    "hour": str(rng.integers(24)),
                    "price": round(float(rng.lognormal()), 2) if rng.random() > 0.1 else None,
                    "item_history": [item(number) for number in history],
                    "cate_history": [category(number) for number in history],
                    "skipped": [item(int(n)) for n in rng.integers(first, last, 2)],
                }
            )
    return made


def write_raw(folder: Path, suffix: str = ".csv", **changes: Any) -> Path:
    """Both splits as published, with ``dataset_config.yaml``; `changes` go into the dataset."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "test"):
        write_split(folder, split, rows(split), suffix)
    dataset = {
        "data_root": "../data/",
        "data_format": suffix[1:],
        "train_data": f"../data/{folder.name}/train{suffix}",
        "min_categr_count": 1,
        "feature_cols": FEATURE_COLS,
        "label_col": {"name": "label", "dtype": "float"},
    }
    (folder / "dataset_config.yaml").write_text(yaml.safe_dump({"tiny": dataset | changes}))
    write_content(folder)
    return folder


def write_split(folder: Path, split: str, split_rows: Rows, suffix: str) -> None:
    path = folder / f"{split}{suffix}"
    if suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(split_rows[0])
            for row in split_rows:
                writer.writerow(
                    "^".join(map(str, v)) if isinstance(v, list) else v for v in row.values()
                )
    elif suffix == ".npz":
        columns: dict[str, Any] = {
            n: np.array([row[n] for row in split_rows]) for n in split_rows[0]
        }
        np.savez(path, **columns)
    else:
        pq.write_table(pa.Table.from_pylist(split_rows), path)


def vocabularies() -> dict[str, dict[str, int]]:
    """Counted in train as FuxiCTR counts: padding 0, falling frequency, unknown last."""
    train = rows("train")
    found = {}
    for name in CATEGORICAL:
        counts = Counter(str(row[name]) for row in train)
        for sequence, shared in SEQUENCES.items():
            if shared == name:
                counts.update(text for row in train for text in row[sequence])
        texts = [text for text, _ in counts.most_common()]
        found[name] = {"__PAD__": 0} | {text: at for at, text in enumerate(texts, 1)}
        found[name]["__OOV__"] = len(found[name])
    return found


def encode(split_rows: Rows) -> Rows:
    """The rows as FuxiCTR writes them: keys, and sequences padded on the left to one length."""
    known = vocabularies()
    encoded = []
    for row in split_rows:
        made: dict[str, Any] = {
            name: known[name].get(str(row[name]), len(known[name]) - 1) for name in CATEGORICAL
        }
        made["price"] = float("nan") if row["price"] is None else row["price"]
        for sequence, shared in SEQUENCES.items():
            vocabulary = known[shared]
            keys = [vocabulary.get(text, len(vocabulary) - 1) for text in row[sequence]][-LONGEST:]
            made[sequence] = [0] * (LONGEST - len(keys)) + keys
        encoded.append(made | {"label": float(row["label"])})
    return encoded


def feature_map(**changes: Any) -> dict[str, Any]:
    """As FuxiCTR saves it; `changes` replace the settings of a feature, None leaves it out."""
    known = vocabularies()
    features: dict[str, Any] = {
        name: {
            "source": source,
            "type": "categorical",
            "padding_idx": 0,
            "vocab_size": len(known[name]),
        }
        for name, source in CATEGORICAL.items()
    }
    features["price"] = {"source": "context", "type": "numeric"}
    for name, shared in SEQUENCES.items():
        features[name] = {
            "source": "",
            "type": "sequence",
            "feature_encoder": "layers.MaskedAveragePooling()",
            "share_embedding": shared,
            "padding_idx": 0,
            "max_len": LONGEST,
            "vocab_size": len(known[shared]),
        }
    features |= changes
    return {
        "dataset_id": "tiny",
        "num_fields": len(features),
        "total_features": 1,
        "input_length": 1,
        "labels": ["label"],
        "features": [{name: spec} for name, spec in features.items() if spec is not None],
    }


def write_encoded(folder: Path, suffix: str = ".parquet", **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for split in ("train", "test"):
        write_split(folder, split, encode(rows(split)), suffix)
    (folder / "feature_map.json").write_text(json.dumps(feature_map(**changes), indent=4))
    (folder / "feature_vocab.json").write_text(json.dumps(vocabularies(), indent=4))
    write_content(folder)
    return folder


def write_content(folder: Path, **changes: Any) -> None:
    """A row for every item but the first, in another order, as ``key`` and ``value``."""
    order = np.random.default_rng(3).permutation(np.arange(1, ITEMS))
    parts: dict[str, Any] = {"key": np.array([item(int(number)) for number in order])}
    parts |= {"value": content_rows()[order]} | changes
    np.savez(folder / "item_visual_emb.npz", **parts)


def content_rows() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(ITEMS, WIDTH))
