"""Scores of Parquet files: a row is an impression; rows of one user in a run share behaviors.

    item         name of the item shown                             text
    behaviors    names of items clicked before, oldest first        list of text; none if left out
    FIELD        values of user and context fields, by name         integers (keys) or text

Other columns are carried along.
"""

import concurrent.futures
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from dicm_jax.errors import DataError, RequestError
from dicm_jax.serving.ranker import Ranker
from dicm_jax.serving.request import Query, User

ITEM, BEHAVIORS, SCORE = "item", "behaviors", "score"
_ROWS = 8192
"""Rows read and scored at a time."""


def score_file(
    rankers: Sequence[Ranker],
    source: Path,
    output: Path,
    *,
    model: str = "dicm",
    column: str = SCORE,
) -> int:
    """Writes a copy of `source` with a column of scores; the file is there whole, or not at all.

    Args:
      rankers: of one servable, one for each device; parts of the file are scored side by side.
      source: Parquet.
      output: where the copy goes.
      model: that scores.
      column: name of the column of scores.

    Returns:
      Rows written.

    Raises:
      DataError: the file cannot be read, or a column that does not fit.
      RequestError: a row that cannot be scored; names it.
    """
    file = _opened(source)
    schema = file.schema_arrow
    _check(schema, rankers[0], source, column)
    draft = output.with_name(output.name + ".new")
    draft.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    try:
        with (
            pq.ParquetWriter(draft, schema.append(pa.field(column, pa.float32()))) as writer,
            tqdm(total=file.metadata.num_rows, unit="row", unit_scale=True) as bar,
        ):
            for batch, score_B in _scored(rankers, file, source, model):
                writer.write_batch(_with_scores(batch, score_B, column))
                done += len(batch)
                bar.update(len(batch))
        os.replace(draft, output)
    finally:
        draft.unlink(missing_ok=True)
    return done


def _opened(source: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(source)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{source}: no Parquet file ({str(error).splitlines()[0]}); give one with a column"
            f" {ITEM!r}"
        ) from error


def _check(schema: pa.Schema, ranker: Ranker, source: Path, column: str) -> None:
    if ITEM not in schema.names:
        raise DataError(
            f"{source}: no column {ITEM!r}, the names of items shown; it has"
            f" {', '.join(schema.names)}"
        )
    if column in schema.names:
        raise DataError(
            f"{source}: has a column {column!r} already; give the scores another name by --column"
        )
    for name in (ITEM, *_fields(ranker, schema, "user"), *_fields(ranker, schema, "context")):
        kind = schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and (
            name == ITEM or not pa.types.is_integer(kind)
        ):
            wanted = "text" if name == ITEM else "integers or text"
            raise DataError(f"{source}: column {name!r} holds {kind}; give {wanted}")


def _fields(ranker: Ranker, schema: pa.Schema, level: str) -> list[str]:
    return [f.name for f in ranker.servable.fields_of(level) if f.name in schema.names]


def _scored(
    rankers: Sequence[Ranker], file: pq.ParquetFile, source: Path, model: str
) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Batches in order with their scores; as many are at work as there are rankers."""
    first, waiting = 0, deque[tuple[pa.RecordBatch, concurrent.futures.Future[np.ndarray]]]()
    with concurrent.futures.ThreadPoolExecutor(len(rankers)) as pool:
        for number, batch in enumerate(file.iter_batches(batch_size=_ROWS)):
            ranker = rankers[number % len(rankers)]
            waiting.append((batch, pool.submit(_score, ranker, batch, first, source, model)))
            first += len(batch)
            if len(waiting) > len(rankers):
                batch, made = waiting.popleft()
                yield batch, made.result()
        for batch, made in waiting:
            yield batch, made.result()


def _score(
    ranker: Ranker, batch: pa.RecordBatch, first: int, source: Path, model: str
) -> np.ndarray:
    queries = list(_queries(ranker, batch))
    try:
        rankings = ranker.rank_many(queries, model=model)
    except RequestError as error:
        end = first + len(batch)
        raise RequestError(f"{source}, among rows {first} to {end - 1}: {error}") from error
    return np.concatenate([ranking.scores for ranking in rankings])


def _queries(ranker: Ranker, batch: pa.RecordBatch) -> Iterator[Query]:
    """One query for each run of rows with the same user fields and behaviors."""
    columns = batch.to_pydict()
    users = {name: columns[name] for name in _fields(ranker, batch.schema, "user")}
    contexts = {name: columns[name] for name in _fields(ranker, batch.schema, "context")}
    behaviors = columns.get(BEHAVIORS) or [[]] * len(batch)
    for begin, end in _runs(users, behaviors, len(batch)):
        # What is not known of a user is null.
        fields = {name: of[begin] for name, of in users.items() if of[begin] is not None}
        yield Query(
            User(fields, behaviors[begin] or []),
            columns[ITEM][begin:end],
            {name: of[begin:end] for name, of in contexts.items()},
        )


def _runs(
    users: dict[str, list[Any]], behaviors: list[Any], rows: int
) -> Iterator[tuple[int, int]]:
    begin = 0
    for row in range(1, rows + 1):
        same = row < rows and behaviors[row] == behaviors[begin]
        if same and all(of[row] == of[begin] for of in users.values()):
            continue
        yield begin, row
        begin = row


def _with_scores(batch: pa.RecordBatch, score_B: np.ndarray, column: str) -> pa.RecordBatch:
    arrays = [*batch.columns, pa.array(score_B, pa.float32())]
    return pa.RecordBatch.from_arrays(arrays, names=[*batch.schema.names, column])
