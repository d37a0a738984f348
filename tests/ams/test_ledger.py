"""The analytic model gives the paper's Table 2 at the paper's sizes."""

import dataclasses
import math

import pytest

from dicm_jax.ams.ledger import PAPER, STRATEGIES, Sizes, ledger, on_our_wire, wire_bytes
from dicm_jax.errors import ConfigError

MiB, GiB, TiB = 2**20, 2**30, 2**40
MB, TB = 1e6, 1e12
SMALL = Sizes(
    impressions=10,
    images=7,
    ids=5,
    samples=95,
    table_images=20,
    content_width=37,
    embedding_width=4,
    sample_bytes=11,
)


def by_strategy(sizes):
    return {strategy: ledger(sizes, strategy) for strategy in STRATEGIES}


@pytest.mark.parametrize(
    ("strategy", "cell", "part", "printed"),
    [
        ("ps_worker", "worker_storage", "step", 5.1 * GiB),
        ("ps_worker", "worker_storage", "run", 332 * TiB),
        ("ps_worker", "all_traffic", "step", 128 * MiB),
        ("ps_server", "worker_storage", "step", 134 * MB),
        ("ps_server", "worker_storage", "run", 8.8 * TB),
        ("ps_server", "server_storage", "step", 30.3 * MB),
        ("ps_server", "server_storage", "run", 2 * TB),
        ("ps_server", "all_traffic", "step", 5.1 * GiB),
        ("ps_server", "image_traffic", "step", 5.0 * GiB),
        ("ams", "worker_storage", "step", 134 * MB),
        ("ams", "worker_storage", "run", 8.8 * TB),
        ("ams", "server_storage", "step", 30.3 * MB),
        ("ams", "server_storage", "run", 2 * TB),
        ("ams", "all_traffic", "step", 158 * MiB),
        ("ams", "image_traffic", "step", 30 * MiB),
    ],
)
def test_the_papers_table_within_3_percent(strategy, cell, part, printed):
    figure = getattr(ledger(PAPER, strategy), cell)
    assert getattr(figure, part) == pytest.approx(printed, rel=0.03)


def test_what_the_paper_prints_as_nothing_is_nothing():
    ps_worker = ledger(PAPER, "ps_worker")
    assert ps_worker.server_storage.step == ps_worker.server_storage.run == 0
    assert ps_worker.image_traffic.step == ps_worker.image_traffic.run == 0


def test_the_ratios_of_the_papers_text():
    table = by_strategy(PAPER)
    sent = {name: row.all_traffic.step for name, row in table.items()}
    assert sent["ps_server"] / sent["ams"] == pytest.approx(32, rel=0.04)
    # The paper divides a binary figure by a decimal one.
    stored = table["ams"].worker_storage.step + table["ams"].server_storage.step
    assert (table["ps_worker"].worker_storage.step / GiB) / (stored / 1e9) == pytest.approx(
        31, rel=0.03
    )
    images = {name: row.image_traffic.step for name, row in table.items()}
    assert images["ps_server"] / images["ams"] == pytest.approx(4096 / (12 * 2))


def test_every_cell_by_hand_at_small_sizes():
    batches, samples, content, vector = 10, 10 * 11, 37 * 4, 4 * 4
    assert SMALL.batches == batches == math.ceil(95 / 10)
    table = by_strategy(SMALL)
    assert table["ps_worker"].worker_storage.step == samples + 7 * content
    assert table["ps_worker"].all_traffic.run == batches * 5 * vector * 2
    assert table["ps_server"].all_traffic.step == 5 * vector * 2 + 7 * content
    assert table["ams"].all_traffic.step == (5 + 7) * vector * 2
    assert table["ams"].server_storage.run == 20 * content
    assert table["ams"].server_storage.step == 20 * content / batches


def test_our_wires_also_carry_row_numbers():
    """Once, with the pull: the owner remembers them for the push."""
    for wire, vector in (("float32", 48), ("bfloat16", 24), ("int8", 13)):
        assert wire_bytes(wire, 12) == vector
        table = by_strategy(on_our_wire(PAPER, wire))
        assert table["ams"].image_traffic.step == PAPER.images * (2 * vector + 4)
        assert table["ps_server"].image_traffic.step == PAPER.images * (4096 * 4 + 4)
        assert table["ps_worker"].all_traffic.step == PAPER.ids * (2 * vector + 4)


def test_each_figure_says_how_it_counts():
    table = by_strategy(PAPER)
    assert table["ams"].image_traffic.counted == "both ways"
    assert table["ps_server"].image_traffic.counted == "one way"
    assert table["ps_server"].all_traffic.counted == "IDs both ways, images one"
    assert table["ps_worker"].worker_storage.counted == "in every batch"
    assert table["ams"].server_storage.counted == "once, by batches"
    assert table["ams"].image_traffic.binary
    assert not table["ams"].server_storage.binary


POSITIVE = [field.name for field in dataclasses.fields(Sizes) if field.name != "key_bytes"]


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0, -3])
def test_a_size_that_is_not_positive_is_refused(name, value):
    with pytest.raises(ConfigError, match=rf"{name}={value}: every size must be at least 1"):
        dataclasses.replace(SMALL, **{name: value})


def test_other_wrong_sizes_are_refused():
    with pytest.raises(ConfigError, match=r"key_bytes=-1: every size must be at least 0"):
        dataclasses.replace(SMALL, key_bytes=-1)
    with pytest.raises(ConfigError, match=r"samples=9, which is less than .*impressions=10"):
        dataclasses.replace(SMALL, samples=9)


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match=r"'ps'.*choose one of ps_worker, ps_server, ams"):
        ledger(PAPER, "ps")
    with pytest.raises(ConfigError, match=r"'int4'.*choose one of float32, bfloat16, int8"):
        wire_bytes("int4", 12)
