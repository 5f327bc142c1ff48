"""A user's mistake ends a command of the host in one message; a bug keeps its traceback."""

import errno
import subprocess
import sys

import pytest

from dyngs_plugins.raster import gsplat_kernels
from dyngs_plugins.user_errors import is_mistake_of_user, message_of, raised_by_us

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


def test_what_a_machine_lacks_is_one_message_and_a_missing_module_is_not(monkeypatch):
    monkeypatch.delenv("DYNGS_TRACEBACK", raising=False)
    monkeypatch.setattr(gsplat_kernels, "kernels_problem", lambda: "no CUDA toolkit")
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", None)
    with pytest.raises(ImportError, match="no CUDA toolkit") as lacking:
        gsplat_kernels.load_gsplat_kernels()
    assert is_mistake_of_user(lacking.value)
    code = compile("import no_such_module", "ours.py", "exec")
    with pytest.raises(ImportError) as missing:
        exec(code, {"__name__": "dyngs_plugins.anything"})
    assert raised_by_us(missing.value)
    assert not is_mistake_of_user(missing.value)


def test_the_number_of_an_error_of_ours_is_not_told():
    assert message_of(OSError(errno.ENOSPC, "clip: the disk is full.")) == "clip: the disk is full."
    assert message_of(ValueError("found 3")) == "found 3"


def test_what_the_system_refuses_is_a_users_mistake_and_a_missing_file_of_a_library_is_not(tmp_path, monkeypatch):
    monkeypatch.delenv("DYNGS_TRACEBACK", raising=False)
    refused = PermissionError(errno.EROFS, "Read-only file system", "/disk/clip")
    assert is_mistake_of_user(refused)
    assert message_of(refused).startswith(
        "/disk/clip: the system does not let it be read or written (Read-only file system)"
    )
    for unfinished in ("/disk/.clip.json.12.345.tmp", "/disk/.clip.json.partial-x8_a"):
        assert message_of(OSError(errno.ENOSPC, "No space left on device", unfinished)).startswith(
            "/disk/clip.json: the sys"
        )
    inside = OSError(errno.ENOSPC, "No space left on device", "/a.b/.clip.partial-x8_a/images/.0.png.12.345.tmp")
    assert message_of(inside).startswith("/a.b/clip/images/0.png: the sys")
    (tmp_path / "film.mp4").write_bytes(b"anything")
    for inner in ("film.mp4", "film.mp4/clip"):
        with pytest.raises((FileExistsError, NotADirectoryError)) as found:
            (tmp_path / inner / "clip").mkdir(parents=True, exist_ok=True)
        assert is_mistake_of_user(found.value)
        assert "film.mp4" in message_of(found.value)
        assert "it is a file, or in one; expected a folder" in message_of(found.value)
    with pytest.raises(FileExistsError) as found:
        tmp_path.mkdir()
    assert not is_mistake_of_user(found.value), "a folder that is there already is in nobody's way"
    assert not is_mistake_of_user(FileNotFoundError(errno.ENOENT, "No such file or directory", "weights.bin"))
