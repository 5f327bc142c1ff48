"""A user's mistake ends a command of the host in one message; a bug keeps its traceback."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from dyngs_plugins.user_errors import end_in_one_message
sys.argv[0] = "/somewhere/bin/ns-train"
end_in_one_message()
end_in_one_message()
if sys.argv[1] == "ours":
    from dyngs_plugins.checkpoint_files import check_complete
    from pathlib import Path
    check_complete(Path("nowhere.ckpt"), "")
import json
json.loads("{")
"""


def stderr_of(kind: str, monkeypatch, traceback: str) -> str:
    monkeypatch.setenv("DYNGS_TRACEBACK", traceback)
    done = subprocess.run([sys.executable, "-c", SCRIPT, kind], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    return done.stderr


def test_a_users_mistake_is_one_message(monkeypatch):
    said = stderr_of("ours", monkeypatch, "")
    assert said.startswith("ns-train: nowhere.ckpt: no such checkpoint.")
    assert said.endswith("(DYNGS_TRACEBACK=1 shows where.)\n")
    assert "Traceback" not in said


@pytest.mark.parametrize(("kind", "traceback"), [("ours", "1"), ("theirs", "")])
def test_a_bug_or_a_wish_shows_the_traceback(kind, traceback, monkeypatch):
    assert "Traceback (most recent call last)" in stderr_of(kind, monkeypatch, traceback)
