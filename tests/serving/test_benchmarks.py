"""The benchmarks of serving, at their smallest: they end with their JSON line; nothing fails."""

import json

import pytest

from benchmarks import served_scores, serving, serving_soak
from tests.serving import made


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The services that benchmarks start compile quickly."""
    for name, value in made._QUICK.items():
        monkeypatch.setenv(name, value)


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_serving(servable, capsys):
    sizes = ["--candidates=20", "--behaviors=5", "--clients", "1", "2"]
    brief = ["--rounds=1", "--seconds=0.2", "--starts=0"]
    serving.main([f"--servable={servable}", *sizes, *brief])
    found = last_line(capsys)
    assert found["ratio"] > 0
    assert set(found["dicm_to_baseline"]) == {"1", "2"}
    assert len(found["seconds_to_ready"]["compiling"]) == 1


def test_soak(servable, capsys):
    brief = ["--minutes=0.1", "--rate=20", "--reload-every=1.5"]
    serving_soak.main([f"--servable={servable}", *brief])
    found = last_line(capsys)
    assert found["ratio"] == 1.0, found["statuses"]
    assert found["broken_answered_wrongly"] == {}
    assert found["published_broken"] >= 1
    assert found["broken_requests"] > 10


def test_served_scores(runs, servable, capsys):
    served_scores.main([f"--workdir={runs.dicm}", f"--servable={servable}"])
    found = last_line(capsys)
    assert found["largest_difference"] < 1e-5
    assert found["gauc"]["served"] == pytest.approx(found["gauc"]["evaluated"], abs=1e-6)


@pytest.mark.parametrize("benchmark", [serving, serving_soak])
def test_sizes_that_make_no_benchmark(benchmark, capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(
            ["--servable=x", "--seconds=0"]
            if benchmark is serving
            else ["--servable=x", "--minutes=0"]
        )
    assert "above 0" in capsys.readouterr().err
