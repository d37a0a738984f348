"""The set that Apache Beam makes is, to the byte, the one that threads make; so are the errors."""

import dataclasses
import shutil
import sys

import pytest

from dicm_jax.errors import ConfigError, DataError
from dicm_jax.preparation import beam, beam_pipelines, local
from dicm_jax.preparation.config import RunnerConfig
from tests.preparation import made, small_log
from tests.preparation.small_log import DAY

DWELL = {"behaviors__dwell": "dwell", "history__min_dwell_s": 2.0}
CASES = {
    "all tables": ("parquet", {}, DWELL),
    "of text": ("csv", {}, DWELL),
    "clicks are behaviors": ("csv.gz", {"behaviors": None}, {"period_s": DAY}),
    "hashed": (
        "parquet",
        {},
        {"ids__hashed": ("user", "item", "page", "city"), "ids__buckets": 977},
    ),
}


@pytest.fixture(name="config_of")
def _config_of(tmp_path, features):
    """Settings for a log in several files, with several of everything else."""

    def config_of(*, kind="parquet", tables=None, **settings):
        rows = small_log.tables(3, **(tables or {}))
        folder = tmp_path / "log"
        small_log.write(rows, folder, kind=kind, files=2, row_group=40)
        sizes = {"runner__chunk_rows": 30, "runner__partition_rows": 50}
        return small_log.config(folder, features, **sizes | settings)

    return config_of


@pytest.mark.parametrize("case", CASES)
def test_equals_the_local_engine_to_the_byte(tmp_path, config_of, case):
    kind, tables, settings = CASES[case]
    config = config_of(kind=kind, tables=tables, **settings)
    of_threads = local.prepare(config, tmp_path / "threads")
    of_beam = beam.prepare(config, tmp_path / "beam", [])
    assert of_beam == of_threads
    assert len(of_beam.splits["train"]) > 2  # several buckets
    assert small_log.contents(tmp_path / "beam") == small_log.contents(tmp_path / "threads")
    assert not list(tmp_path.glob(".*"))


def test_neither_partitions_nor_workers_show(tmp_path, config_of):
    config = config_of(runner__partition_rows=25, runner__chunk_rows=9)
    beam.prepare(config, tmp_path / "many", [])
    one = dataclasses.replace(config, runner=RunnerConfig())
    threads = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]
    beam.prepare(one, tmp_path / "one", threads)
    # The record counts rows before the row above, as far as both are in one chunk.
    many, one = (
        small_log.contents(tmp_path / name, but=["prepared.json"]) for name in ("many", "one")
    )
    assert many == one


def test_an_error_in_a_worker_is_the_error_of_one_machine(tmp_path, config_of, caplog):
    end = small_log.START + 39 * DAY
    config = config_of(policy__now=small_log.iso(end), runner__chunk_rows=10**6)
    late = [row for row in small_log.tables(3).impressions if row["time"] > end]
    assert late
    for engine in (local, beam):
        with pytest.raises(DataError) as caught:
            _prepare(engine, config, tmp_path / "set")
        shutil.rmtree(tmp_path / ".set.unfinished")
        assert str(caught.value).startswith(f"{tmp_path / 'log'}")
        assert str(caught.value).endswith("or set policy.future='drop' to count them and go on")
        assert not (tmp_path / "set").exists()
    assert "Traceback" not in caplog.text


def test_without_a_runner_nothing_is_fetched():
    """DirectRunner would look for Prism on the network."""
    assert beam_pipelines.options_of([]).get_all_options()["runner"] == "FnApiRunner"
    assert beam_pipelines.options_of(["--runner=X"]).get_all_options()["runner"] == "X"


def test_over_the_job_service_that_clusters_have(tmp_path, config_of):
    """Flink and Spark are reached by the same runner, with another address."""
    options = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"]
    config = config_of()
    beam.prepare(config, tmp_path / "set", options)
    local.prepare(config, tmp_path / "threads")
    assert small_log.contents(tmp_path / "set") == small_log.contents(tmp_path / "threads")
    early = dataclasses.replace(config.policy, now=small_log.iso(small_log.START + 39 * DAY))
    with pytest.raises(DataError, match=r"row \d+: time is .* count them and go on$"):
        beam.prepare(dataclasses.replace(config, policy=early), tmp_path / "no set", options)


