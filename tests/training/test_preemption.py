"""SIGTERM at moments when no step is being taken."""

import os
import signal
from pathlib import Path

from dicm_jax import train as command
from dicm_jax.cli import PREEMPTED
from dicm_jax.train import train
from dicm_jax.training.preemption import PreemptedError, Preemption
from tests.multiprocess.processes import ROOT
from tests.test_train import SMALL


def _train(workdir: Path) -> int:
    quick = ["model.images=none", "model.basic_net=lr", "train.steps=2"]
    return train(str(ROOT / "configs/dicm.py"), workdir, [*SMALL, *quick])


def _saved(workdir: Path) -> list[str]:
    return [path.name for path in (workdir / "checkpoints").glob("[0-9]*")]


def test_the_signal_is_seen():
    before = signal.getsignal(signal.SIGTERM)
    try:
        preemption = Preemption()
        preemption.check()
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.asked
    finally:
        signal.signal(signal.SIGTERM, before)


def test_asked_before_the_first_step_no_step_is_taken(tmp_path, monkeypatch, capsys):
    class Early(Preemption):
        def __init__(self):
            self.asked = True

    monkeypatch.setattr(command, "Preemption", Early)
    assert _train(tmp_path) == PREEMPTED
    assert _saved(tmp_path) == []
    assert "run the same command again to go on" in capsys.readouterr().err


def test_asked_before_the_last_scoring_all_is_saved(tmp_path, monkeypatch):
    class Late(Preemption):
        """Asked after the last step: at the second look at which nothing is left to save."""

        def __init__(self):
            self.asked, self.checks = False, 0

        def check(self) -> None:
            self.checks += 1
            if self.checks == 2:
                raise PreemptedError

    monkeypatch.setattr(command, "Preemption", Late)
    assert _train(tmp_path) == PREEMPTED
    assert _saved(tmp_path) == ["2"]
    assert not (tmp_path / "result.json").exists()
