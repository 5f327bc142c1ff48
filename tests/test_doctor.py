"""`dyngs doctor` on broken installations: it names what is wrong and never falls over it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dyngs_plugins import doctor, doctor_abilities, doctor_environment, doctor_names, doctor_probe
from dyngs_plugins.doctor import Finding
from dyngs_plugins.doctor_probe import run_jobs


@pytest.fixture
def broken(tmp_path, monkeypatch) -> Path:
    """A folder of modules on the path of this process and of those that it starts."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def write_package(folder: Path, name: str, entry_points: str, version: str = "1.0") -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def only(broken, monkeypatch):
    """Only the packages of the folder are installed, and nerfstudio's own names need not be imported."""
    found = importlib.metadata.distributions
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found(path=[str(broken)]))

    def answers(jobs, timeout_s=180.0):
        host = {"ok": True, "methods": ["splatfacto"], "dataparsers": ["dnerf-data"]}
        rest = iter(run_jobs([job for job in jobs if job["do"] != "host"], timeout_s))
        return [host if job["do"] == "host" else next(rest) for job in jobs]

    monkeypatch.setattr(doctor_names, "run_jobs", answers)
    return broken


def by_name(findings) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


# The other process


def test_jobs_that_break_the_interpreter_are_named_and_the_rest_is_done(broken):
    (broken / "raises_here.py").write_text("import json\nraise OSError('libGL.so.1: cannot open shared object file')")
    (broken / "ends_it.py").write_text("import os\nos._exit(7)")
    (broken / "asks_to_end.py").write_text("raise SystemExit('no licence')")
    (broken / "talks.py").write_text("print('hello', flush=True)\n__version__ = '4.2'")
    names = ("raises_here", "ends_it", "asks_to_end", "talks", "not_there_at_all")
    answers = dict(zip(names, run_jobs([{"do": "import", "module": name} for name in names]), strict=True))
    assert "OSError: libGL.so.1" in answers["raises_here"]["error"]
    assert "raises_here.py:2" in answers["raises_here"]["error"]
    assert "exit code 7" in answers["ends_it"]["error"]
    assert "SystemExit: no licence" in answers["asks_to_end"]["error"]
    assert answers["talks"] == {"ok": True, "version": "4.2", "file": str(broken / "talks.py")}
    assert "ModuleNotFoundError" in answers["not_there_at_all"]["error"]


def test_a_job_that_hangs_is_given_up(broken):
    (broken / "sleeps.py").write_text("import time\ntime.sleep(60)")
    first, second = run_jobs([{"do": "import", "module": "sleeps"}, {"do": "import", "module": "json"}], timeout_s=3.0)
    assert "does not answer within 3 s" in first["error"]
    assert second["ok"]


