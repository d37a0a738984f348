"""``python -m dicm_jax.features``: from photos to a table, however often it is cut short.

Shape legend
    N   rows      D   width of FC6
"""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dicm_jax.features import image_job, unfinished
from dicm_jax.features.__main__ import main
from dicm_jax.features.encoder import Encoder
from dicm_jax.features.image_decoding import decode
from dicm_jax.features.keyed_table import open_keyed_table
from dicm_jax.features.preprocessing import CONVENTIONS
from tests.features import tiny_vgg16
from tests.features.tiny_vgg16 import SHAPE

IMAGES = 45
BAD = {"07": ("empty", b""), "20": ("not an image", b"GIF but not quite")}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """45 photos, two of them bad; not to be changed."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        pixels = rng.integers(0, 256, (9, 11, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    for name, (_, content) in BAD.items():
        (folder / f"{name}.png").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return tiny_vgg16.save(folder, "torchvision.safetensors", tiny_vgg16.parameters())


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(image_job, "_PART", 10)


@pytest.fixture
def command(photos, weights, tmp_path):
    """Runs the command on the photos, with changed or further arguments; gives the exit code."""

    def run(*more: str, output="out") -> int:
        arguments = ["--images", photos, "--weights", weights, "--output", tmp_path / output]
        return main([*map(str, arguments), "--batch-size=8", *more], SHAPE)

    return run


def contents(folder) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_table_holds_the_row_of_every_good_image(command, photos, tmp_path, capsys):
    assert command("--storage=float32") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["rows"] == IMAGES - len(BAD)
    assert result["skipped"] == {"empty": 1, "not an image": 1}
    table = open_keyed_table(tmp_path / "out")
    good = [f"{number:02d}" for number in range(IMAGES) if f"{number:02d}" not in BAD]
    assert table.ids.to_pylist() == good
    assert table.record["settings"]["encoder"] == "VGG16 FC6 after ReLU"
    assert "torchvision: RGB, 0 to 1" in table.files.encoder

    encoder = Encoder(
        SHAPE, tiny_vgg16.parameters(), CONVENTIONS["torchvision"], relu=True, batch_size=64
    )
    pixels = np.zeros((64, SHAPE.image_size, SHAPE.image_size, 3), np.uint8)
    for place, name in enumerate(good):
        pixels[place] = decode(photos / f"{name}.png", SHAPE.image_size)
    rows_ND = np.asarray(encoder(pixels))[: len(good)]
    deviation_D = rows_ND.std(axis=0)
    varies_D = deviation_D > 1e-5
    assert varies_D.sum() >= 5
    stored_ND, _ = table.files.gather(np.arange(len(good)))
    expected_ND = ((rows_ND - rows_ND.mean(axis=0)) / deviation_D.clip(1e-5))[:, varies_D]
    np.testing.assert_allclose(stored_ND[:, varies_D], expected_ND, atol=1e-3)


def test_skipped_files_are_listed(command, tmp_path):
    assert command() == 0
    lines = (tmp_path / "out" / "image.skipped.jsonl").read_text().splitlines()
    listed = [json.loads(line) for line in lines]
    assert {line["id"]: line["reason"] for line in listed} == {
        name: reason for name, (reason, _) in BAD.items()
    }
    assert listed[0]["path"] == "07.png"
    assert "an empty file" in listed[0]["error"]


def test_bad_images_end_the_run_where_asked(command, capsys):
    assert command("--bad-images=fail") == 1
    error = capsys.readouterr().err
    assert "07.png: an empty file" in error
    assert "skip such files with --bad-images=skip" in error
    assert command() == 0  # goes on


def test_images_skipped_earlier_do_not_pass_for_good_ones(command, monkeypatch, capsys):
    cut_in_half(command, monkeypatch)
    assert command("--bad-images=fail") == 1
    assert "an earlier run skipped images, and --bad-images=fail" in capsys.readouterr().err
    assert command() == 0
    assert command("--bad-images=fail") == 1
    assert "image.skipped.jsonl: an earlier run skipped images" in capsys.readouterr().err


@pytest.mark.parametrize("cut", [0, 1, 9, 17, 33, 44])
def test_cut_short_and_run_again_equals_a_straight_run(cut, command, tmp_path, monkeypatch):
    assert command(output="straight") == 0

    class Killed(BaseException):
        pass

    real, encoded = image_job.Encoder.__call__, []

    def encode(self, pixels_BHWC):
        encoded.append(len(pixels_BHWC))
        if sum(encoded) > cut:
            raise Killed
        return real(self, pixels_BHWC)

    with monkeypatch.context() as patched:
        patched.setattr(image_job.Encoder, "__call__", encode)
        with pytest.raises(Killed):
            command()
    # What a kill in the middle of a write leaves behind.
    for name in ("rows.float32", "skipped.jsonl"):
        with (tmp_path / "out" / ".image.unfinished" / name).open("ab") as file:
            file.write(b"half a rec")
    assert not (tmp_path / "out" / "image.json").exists()
    assert command() == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


def test_work_that_is_done_is_not_done_again(command, monkeypatch, tmp_path):
    monkeypatch.setattr(image_job, "_finish", _raise)
    with pytest.raises(ZeroDivisionError):
        command()
    monkeypatch.undo()
    monkeypatch.setattr(image_job.Encoder, "__call__", _raise)
    assert command() == 0
    assert open_keyed_table(tmp_path / "out").files.n_keys == IMAGES - len(BAD)


def _raise(*_, **__):
    raise ZeroDivisionError


def test_finished_table_stays(command, tmp_path, capsys):
    assert command() == 0
    first = capsys.readouterr().out
    before = contents(tmp_path / "out")
    assert command() == 0
    assert json.loads(capsys.readouterr().out)["rows"] == json.loads(first)["rows"]
    assert contents(tmp_path / "out") == before
    assert command("--no-relu") == 1
    error = capsys.readouterr().err
    assert "encoder was 'VGG16 FC6 after ReLU' and is now 'VGG16 FC6 before ReLU'" in error
    assert "give another --output or --content" in error
    assert command("--no-relu", "--content=before") == 0
    assert open_keyed_table(tmp_path / "out", "before").record["rows"] == IMAGES - len(BAD)


def cut_in_half(command, monkeypatch) -> None:
    """Leaves unfinished work of 16 images."""
    real, parts = unfinished.Unfinished.commit, []

    def commit(self, *arguments):
        if parts:
            raise KeyboardInterrupt
        parts.append(arguments)
        real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(unfinished.Unfinished, "commit", commit)
        assert command() == 1


def test_unfinished_work_of_other_settings_is_refused(
    command, photos, tmp_path, monkeypatch, capsys
):
    cut_in_half(command, monkeypatch)
    assert "interrupted: run the same command again to go on" in capsys.readouterr().err
    other = tiny_vgg16.save(tmp_path, "frossard.npz", tiny_vgg16.parameters(1))
    fewer = tmp_path / "fewer.csv"
    fewer.write_text(f"id,path\n1,{photos}/01.png\n")
    for changed, match in (
        ("--no-relu", "encoder was 'VGG16 FC6 after ReLU' and is now"),
        (f"--weights={other}", "weights_crc32 was "),
        (f"--weights={other}", "preprocessing was 'torchvision: RGB"),
        (f"--images={fewer}", "images was 45 and is now 1; list_crc32 was "),
    ):
        assert command(changed) == 1
        error = capsys.readouterr().err
        assert ".image.unfinished: made with other settings: " in error
        assert match in error
        assert "give the former ones to go on with that work, or remove it to begin anew" in error
    assert command("--storage=float32", "--batch-size=16", "--threads=1") == 0  # change no row


def test_damaged_work_is_refused(command, tmp_path, monkeypatch, capsys):
    cut_in_half(command, monkeypatch)
    rows = tmp_path / "out" / ".image.unfinished" / "rows.float32"
    data = rows.read_bytes()
    rows.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert command() == 1
    assert "rows.float32: damaged: its CRC-32 is not the one recorded" in capsys.readouterr().err
    rows.write_bytes(data[:-1])
    assert command() == 1
    assert "rows.float32: truncated: " in capsys.readouterr().err


def test_full_disk_keeps_the_work(command, tmp_path, monkeypatch, capsys):
    real, files = unfinished._append, []

    def append(path, data):
        files.append(path)
        if len(files) > 3:  # in the middle of the second part
            real(path, data[:5])
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(unfinished, "_append", append)
        assert command() == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "what was done before stays: make room" in error
    assert command() == 0
    assert command(output="straight") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


def test_one_process_at_a_time(command, tmp_path, capsys):
    work = tmp_path / "out" / ".image.unfinished"
    work.mkdir(parents=True)
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # even of one that only reads
        assert command() == 1
    assert "another process is at work there" in capsys.readouterr().err


def test_images_that_are_all_bad(command, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.jpg").touch()
    assert command(f"--images={tmp_path / 'bad'}") == 1
    assert "none of 1 images can be decoded: {'empty': 1}" in capsys.readouterr().err


def test_folder_that_may_not_be_written(command, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert command(output="file") == 1
    assert "give an --output with leave to write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--output=o"], "give one of --images and --array"),
        (["--output=o", "--images=a", "--array=b"], "give one of --images and --array"),
        (["--output=o", "--images=a"], "--images wants --weights=FILE"),
        (["--output=o", "--array=a", "--weights=w"], "--weights has no meaning with --array"),
        (["--output=o", "--array=a", "--no-relu"], "--relu has no meaning with --array"),
        (["--output=o", "--images=a", "--weights=w", "--ids=i"], "--ids has no meaning with --ima"),
        (["--output=o", "--array=a", "--content=x/y"], "--content='x/y' is not the name of a file"),
        (["--output=o", "--array=a", "--threads=0"], "'0' is not a whole number of at least 1"),
    ],
)
def test_wrong_usage(arguments, match, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert match in capsys.readouterr().err


def test_module_runs_and_has_an_example(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "dicm_jax.features", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=100)

    shown = run("--help")
    assert shown.returncode == 0
    assert "python -m dicm_jax.features --images=photos --weights=" in shown.stdout
    np.save(tmp_path / "rows.npy", np.eye(3, dtype=np.float32))
    (tmp_path / "ids.txt").write_text("a\nb\nc\n")
    made = run(
        f"--array={tmp_path}/rows.npy", f"--ids={tmp_path}/ids.txt", f"--output={tmp_path}/out"
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout.splitlines()[-1])["rows"] == 3
    assert open_keyed_table(tmp_path / "out").ids.to_pylist() == ["a", "b", "c"]


def test_termination_is_a_stop_after_which_one_can_go_on(command, monkeypatch, capsys):
    real = image_job.Encoder.__call__

    def encode(self, pixels_BHWC):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, pixels_BHWC)

    with monkeypatch.context() as patched:
        patched.setattr(image_job.Encoder, "__call__", encode)
        with pytest.raises(SystemExit) as caught:
            command()
    assert caught.value.code == 75
    assert "stopped: run the same command again to go on" in capsys.readouterr().err
    assert command() == 0
