"""Mistakes and broken disks: one message each, nothing left behind, the source untouched."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoint.surgery import made
from tests.checkpoint.surgery.made import run, told

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", name="source")
def _source(tmp_path_factory):
    return made.save(tmp_path_factory.mktemp("source"), made.state())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(autouse=True)
def _source_stays(source):
    """Whatever a test does, the source has the same bytes after it."""
    before = files_of(source)
    yield
    assert files_of(source) == before


def fails(capsys, message: str, *arguments: object) -> None:
    """The command ends with exit code 1 and one line that matches."""
    assert run(*arguments) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert re.search(message, line), line


def test_no_checkpoint(tmp_path, capsys):
    out = f"--output={tmp_path / 'out'}"
    wanted = "no finished checkpoint in .*nothing; name the folder of a run of python -m dicm_jax"
    fails(capsys, wanted, "drop", tmp_path / "nothing", "ids.*", out)
    (tmp_path / "5.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    fails(capsys, "no finished checkpoint in", "inspect", tmp_path)
    assert not (tmp_path / "out").exists()


def test_an_output_that_exists(source, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    for command, *arguments in (("drop", "ids.*"), ("to-safetensors",)):
        fails(
            capsys,
            r"--output=.*out exists, and nothing is ever changed in place; name a new folder",
            *(command, source, *arguments, f"--output={tmp_path / 'out'}"),
        )
    fails(capsys, "exists, and nothing", "drop", source, "ids.*", f"--output={source}")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("ids.rwo", "the nearest are ids.row"),
        ("params.net.kernl", "the nearest are params.net.kernel"),
        ("zzzz*", "the first are dense_optimizer.embedders.0, dense_optimizer.net.0.mu, ids.mu"),
    ],
)
@pytest.mark.parametrize("command", ["drop", "extract"])
def test_a_pattern_that_means_nothing(source, tmp_path, capsys, command, pattern, near):
    wanted = rf"'{re.escape(pattern)}' means none of the 10 arrays: {near}.*inspect lists them"
    fails(capsys, wanted, command, source, "step", pattern, f"--output={tmp_path / 'out'}")
    assert not list(tmp_path.iterdir())


def test_nothing_left(source, tmp_path, capsys):
    wanted = "nothing to write to --output=.*: no array of the run is left; choose fewer"
    fails(capsys, wanted, "drop", source, "*", f"--output={tmp_path / 'out'}")
    assert not list(tmp_path.iterdir())


def damaged(source: Path, tmp_path: Path, part: str) -> Path:
    """A copy of the checkpoint with a bit flipped in its largest file below `part`."""
    copy = tmp_path / "damaged"
    subprocess.run(["cp", "-r", source, copy], check=True)
    victims = [path for path in (copy / "5" / part).rglob("*") if path.is_file()]
    victim = max(victims, key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 4
    victim.write_bytes(data)
    return copy


@pytest.mark.parametrize("part", ["state", "record", "."])
def test_an_altered_file_is_found_before_anything_is_done(source, tmp_path, capsys, part):
    copy = damaged(source, tmp_path, part)
    for command, *arguments in (("verify",), ("drop", "ids.*"), ("inspect",)):
        output = [f"--output={tmp_path / 'out'}"] if command == "drop" else []
        wanted = r"damaged/5: .* was altered since it was written.*--no-verify leaves this check"
        fails(capsys, wanted, command, copy, *arguments, *output)
    assert not (tmp_path / "out").exists()


def test_what_the_check_leaves_out_reading_may_find(source, tmp_path, capsys):
    """Not every flipped bit can be told without the manifest; one in packed numbers can."""
    copy = tmp_path / "cut"
    subprocess.run(["cp", "-r", source, copy], check=True)
    for path in (copy / "5" / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    wanted = "cannot be read|not the arrays of a checkpoint"
    out = f"--output={tmp_path / 'out'}"
    fails(capsys, wanted, "cast", copy, "ids.*=float16", out, "--no-verify")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut"]


def test_a_checkpoint_without_a_manifest(source, tmp_path, capsys):
    copy = tmp_path / "bare"
    subprocess.run(["cp", "-r", source, copy], check=True)
    (copy / "5" / "manifest.json").unlink()
    fails(capsys, "no manifest.json in it.*--no-verify leaves this check", "inspect", copy)
    said = told(capsys, "inspect", copy, "--no-verify", "--json")
    assert said["manifest_crc32"] is None


def test_a_folder_of_another_kind(source, tmp_path, capsys):
    (tmp_path / "5" / "state").mkdir(parents=True)
    fails(capsys, "not the arrays of a checkpoint", "inspect", tmp_path, "--no-verify")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", source, copy], check=True)
    record = copy / "5" / "record" / "metadata"
    record.write_text("{")
    fails(capsys, "record of the checkpoint cannot be read", "inspect", copy, "--no-verify")
    record.write_text("[]")
    fails(capsys, "does not say its step", "inspect", copy, "--no-verify")


def test_no_leave_to_write(source, tmp_path, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("this process may write anywhere, as root does: run it without capabilities")
    output = f"--output={tmp_path / 'closed' / 'out'}"
    fails(capsys, "cannot be written .*Permission denied", "drop", source, "ids.*", output)


def test_a_place_that_cannot_be_written(source, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    output = f"--output={tmp_path / 'file' / 'out'}"
    wanted = r"--output=.* cannot be written \(.*Not a directory.*see to room on the disk"
    fails(capsys, wanted, "drop", source, "ids.*", output)


@pytest.mark.parametrize("command", ["drop", "to-safetensors"])
def test_a_full_disk(source, tmp_path, command):
    arguments = ["ids.mu"] if command == "drop" else []
    surgery = [sys.executable, "-m", "dicm_jax.surgery", command, source, *arguments]
    limited = ["sh", "-c", 'ulimit -f 20 && exec "$@"', "sh"]  # half a KiB each, or a whole
    done = subprocess.run(
        [*limited, *surgery, f"--output={tmp_path / 'out'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert re.search(r"error: .*cannot be written \(.*see to room on the disk", done.stderr)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_kill_leaves_nothing_that_looks_finished_and_the_next_run_clears_it(
    source, tmp_path, capsys
):
    slow = (
        "import time; from dicm_jax.checkpoint.surgery.stored import Stored;"
        "Stored.read = lambda self, region: (print('at work', flush=True), time.sleep(60));"
        "from dicm_jax import surgery; surgery.main()"
    )
    output = tmp_path / "out"
    command = [sys.executable, "-c", slow, "drop", str(source), "ids.mu", f"--output={output}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        fails(
            capsys, "another process is at work there", "drop", source, "step", f"--output={output}"
        )
        process.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == [".out.unfinished"]
    fails(capsys, "no finished checkpoint", "inspect", tmp_path)
    told(capsys, "drop", source, "ids.mu", f"--output={output}")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_ctrl_c_leaves_nothing(source, tmp_path, monkeypatch, capsys):
    from dicm_jax.checkpoint.surgery.stored import Stored

    def interrupted(self, region):
        raise KeyboardInterrupt

    monkeypatch.setattr(Stored, "read", interrupted)
    assert run("drop", source, "ids.mu", f"--output={tmp_path / 'out'}") == 1
    assert "interrupted" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["", "inspect", "resize", "to-safetensors", "diff"])
def test_help_has_an_example(capsys, command):
    assert run(*([command] if command else []), "--help") == 0
    assert "python -m dicm_jax.surgery " in capsys.readouterr().out.split("example")[1]


def test_merge_of_one(source, tmp_path, capsys):
    wanted = "merge of .* alone: give two checkpoints or more"
    fails(capsys, wanted, "merge", source, f"--output={tmp_path / 'out'}")