def test_no_process_at_all(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "no process could be started" in run_jobs([{"do": "torch"}])[0]["error"]


def test_an_unknown_job_is_an_answer_too():
    assert "KeyError" in run_jobs([{"do": "dance"}])[0]["error"]


# The report


def test_a_check_that_fails_is_a_finding():
    def fails():
        yield Finding("a", "first", "ok", "fine")
        raise RuntimeError("boom")

    def fine():
        return [Finding("b", "second", "note", "optional", "pip install it")]

    findings = list(doctor.examine([("a", fails), ("b", fine)]))
    assert [f.state for f in findings] == ["ok", "problem", "note"]
    assert "boom" in findings[1].text
    text = "\n".join(doctor.report(findings))
    assert "fix: pip install it" in text
    assert "1 problem(s): a / check" in text


def test_exit_code_and_json(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "all_checks", lambda: [("a", lambda: [Finding("a", "x", "note", "text")])])
    assert doctor.run(as_data=True) == 0
    assert json.loads(capsys.readouterr().out) == {
        "problems": 0, "findings": [{"group": "a", "name": "x", "state": "note", "text": "text", "fix": ""}],
    }  # fmt: skip
    monkeypatch.setattr(doctor, "all_checks", lambda: [("a", lambda: [Finding("a", "x", "problem", "text")])])
    assert doctor.run() == 1
    assert "a / x" in capsys.readouterr().out


def test_the_command_has_the_exit_code(monkeypatch):
    from dyngs_plugins.cli import main

    monkeypatch.setattr(doctor, "all_checks", lambda: [("a", lambda: [Finding("a", "x", "problem", "text")])])
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    assert ended.value.code == 1


# What surrounds us


def test_required_packages_that_are_broken_or_missing_are_problems(monkeypatch):
    answers = {name: {"ok": True, "version": "1", "file": ""} for name in (*doctor_environment.REQUIRED,
               *doctor_environment.OPTIONAL)}  # fmt: skip
    answers["gsplat"] = {"ok": False, "error": "ImportError: undefined symbol"}
    answers["transformers"] = {"ok": False, "error": "ModuleNotFoundError: transformers"}
    answers["open3d"] = {"ok": False, "error": "OSError: libusb-1.0.so.0"}
    monkeypatch.setattr(doctor_environment, "import_answers", lambda: answers)
    monkeypatch.setattr(doctor_environment, "_installed", lambda module: module != "transformers")
    found = by_name(doctor_environment.check_packages())
    assert found["gsplat"].state == "problem"
    assert "undefined symbol" in found["gsplat"].text
    assert found["transformers"].state == "note"
    assert "dyngs-plugins[learned]" in found["transformers"].fix
    assert found["open3d"].state == "problem"
    assert "libusb" in found["open3d"].text
    assert found["numpy"].state == "ok"


def test_versions_that_do_not_fit_are_problems(monkeypatch):
    monkeypatch.setattr(
        importlib.metadata, "requires", lambda name: ["nerfstudio>=99", "numpy", "numba; extra == 'cpu'"]
    )
    findings = by_name(doctor_environment._requirements())
    assert set(findings) == {"nerfstudio"}
    assert ">=99" in findings["nerfstudio"].text


@pytest.mark.parametrize(
    ("answer", "smi", "state", "text"),
    [
        ({"ok": False, "error": "OSError: libcudart"}, None, "problem", "libcudart"),
        ({"ok": True, "version": "2", "cuda": None, "available": False, "devices": []}, None, "note", "CPU only"),
        ({"ok": True, "version": "2", "cuda": None, "available": False, "devices": []}, "/bin/nvidia-smi", "note",
         "though nvidia-smi is there"),
        ({"ok": True, "version": "2", "cuda": "12.4", "available": True, "devices": ["H200, 139 GiB"]}, None, "ok", "H200"),
    ],
)  # fmt: skip
def test_gpu(monkeypatch, answer, smi, state, text):
    monkeypatch.setattr(doctor_environment, "run_jobs", lambda jobs: [answer])
    monkeypatch.setattr(doctor_environment.shutil, "which", lambda name: smi)
    first = next(iter(doctor_environment.check_gpu()))
    assert first.state == state
    assert text in first.text


def test_missing_programs_and_libraries_name_their_package(monkeypatch):
    monkeypatch.setattr(doctor_environment.shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor_environment.ctypes.util, "find_library", lambda name: None)
    found = by_name(doctor_environment.check_system())
    assert "apt-get install ffmpeg" in found["ffmpeg"].fix
    assert "libusb-1.0-0" in found["libusb-1.0"].fix
    assert {finding.state for finding in found.values()} == {"note"}


def test_a_full_or_unreadable_disk(monkeypatch):
    monkeypatch.setattr(doctor_environment.shutil, "disk_usage", lambda place: Usage(1e9))
    assert {finding.state for finding in doctor_environment.check_disk()} == {"note"}

    def unreadable(place):
        raise PermissionError("no")

    monkeypatch.setattr(doctor_environment.shutil, "disk_usage", unreadable)
    assert {finding.state for finding in doctor_environment.check_disk()} == {"problem"}


def test_a_place_that_cannot_be_written_names_what_moves_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "kernels" / "here"))
    monkeypatch.setattr(doctor_environment.shutil, "disk_usage", lambda place: Usage(1e12))
    monkeypatch.setattr(doctor_environment.os, "access", lambda place, mode: place != tmp_path)
    found = {finding.name: finding for finding in doctor_environment.check_disk()}
    assert found["temporary files"].state == "ok"
    assert found["compiled kernels"].state == "note"
    assert found["compiled kernels"].text.startswith(f"{tmp_path}: ")
    assert "TORCH_EXTENSIONS_DIR" in found["compiled kernels"].fix