def test_another_preparation_in_its_place_is_left_alone(tmp_path, config_of, monkeypatch):
    monkeypatch.setattr(beam_pipelines, "scan_tables", _interrupted)
    config = config_of()
    with pytest.raises(KeyboardInterrupt):
        beam.prepare(config, tmp_path / "set", [])
    other = dataclasses.replace(config, period_s=60)
    with pytest.raises(DataError, match="period_s was 1, now it is 60; finish that one"):
        beam.prepare(other, tmp_path / "set", [])


def test_a_table_that_cannot_be_read_is_named(tmp_path, config_of):
    config = config_of(kind="csv")
    file = tmp_path / "log" / "impressions" / "part-001.csv"
    file.write_bytes(file.read_bytes() + b"one,two\n")
    with pytest.raises(DataError, match=r"part-001\.csv: cannot be read .* damaged"):
        beam.prepare(config, tmp_path / "beam", [])


def test_goes_on_after_a_stop(tmp_path, config_of, monkeypatch):
    config = config_of()
    local.prepare(config, tmp_path / "threads")

    with monkeypatch.context() as at_groups:
        at_groups.setattr(beam_pipelines, "make_groups", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            beam.prepare(config, tmp_path / "beam", [])
    monkeypatch.setattr(beam_pipelines, "scan_tables", _interrupted)  # it is not done again
    with monkeypatch.context() as at_the_end:
        at_the_end.setattr(beam, "finished", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            beam.prepare(config, tmp_path / "beam", [])
        work = tmp_path / ".beam.unfinished" / "work"
        (work / "groups.json").unlink()  # as if stopped before the last record
        first, *others = sorted((work / "write").glob("*.array_record"))
        inode = first.stat().st_ino
        others[0].with_suffix(".json").unlink()  # as if stopped within a bucket
        with pytest.raises(KeyboardInterrupt):
            beam.prepare(config, tmp_path / "beam", [])
        assert first.stat().st_ino == inode
    assert not (tmp_path / "beam").exists()
    monkeypatch.setattr(beam_pipelines, "make_groups", _interrupted)  # nor is this
    beam.prepare(config, tmp_path / "beam", [])
    assert small_log.contents(tmp_path / "beam") == small_log.contents(tmp_path / "threads")
    assert made.read(tmp_path / "beam").train.n_groups > 0


def test_one_engine_goes_on_where_another_stopped(tmp_path, config_of, monkeypatch):
    config = config_of()
    local.prepare(config, tmp_path / "threads")
    for first, second in ((beam, local), (local, beam)):
        with monkeypatch.context() as at_the_end:
            at_the_end.setattr(first, "finished", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                _prepare(first, config, tmp_path / "set")
        _prepare(second, config, tmp_path / "set")
        assert small_log.contents(tmp_path / "set") == small_log.contents(tmp_path / "threads")
        shutil.rmtree(tmp_path / "set")


def _prepare(engine, config, folder):
    return engine.prepare(config, folder, *([[]] if engine is beam else []))


def _interrupted(*_):
    raise KeyboardInterrupt


def test_workers_that_write_elsewhere_are_noticed(tmp_path, config_of, monkeypatch):
    monkeypatch.setattr(beam_pipelines, "scan_tables", lambda *_: None)
    with pytest.raises(DataError, match="give --output a folder of a shared file system"):
        beam.prepare(config_of(), tmp_path / "beam", [])


def test_without_beam_it_says_what_to_install(tmp_path, config_of, monkeypatch):
    monkeypatch.delitem(sys.modules, "dicm_jax.preparation.beam_pipelines")
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ConfigError, match=r"pip install 'dicm-jax\[beam\]'"):
        beam.prepare(config_of(), tmp_path / "beam", [])


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--runner=NoRunner", "--runner=NoRunner failed: Unexpected pipeline runner: NoRunner"),
        ("--direct_num_workers=x", "Beam refuses it: .*--direct_num_workers.*invalid int"),
        ("--runner=DataflowRunner", "Missing required option: project"),
    ],
)
def test_options_that_beam_refuses(tmp_path, config_of, option, says):
    with pytest.raises(ConfigError, match=says):
        beam.prepare(config_of(), tmp_path / "beam", [option])
