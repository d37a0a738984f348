"""The service as a process: from its start to its end, by its command line."""

import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.serving import made
from tests.serving.versions import publish

RANK = {"user": {"behaviors": ["3"]}, "candidates": ["1", "2"]}
PATIENCE_S = 90


@pytest.fixture(name="versions")
def _versions(servable, tmp_path) -> Path:
    return shutil.copytree(servable, tmp_path / "servable")


def _until(done, what: str):
    """What `done` returns, once it is true."""
    end = time.monotonic() + PATIENCE_S
    while not (found := done()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)
    return found


def test_a_service_from_start_to_end(versions, tmp_path):
    log = tmp_path / "log"
    arguments = [f"--servable={versions}", "--port=0", "--reload-every=0.1", "--room=20"]
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            made.command("serve", *arguments),
            cwd=made.ROOT,
            env=made.environment(),
            stderr=stderr,
        ) as process,
    ):
        try:
            said = r"listening at http://127.0.0.1:(\d+)"
            _until(lambda: process.poll() is not None or re.search(said, log.read_text()), "a port")
            port = re.search(said, log.read_text())
            assert port, log.read_text()
            with httpx.Client(base_url=f"http://127.0.0.1:{port[1]}", timeout=60) as client:
                _live(client, versions, log)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert "Traceback" not in log.read_text()


def _live(client: httpx.Client, versions: Path, log: Path) -> None:
    def ready() -> str:
        answer = client.get("/readyz")
        assert answer.status_code in (200, 503)
        return answer.json().get("version", "")

    _until(ready, "a service that is ready")
    first = client.post("/v1/rank", json=RANK).json()
    assert first["version"] == "servable/1"
    added = {"items": [{"name": "new", "features": {"image": [0.5] * 37}}]}
    assert client.post("/v1/items", json=added).status_code == 200

    publish(versions, 2, scale=3.0)
    asked = []

    def taken_up() -> bool:
        asked.append(client.post("/v1/rank", json=RANK | {"candidates": ["1", "2", "new"]}))
        return asked[-1].json()["version"] == "servable/2"

    _until(taken_up, "version 2")
    assert {answer.status_code for answer in asked} == {200}
    assert asked[-1].json()["scores"][:2] != pytest.approx(first["scores"], abs=1e-4)

    # Version 3 is on its way: one of its files is not there yet.
    whole = publish(versions.parent / "servable", 3)
    hidden = (whole / "items.jsonl").rename(versions.parent / "items.jsonl")
    _until(lambda: "items.jsonl is missing" in log.read_text(), "a refusal")
    assert "servable/2 goes on" in log.read_text().replace(str(versions), "servable")
    assert client.post("/v1/rank", json=RANK).json()["version"] == "servable/2"
    assert 'dicm_reloads_total{outcome="refused"}' in client.get("/metrics").text
    hidden.rename(whole / "items.jsonl")
    _until(lambda: ready() == "servable/3", "version 3")


def test_mistakes_end_with_one_message(versions, tmp_path):
    (tmp_path / "empty").mkdir()
    (versions / "1" / "items.jsonl").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        processes = {
            "servable: no servable in it: give the folder": [f"--servable={tmp_path / 'empty'}"],
            f"--port={port}: cannot be listened at": [f"--servable={versions}", f"--port={port}"],
            "items.jsonl has 0 bytes, its manifest says": [f"--servable={versions}", "--port=0"],
        }
        started = [made.start(made.command("serve", *line)) for line in processes.values()]
        for words, process in zip(processes, started, strict=True):
            with process:
                try:
                    _, err = process.communicate(timeout=PATIENCE_S)
                finally:
                    process.kill()
            assert process.returncode == 1, err
            errors = [line for line in err.splitlines() if "error: " in line]
            assert len(errors) == 1, err
            assert words.removeprefix("servable: ") in errors[0]
            assert "Traceback" not in err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["--port=70000"], "--port=70000: give one of 0 to 65535"),
        (["--room=-1"], "--room: give 0 or more"),
        (["--waiting=0"], "--waiting and --timeout: give more than 0"),
        (["--timeout=nan"], "--waiting and --timeout: give more than 0"),
        (["--reload-every=-1"], "--reload-every: give 0 or more"),
        (["--reload-every=nan"], "--reload-every: give 0 or more"),
    ],
)
def test_wrong_usage(capsys, line, words):
    from dicm_jax.serve import parse

    with pytest.raises(SystemExit) as ended:
        parse(["--servable=x", *line])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
