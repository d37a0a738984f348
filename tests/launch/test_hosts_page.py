"""docs/hosts.md says what is so: times, settings, files."""

import re

import pytest

from dicm_jax.config import Config
from dicm_jax.training import signs_of_life
from tests.multiprocess import test_faults as faults
from tests.multiprocess.processes import ROOT

PAGE = (ROOT / "docs/hosts.md").read_text()


def _row(event: str) -> list[str]:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {event}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_files_that_it_links_to_are_there():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if not link.startswith("http")]
    assert len(links) >= 5
    for link in links:
        assert (ROOT / "docs" / link).is_file(), link
    assert "(docs/hosts.md)" in (ROOT / "README.md").read_text()


def test_settings_that_it_names_are_there():
    config = Config()
    for section, name in set(re.findall(r"`(train|mesh|checkpoint)\.(\w+)`", PAGE)):
        assert hasattr(getattr(config, section), name), f"{section}.{name}"


@pytest.mark.parametrize(
    ("event", "factor", "section", "setting"),
    [
        ("a process is killed", faults.IN_TIME, "mesh", "heartbeat_s"),
        ("a process fails", 0.6, "mesh", "heartbeat_s"),
        ("a step, or a batch", 1.05, "train", "hang_after_s"),
        ("reading, compiling", 1.05, "train", "hang_start_after_s"),
        ("a process never comes", 1.0, "mesh", "join_s"),
    ],
)
def test_times_follow_from_the_defaults(event, factor, section, setting):
    value = getattr(getattr(Config(), section), setting)
    within = _row(event)[2]
    assert within.startswith(f"{factor * value:.0f} s ")
    if factor != 1:
        assert f"({factor:g} × `{section}.{setting}`" in within


def test_times_leave_room_for_what_is_waited_for():
    """Beats of `signs_of_life`: hearing and looking take one each, and process 0 goes last."""
    hearing_looking_telling = 3
    lost = signs_of_life.BEATS + hearing_looking_telling + 2
    failed = signs_of_life.GRACE + hearing_looking_telling
    assert lost / signs_of_life.BEATS <= faults.IN_TIME
    assert failed / signs_of_life.BEATS <= 0.6
    assert faults.IN_TIME * Config().mesh.heartbeat_s <= 60, "lost processes end a run in a minute"


def test_exit_codes_are_those_of_the_commands():
    from dicm_jax.cli import DONE, FAILED, PREEMPTED

    assert _row("SIGTERM to one process")[3] == str(PREEMPTED)
    assert _row("SIGTERM in the last scoring")[3] == str(DONE)
    for event in ("a process is killed", "a process is stopped", "a process fails", "a step, or"):
        assert _row(event)[3] == str(FAILED)
