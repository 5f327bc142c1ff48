"""The ``dyngs`` command itself: quick, and clear about whose mistake it was."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

import dyngs_plugins.cli as cli


def test_commands_import_nothing_heavy():
    """``dyngs --help`` must answer at once: torch and nerfstudio take seconds to import."""
    code = (
        "import sys, dyngs_plugins.cli\n"
        "heavy = {'torch', 'numpy', 'scipy', 'cv2', 'nerfstudio', 'viser', 'gsplat'} & set(sys.modules)\n"
        "sys.exit(f'imported at the top: {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for name, function in cli.COMMANDS.items():
        assert name in printed
        assert function.__doc__, f"dyngs {name} has no help"


def ours() -> None:
    """Fails as our code does when a user's file is wrong."""
    exec(compile("raise ValueError('found 3, expected 4')", "x", "exec"), {"__name__": "dyngs_plugins.data"})


def bug() -> None:
    """Fails as a library does when our code is wrong."""
    import json

    json.loads("{")


@pytest.fixture
def commands(monkeypatch):
    monkeypatch.setattr(cli, "COMMANDS", {"ours": ours, "bug": bug})
    monkeypatch.delenv("DYNGS_TRACEBACK", raising=False)


@pytest.mark.usefixtures("commands")
def test_a_users_mistake_is_one_message(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["ours"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "dyngs: found 3, expected 4\n"


@pytest.mark.usefixtures("commands")
def test_a_bug_keeps_its_traceback(monkeypatch):
    with pytest.raises(ValueError, match="Expecting property name"):
        cli.main(["bug"])
    monkeypatch.setenv("DYNGS_TRACEBACK", "1")
    with pytest.raises(ValueError, match="found 3"):
        cli.main(["ours"])


def test_the_hosts_age_is_nothing_to_tell_a_user(monkeypatch):
    def old() -> None:
        warnings.warn("`torch.jit.script` is deprecated. Please switch.", FutureWarning, stacklevel=1)
        warnings.warn("Something of ours changes.", FutureWarning, stacklevel=1)

    monkeypatch.setattr(cli, "COMMANDS", {"old": old, "other": old})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cli.main(["old"])
    assert [str(warning.message) for warning in told] == ["Something of ours changes."]


def test_a_misspelled_command_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["proces", "film.mp4", "--out", "clip"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("dyngs: proces: no such command; expected one of sample, process, ")
    assert said.endswith("Did you mean `dyngs process`?\n")


def test_a_place_that_cannot_be_written_is_one_message_whoever_met_it(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DYNGS_TRACEBACK", raising=False)
    (tmp_path / "film.mp4").write_text("no folder")
    monkeypatch.setattr(
        cli, "COMMANDS", {"write": lambda: (tmp_path / "film.mp4" / "clip").mkdir(parents=True), "b": bug}
    )
    with pytest.raises(SystemExit) as stop:
        cli.main(["write"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"dyngs: {tmp_path / 'film.mp4' / 'clip'}: it is a file, or in one; expected a folder")
    assert "Choose another place." in said


@pytest.mark.parametrize(
    ("command", "told"),
    [("process", " What is finished is kept: the same command goes on from there."), ("convert", "")],
)
def test_ctrl_c_shows_no_traceback(command, told, monkeypatch, capsys):
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.delenv("DYNGS_TRACEBACK", raising=False)
    monkeypatch.setattr(cli, "COMMANDS", {command: stopped, "other": stopped})
    with pytest.raises(SystemExit) as stop:
        cli.main([command])
    assert stop.value.code == 130
    assert capsys.readouterr().err == f"\ndyngs: stopped.{told}\n"
    monkeypatch.setenv("DYNGS_TRACEBACK", "1")
    with pytest.raises(KeyboardInterrupt):
        cli.main([command])
