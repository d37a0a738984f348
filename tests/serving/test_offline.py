"""Scores of Parquet files: those of the ranker, row by row, or an error and no file."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dicm_jax.errors import DataError, RequestError
from dicm_jax.serving import User, offline
from dicm_jax.serving.offline import score_file
from tests.serving import made


@pytest.fixture(scope="module")
def table(queries):
    """One row an impression of the example users, with a column that nobody knows."""
    rows = [
        {"item": item, "behaviors": list(query.user.behaviors), **query.user.fields, "note": str(n)}
        for n, query in enumerate(queries)
        for item in query.candidates
    ]
    return pa.Table.from_pylist(rows)


@pytest.fixture
def source(table, tmp_path):
    pq.write_table(table, tmp_path / "shown.parquet")
    return tmp_path / "shown.parquet"


def altered(source, table):
    pq.write_table(table, source)
    return source


def test_scores_are_those_of_the_ranker(ranker, queries, table, source, tmp_path, monkeypatch):
    # Batches that cut users in two: a run of rows is one query on each side.
    monkeypatch.setattr(offline, "_ROWS", 37)
    rows = score_file([ranker, ranker], source, tmp_path / "scored.parquet")
    scored = pq.read_table(tmp_path / "scored.parquet")
    expected = np.concatenate([ranker.rank(q.user, q.candidates).scores for q in queries])
    assert rows == len(expected) == len(scored)
    np.testing.assert_allclose(scored["score"].to_numpy(), expected, atol=1e-6)
    assert scored.drop_columns("score").equals(table)


def test_users_of_whom_little_is_known(ranker, table, source, tmp_path):
    """Null is unknown, of a field and of behaviors; columns may be left out."""
    item = table["item"][0].as_py()
    few = pa.table(
        {
            "item": [item, item],
            "gender": pa.array([None, 1], pa.int32()),
            "behaviors": pa.array([None, []], pa.list_(pa.string())),
        }
    )
    score_file([ranker], altered(source, few), tmp_path / "out.parquet", column="p")
    found = pq.read_table(tmp_path / "out.parquet")["p"].to_pylist()
    expected = [ranker.rank(user, [item]).scores[0] for user in (User(), User({"gender": 1}))]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_row_that_cannot_be_scored(ranker, table, source, tmp_path):
    items = table["item"].to_pylist()
    items[5] = "no such item"
    bad = table.set_column(0, "item", pa.array(items))
    with pytest.raises(RequestError, match=r"among rows 0 to .*'no such item'"):
        score_file([ranker], altered(source, bad), tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop_columns("item"), r"no column 'item'.* it has behaviors"),
        (lambda t: t.append_column("score", t["note"]), r"a column 'score' already.*--column"),
        (lambda t: t.set_column(0, "item", [[1] * len(t)]), "'item' holds int64; give text"),
        (
            lambda t: t.set_column(t.schema.get_field_index("gender"), "gender", [[0.5] * len(t)]),
            "'gender' holds double; give integers or text",
        ),
    ],
)
def test_columns_that_do_not_fit(ranker, table, source, tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        score_file([ranker], altered(source, change(table)), tmp_path / "out.parquet")


def test_no_parquet(ranker, tmp_path):
    (tmp_path / "shown.parquet").write_text("item\n1\n")
    with pytest.raises(DataError, match="no Parquet file"):
        score_file([ranker], tmp_path / "shown.parquet", tmp_path / "out.parquet")


def test_the_command(servable, table, source, tmp_path, monkeypatch):
    """Two devices, each with every other part of the file."""
    monkeypatch.setattr(made, "_QUICK", made._QUICK | {"JAX_NUM_CPU_DEVICES": "2"})
    output = tmp_path / "out.parquet"
    line = made.command(
        "score", f"--servable={servable}", f"--input={source}", f"--output={output}"
    )
    out, _ = made.ended(made.start(line))
    result = json.loads(out.splitlines()[-1])
    assert (result["rows"], result["devices"]) == (len(table), 2)
    assert "score" in pq.read_schema(output).names


def test_the_command_fails_with_one_message(servable, tmp_path):
    line = made.command(
        "score", f"--servable={servable}", f"--input={tmp_path / 'none'}", f"--output={tmp_path}/o"
    )
    process = made.start(line)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert [row for row in err.splitlines() if row.startswith("error: ")]
    assert "Traceback" not in err
