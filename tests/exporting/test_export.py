"""The command: what it leaves behind, when it leaves nothing, and what it says of mistakes."""

import dataclasses
import json
import signal
import time

import numpy as np
import pytest

from dicm_jax import export as command
from dicm_jax.checkpoint import restore
from dicm_jax.checkpoint.restore import Restored, restore_run
from dicm_jax.cli import run_command
from dicm_jax.errors import CheckpointError, ServableError
from dicm_jax.exporting import writer
from dicm_jax.exporting.catalogue import item_names, warm_items
from dicm_jax.exporting.check import served_scores
from dicm_jax.metrics import score
from dicm_jax.serving import Ranker, User
from dicm_jax.serving import servable as servables
from dicm_jax.training import baseline
from dicm_jax.training.evaluation import predictor
from tests.exporting.untrained import one_device
from tests.serving import made
from tests.serving.made import BUCKETS


@pytest.fixture(name="quick")
def _quick(monkeypatch) -> None:
    """Runs are restored on one device."""
    monkeypatch.setattr(restore, "start_roles", lambda mesh, lanes: one_device())


@pytest.fixture(scope="module", name="restored")
def _restored(runs) -> Restored:
    return restore_run(runs.dicm, roles=one_device())


def _export(*arguments: str) -> int:
    return command.export(command.parse([*arguments]))


@pytest.mark.parametrize("name", ["dicm", "baseline"])
def test_the_servable_gives_the_scores_of_evaluate(runs, servable, restored, name):
    job = restored.job
    if name == "baseline":
        plain = baseline.without_images(job.config)
        run = restore_run(runs.dicm / baseline.FOLDER, config=plain, log=job.log, roles=job.roles)
    else:
        run = restored
    evaluated_B = predictor(run.job, "test", run.model)(run.state)
    served_B = served_scores(Ranker(servable, room=0, buckets=BUCKETS), job.log, job.log.test, name)
    np.testing.assert_allclose(served_B, evaluated_B, rtol=0, atol=1e-5)
    assert np.ptp(evaluated_B) > 0.01
    # And the run's own result, which another process has written.
    result = json.loads((runs.dicm / "result.json").read_text())
    split = job.log.test
    gauc = score(split.user_B, split.click_B, served_B).gauc
    assert gauc == pytest.approx(result["gauc" if name == "dicm" else "baseline_gauc"], abs=1e-6)


def test_the_card_tells_what_it_is_worth(runs, servable):
    card = (servable / "1" / "MODEL_CARD.md").read_text()
    result = json.loads((runs.dicm / "result.json").read_text())
    assert f"| dicm | {result['gauc']:.4f} (" in card
    assert f"| baseline | {result['baseline_gauc']:.4f} (" in card
    assert "| prerank | pre-ranks" in card
    assert "synthetic-0" in card
    assert "400 items" in card


def test_versions_are_counted_and_drafts_are_none(tmp_path):
    output = tmp_path / "new" / "servables"
    one = writer.begin(output)
    assert (one.final, servables.versions_in(output)) == (output / "1", [])
    assert one.publish() == output / "1"
    two = writer.begin(output)
    (two.folder / "left").write_text("behind")
    again = writer.begin(output)  # the first has been killed
    assert again.folder == two.folder
    assert not list(again.folder.iterdir())
    assert again.publish() == output / "2"
    (output / "41").mkdir()
    assert writer.begin(output).final == output / "42"


@pytest.mark.usefixtures("quick")
def test_an_export_that_fails_leaves_no_version(runs, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "write_examples", fail)
    output = tmp_path / "out"
    assert (
        run_command(lambda: _export(f"--workdir={runs.prerank}", f"--output={output}"), debug=False)
        == 1
    )
    assert servables.versions_in(output) == []
    with pytest.raises(ServableError, match="no servable in it"):
        Ranker(output)


def test_an_export_that_is_killed_leaves_no_version(runs, tmp_path):
    output = tmp_path / "out"
    arguments = [f"--workdir={runs.prerank}", f"--output={output}", "--examples=0"]
    with made.start(made.command("export", *arguments)) as process:
        while not (output / "1.unfinished").is_dir():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert servables.versions_in(output) == []
    with pytest.raises(ServableError, match="no servable in it"):
        servables.read(output)
    assert writer.begin(output).final == output / "1"