class Usage:
    def __init__(self, free: float):
        self.free = free


# Names


def test_a_broken_foreign_plugin_is_named_with_its_package(only):
    (only / "foreign_loader.py").write_text("import no_such_module_of_theirs\n")
    write_package(only, "foreign", "[nerfstudio.dataparser_configs]\nforeign-data = foreign_loader:spec\n")
    write_package(only, "extra", "[dyngs_plugins]\nextra = not_there:plugin\n")
    found = by_name(doctor_names.check_entry_points())
    assert found["foreign-data"].state == "problem"
    assert "from foreign" in found["foreign-data"].text
    assert "no_such_module_of_theirs" in found["foreign-data"].text
    assert "no ns-* command starts" in found["foreign-data"].text
    assert "pip uninstall foreign" in found["foreign-data"].fix
    assert found["extra"].state == "note", "our own hooks skip a plugin that does not load"


def test_names_that_two_packages_have_and_names_of_nerfstudio(only):
    (only / "good.py").write_text("spec = object()\n")
    write_package(only, "one", "[nerfstudio.dataparser_configs]\ndnerf-data = good:spec\nmine = good:spec\n")
    write_package(only, "two", "[nerfstudio.dataparser_configs]\nmine = good:spec\n")
    collisions = [f for f in doctor_names.check_entry_points() if "only one of them is used" in f.text]
    found = by_name(collisions)
    assert found["dnerf-data"].state == "note"
    assert "nerfstudio itself" in found["dnerf-data"].text
    assert found["mine"].state == "problem"
    assert "one (good:spec) and two (good:spec)" in found["mine"].text


def test_modules_that_several_packages_provide_and_damaged_metadata(only):
    for name in ("opencv-python", "opencv-python-headless"):
        write_package(only, name, "")
        (only / f"{name}-1.0.dist-info" / "top_level.txt").write_text("cv2\n")
    write_package(only, "stranger", "")
    (only / "stranger-1.0.dist-info" / "top_level.txt").write_text("dataparsers\n")
    write_package(only, "dyngs-plugins", "")
    (only / "dyngs-plugins-1.0.dist-info" / "top_level.txt").write_text("dataparsers\n")
    write_package(only, "twice", "", "1.0")
    write_package(only, "twice", "", "2.0")
    (only / "empty-1.0.dist-info").mkdir()
    found = by_name(doctor_names.check_duplicates())
    assert "opencv-python and opencv-python-headless" in found["cv2"].text
    assert (found["cv2"].state, found["dataparsers"].state) == ("note", "problem")
    assert "is installed 2 times" in found["twice"].text


def test_a_package_from_an_unexpected_folder(broken, monkeypatch):
    (broken / "dataparsers").mkdir()
    (broken / "dataparsers" / "__init__.py").write_text("")
    monkeypatch.delitem(sys.modules, "dataparsers", raising=False)
    found = by_name(doctor_names.check_origins())
    assert found["dataparsers"].state == "problem"
    assert f"imported from {broken}" in found["dataparsers"].text


