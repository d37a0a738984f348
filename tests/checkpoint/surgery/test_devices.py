"""Checkpoints that several devices, or several processes, have saved are cut like any other."""

import jax
import pytest

from tests.checkpoint.surgery import made
from tests.checkpoint.surgery.made import arrays, assert_same_bits, told
from tests.checkpoint.surgery.two_processes import laid_out
from tests.multiprocess.processes import start


@pytest.fixture(scope="module", name="alone")
def _alone(tmp_path_factory):
    """Of one device."""
    return made.save(tmp_path_factory.mktemp("alone"), made.state())


@pytest.fixture(scope="module", name="sources")
def _sources(tmp_path_factory):
    """Of eight devices, and of two processes with two devices each."""
    folder = tmp_path_factory.mktemp("sources")
    made.save(folder / "eight", laid_out(made.state(), jax.devices()))
    command = ["-m", "tests.checkpoint.surgery.two_processes", str(folder / "two")]
    for process in start([command] * 2, 2):
        assert process.code == 0, process.err[-3000:]
    return folder


@pytest.mark.parametrize("place", ["eight", "two"])
def test_every_command_gives_what_it_gives_of_one_device(alone, sources, tmp_path, capsys, place):
    source = sources / place
    assert len(list((made.step_of(source) / "state").glob("ocdbt.process_*"))) == (
        2 if place == "two" else 1
    )
    assert told(capsys, "verify", source)["arrays"] == 10
    for number, (command, *arguments) in enumerate(
        [
            ("drop", "ids.mu"),
            ("extract", "ids"),
            ("cast", "ids.row=bfloat16"),
            ("rename", "ids.row=ids.rows"),
            ("resize", "--vocabulary=item=3000", "--vocabulary=user=5"),
        ]
    ):
        outputs = [tmp_path / f"{name}{number}" for name in ("alone", place)]
        for each, output in zip((alone, source), outputs, strict=True):
            told(capsys, command, each, *arguments, f"--output={output}")
        assert_same_bits(*map(arrays, outputs))
    told(capsys, "to-safetensors", source, f"--output={tmp_path / 'files'}")
    told(capsys, "from-safetensors", tmp_path / "files", f"--output={tmp_path / 'back'}")
    assert_same_bits(arrays(tmp_path / "back"), arrays(alone))


def test_what_was_cut_is_restored_onto_other_devices(sources, tmp_path, capsys):
    told(capsys, "rename", sources / "two", "step=step", f"--output={tmp_path / 'out'}")
    like = laid_out(made.state(8), jax.devices()[:4])
    found = made.restored(tmp_path / "out", like)
    assert_same_bits(made.named(found), made.named(made.state()))
    assert found.ids["row"].sharding == like.ids["row"].sharding
