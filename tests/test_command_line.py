"""The arguments of the train command, and its exit codes on wrong usage."""

import pytest

from dicm_jax.command_line import parse_command_line


def usage_error(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What wrong usage prints; its exit code is 2."""
    with pytest.raises(SystemExit) as caught:
        parse_command_line(argv)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("usage: python -m dicm_jax.train")
    return message


def test_all_arguments():
    line = parse_command_line(
        ["--config=c.py", "--config.a.b=1", "--workdir=w", "--debug", "--config.c", "x=y"]
    )
    assert line == ("c.py", "w", ("a.b=1", "c=x=y"), True)


def test_overrides_keep_their_order_and_negative_values():
    line = parse_command_line(["--config.a=1", "--config", "c.py", "--config.a", "-2"])
    assert line.overrides == ("a=1", "a=-2")


def test_the_workdir_is_named_after_the_config():
    assert parse_command_line(["--config=configs/hm.py"]).workdir == "runs/hm"


def test_an_unknown_flag(capsys):
    message = usage_error(capsys, "--config=c.py", "--workdr=w")
    assert "unrecognized arguments: --workdr=w" in message


def test_flags_are_not_abbreviated(capsys):
    assert "unrecognized arguments: --work=w" in usage_error(capsys, "--config=c.py", "--work=w")


def test_a_stray_word(capsys):
    assert "unrecognized arguments: go" in usage_error(capsys, "--config=c.py", "go")


def test_no_config(capsys):
    assert "the following arguments are required: --config" in usage_error(capsys, "--workdir=w")


@pytest.mark.parametrize("after", [[], ["--debug"]])
def test_an_override_without_a_value(capsys, after):
    message = usage_error(capsys, "--config=c.py", "--config.train.steps", *after)
    assert "--config.train.steps: expected one value, as in --config.train.steps=VALUE" in message


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_command_line(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "python -m dicm_jax.train --config=configs/dicm.py --workdir=runs/dicm" in text
    assert "--config.a.b" in text
