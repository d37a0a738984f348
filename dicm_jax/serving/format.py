"""What a servable's files are called, and how its tables are laid out. No JAX, no training code.

    servable.json             signature: fields, vocabularies, models, sizes; sealed
    MODEL_CARD.md             what it is, how good it is, what it was made from
    catalogue.safetensors     what is known of every item: ID rows, content rows, context
    items.jsonl               names of the items in the catalogue's order, a JSON string a line
    vocabularies/NAME.jsonl   the IDs that a vocabulary's keys stand for, where they are known
    models/NAME/              one folder a model: tables.safetensors, compressors.safetensors,
                              and its programs, NAME.stablehlo
    examples.json, photos/    users of the log to look at, where they were asked for
    manifest.json             every file with its length and CRC-32, written last

Numbers in tables are *places*: place 0 of every table is that of nothing (zeros), so that padding
needs no mask and what is unknown counts as nothing.

    ID rows       0 nothing, 1 + key
    items         0 no item, 1 + number in `items.jsonl`
    vectors       0 nothing, 1 an ad without this content, 2 a behavior without it, 3 + content row
"""

from dicm_jax.errors import ServableError
from dicm_jax.manifest import Manifest

NAME = "servable.json"
FORMAT, VERSION = "dicm_jax servable", 1
CARD, CATALOGUE, ITEMS = "MODEL_CARD.md", "catalogue.safetensors", "items.jsonl"
VOCABULARIES, MODELS, PHOTOS, EXAMPLES = "vocabularies", "models", "photos", "examples.json"
TABLES, COMPRESSORS, PROGRAM = "tables.safetensors", "compressors.safetensors", ".stablehlo"


def is_weight(name: str) -> bool:
    """Whether an array of a model is one of its network's, and not a table of rows."""
    return "/" in name


DICM, BASELINE, PRERANK = "dicm", "baseline", "prerank"
"""Models of a servable: with images, without them, and the one that pre-ranks."""

INDEX = "index"
"""Among the tables of a Pre-rank model: the vectors of all items, without places of nothing."""

RANK, RANK_MANY, ATTENTION = "rank", "rank_many", "attention"
"""Programs of a model that ranks: for one user, for several, and what his behaviors count."""
USER, ITEM, EMBED = "user", "item", "embed"
"""Programs of a model that pre-ranks; those of compressors are called ``embed_NAME``."""

ID_ROWS, NO_ITEM, MISSING_AD, MISSING_BEHAVIOR, VECTORS = 1, 0, 1, 2, 3
"""First place of ID rows; places of no item, of missing content; first place of vectors."""

MANIFEST = Manifest(
    format="dicm_jax servable files",
    version=1,
    what="a whole servable",
    remedy="export it again with python -m dicm_jax.export, or serve an older version",
    error=ServableError,
)