@pytest.mark.usefixtures("quick")
def test_cold_items_can_be_left_out(runs, servable, restored, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = [f"--workdir={runs.dicm}", f"--output={output}", "--leave-out-cold"]
    assert _export(*arguments, "--vectors=int8", "--examples=3") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    log = restored.job.log
    warm_N, names = warm_items(log), np.array(item_names(log), object)
    split = log.test
    np.testing.assert_array_equal(~warm_N[split.item_B], split.cold_B)
    assert 0 < warm_N.sum() < len(warm_N)
    assert result["items"] == warm_N.sum()
    assert result["models"] == {}
    assert result["servable"] == str(output / "1")
    assert result["bytes"] == sum(p.stat().st_size for p in output.rglob("*") if p.is_file())
    assert "Not measured" in (output / "1" / "MODEL_CARD.md").read_text()
    few, whole = (Ranker(at, room=0, buckets=BUCKETS) for at in (output, servable))
    assert set(few.servable.names) == set(names[warm_N])
    user = User(behaviors=names[warm_N][:9].tolist())
    asked = names[warm_N].tolist()
    # Those that stayed are what they were, but for the rounding of their vectors.
    found, wanted = (ranker.rank(user, asked).scores for ranker in (few, whole))
    assert 1e-7 < np.abs(found - wanted).max() < 0.02
    shown = {name for example in few.examples["users"] for name in example["candidates"]}
    assert len(few.examples["users"]) == 3
    assert shown <= set(asked)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("main", "option", "message"),
    [
        ("dicm", "--baseline", "--baseline: .*model.stage='prerank'; .* with model.stage='rank'"),
        ("prerank", "--prerank", "--prerank: .*model.stage='rank'; .* with model.stage='prerank'"),
    ],
)
def test_a_run_of_the_wrong_stage(runs, tmp_path, main, option, message):
    of = {"dicm": runs.dicm, "prerank": runs.prerank}
    (other,) = [path for name, path in of.items() if name != main]
    with pytest.raises(ServableError, match=message):
        _export(f"--workdir={of[main]}", f"{option}={other}", f"--output={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_a_run_on_another_log(runs, restored, monkeypatch):
    log = restored.job.log
    ids_NF = log.items.ids_NF.copy()
    ids_NF[3, 1] += 1
    other = dataclasses.replace(log, items=dataclasses.replace(log.items, ids_NF=ids_NF))
    theirs = dataclasses.replace(restored, job=dataclasses.replace(restored.job, log=other))
    monkeypatch.setattr(command, "restore_run", lambda workdir, roles: theirs)
    with pytest.raises(
        ServableError, match="whose items or vocabularies are not those of 'synthetic"
    ):
        command._beside(runs.prerank, restored)


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing.*"):
        _export(f"--workdir={tmp_path / 'nothing'}", f"--output={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_an_output_in_the_way(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for output in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(
            ServableError, match=r"cannot be written \(.*\): name a folder with leave"
        ):
            writer.begin(output)


def test_wrong_usage(capsys):
    for line, words in (
        (["--workdir=x"], "--output"),
        (["--workdir=x", "--output=y", "--examples=-1"], "--examples=-1: give 0 or more"),
        (["--workdir=x", "--output=y", "--vectors=int4"], "invalid choice: 'int4'"),
        (["--workdir=x", "--output=y", "--leave-out"], "unrecognized arguments"),
    ):
        with pytest.raises(SystemExit) as ended:
            command.parse(line)
        assert ended.value.code == 2
        assert words in capsys.readouterr().err


def test_one_export_at_a_time_in_a_folder(tmp_path):
    with (
        writer.alone(tmp_path / "out"),
        pytest.raises(ServableError, match="another export is at work there; let it end"),
        writer.alone(tmp_path / "out"),
    ):
        pass
    with writer.alone(tmp_path / "out"):
        assert writer.begin(tmp_path / "out").final.name == "1"