def test_imported_but_not_installed(monkeypatch):
    monkeypatch.setattr(doctor_names, "_installed_at", lambda: None)
    found = by_name(doctor_names.check_origins())
    assert "ns-train does not know its methods" in found["dyngs-plugins"].text
    monkeypatch.setattr(doctor_names, "_installed_at", lambda: Path("/elsewhere"))
    assert "installed at /elsewhere, but imported from" in by_name(doctor_names.check_origins())["dyngs-plugins"].text


def test_environment_variables(broken, monkeypatch):
    (broken / "good.py").write_text("spec = object()\n")
    monkeypatch.setenv("NERFSTUDIO_METHOD_CONFIGS", "mine=good:spec,theirs=gone:spec,nonsense")
    monkeypatch.setenv("DYNGS_TRACEBACK", "1")
    texts = {f.text: f.state for f in doctor_names.check_variables()}
    assert texts["adds mine to the methods"] == "note"
    assert any("theirs=gone:spec does not load" in text and state == "problem" for text, state in texts.items())
    assert texts["'nonsense' is not NAME=MODULE:ATTRIBUTE"] == "problem"
    assert texts["is set to '1'"] == "note"


# What can run


def test_abilities_name_the_reason_and_survive_a_broken_registry(monkeypatch):
    answer = {
        "ok": True, "warnings": ["dyngs-plugins: plugin 'x' is skipped"], "plugins": {"mine": "mypackage"},
        "backends": [{"name": "numba", "reason": "No module named numba"}],
        "providers": [{"kind": "depth", "name": "multiview", "reason": None, "from": "m"},
                      {"kind": "masks", "name": "sam", "reason": "weights are missing", "from": "m"}],
    }  # fmt: skip
    monkeypatch.setattr(doctor_abilities, "run_jobs", lambda jobs: [answer])
    found = by_name(doctor_abilities.check_abilities())
    assert (found["multiview"].state, found["sam"].state, found["numba"].state) == ("ok", "note", "note")
    assert found["sam"].group == "--masks"
    assert "plugin 'x' is skipped" in found["plugin"].text
    monkeypatch.setattr(doctor_abilities, "run_jobs", lambda jobs: [{"ok": False, "error": "ImportError: torch"}])
    (finding,) = doctor_abilities.check_abilities()
    assert finding.state == "problem"


def test_a_provider_that_breaks_when_it_is_asked():
    class Broken:
        def __init__(self):
            raise RuntimeError("no")

    class Old:
        pass

    assert "it is broken: RuntimeError: no" in str(doctor_probe._reason(Broken))
    assert doctor_probe._reason(Old) is None


def test_real_abilities_of_this_installation():
    answer = doctor_probe.abilities({})
    providers = {(p["kind"], p["name"]): p["reason"] for p in answer["providers"]}
    assert providers["flow", "dis"] is None
    assert "torch" in {backend["name"] for backend in answer["backends"]}
    assert not [reason for reason in providers.values() if reason and "is broken" in reason]


@pytest.mark.slow
def test_this_installation_as_a_whole():
    """With torch's neighbours blocked it still reports, and ends with 1."""
    ran = subprocess.run([sys.executable, "-m", "dyngs_plugins.doctor", "--json"], capture_output=True, text=True)
    data = json.loads(ran.stdout)
    assert ran.returncode == int(data["problems"] > 0)
    assert {"python", "packages", "gpu", "system", "disk", "installation", "entry points"} <= {
        finding["group"] for finding in data["findings"]
    }


@pytest.mark.slow
def test_with_packages_blocked_it_still_reports(broken):
    for name in ("gsplat", "viser", "cv2"):
        (broken / f"{name}.py").write_text("raise ImportError('blocked')\n")
    environment = {**os.environ, "PYTHONPATH": str(broken)}
    ran = subprocess.run(
        [sys.executable, "-m", "dyngs_plugins.doctor", "--json"], capture_output=True, text=True, env=environment
    )
    found = {finding["name"]: finding for finding in json.loads(ran.stdout)["findings"]}
    assert ran.returncode == 1
    assert "blocked" in found["gsplat"]["text"]
