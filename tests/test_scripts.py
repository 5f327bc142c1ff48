"""The scripts of a checkout: what can be tested of them without installing anything."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import sysconfig
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHELL_SCRIPTS = ("scripts/setup", "scripts/demo", "scripts/test", "scripts/train.sbatch", ".ci/run")


@pytest.mark.parametrize("name", SHELL_SCRIPTS)
def test_shell_scripts_are_executable_and_parse(name: str):
    assert os.access(ROOT / name, os.X_OK), f"git update-index --chmod=+x {name}"
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True)


def repair() -> dict:
    return runpy.run_path(str(ROOT / "scripts" / "repair_torchvision.py"))


# A torchvision whose import does what the real one's does where its compiled part did not load.
FAKE_TORCHVISION = """
import torch
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold): ...
@torch.library.register_fake("torchvision::qnms")
def qnms(dets, scores, iou_threshold): ...
"""


@pytest.mark.parametrize("shimmed", [False, True])
def test_the_declared_operators_let_torchvision_import(tmp_path: Path, shimmed: bool):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(FAKE_TORCHVISION)
    (tmp_path / "shim.py").write_text(repair()["SHIM"])
    code = f"""
        import sys
        sys.path[:0] = [{str(tmp_path)!r}]
        sys.path.append({sysconfig.get_path("purelib")!r})
        import torch
        torch.version.cuda = torch.version.hip = None  # a CPU build
        {"import shim" if shimmed else ""}
        import torchvision
    """
    # -S: without the start-up files of this environment, which may hold such a repair already.
    done = subprocess.run([sys.executable, "-S", "-c", textwrap.dedent(code)], capture_output=True, text=True)
    if shimmed:
        assert done.returncode == 0, done.stderr
    else:
        assert repair()["SYMPTOM"] in done.stderr


def test_the_repair_leaves_a_working_environment_alone():
    script = ROOT / "scripts" / "repair_torchvision.py"
    before = set(Path(sysconfig.get_path("purelib")).glob("_dyngs*"))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert set(Path(sysconfig.get_path("purelib")).glob("_dyngs*")) == before


def test_the_demos_summary_says_what_was_measured_and_where_everything_lies(tmp_path: Path, capsys):
    results = {"psnr": 21.234567, "psnr_std": 1.0, "images": 8.0, "protocol": "held-out camera", "notes": "no LPIPS"}
    results["modes"] = {
        "novel": {"images": 8, "poses": "given", "psnr": 21.234567},
        "novel_aligned": {"images": 8, "poses": "fitted to each image", "psnr": 22.345678},
    }
    (tmp_path / "metrics.json").write_text(json.dumps({"results": results}))
    (tmp_path / "nerfstudio_models").mkdir()
    (tmp_path / "nerfstudio_models" / "step-000000029.ckpt").touch()
    runpy.run_path(str(ROOT / "scripts" / "show_run.py"))["main"](tmp_path)
    printed = capsys.readouterr().out
    assert printed.startswith("held-out camera\n")
    assert "psnr_std" not in printed
    assert printed.count("21.23") == 1
    for expected in (
        "novel_aligned: poses fitted to each image",
        "22.35",
        "no LPIPS",
        str(tmp_path / "video.mp4"),
        "step-000000029.ckpt",
        "ns-viewer",
    ):
        assert expected in printed


def compare() -> dict:
    return runpy.run_path(str(ROOT / "scripts" / "compare.py"))


def test_every_small_method_for_moving_scenes_is_compared():
    methods = compare()["all_small_methods"]()
    assert methods[0] == "dyn-static-small"
    assert {"dyn-som-small", "dyn-4dgs-small", "dyn-splinegs-small"} <= set(methods)
    assert all(name.startswith("dyn-") and name.endswith("-small") for name in methods)


def test_a_table_of_methods_is_kept_as_markdown(tmp_path: Path):
    script = compare()
    results = {"psnr": 21.234567, "ssim_dynamic": 0.87654, "gaussians": {"dynamic": 8000, "static": 1234}}
    seconds = {"wall": 83.4, "processor": 150.2}
    row = script["cells"]("dyn-som-small", results, seconds)
    assert row == ["dyn-som-small", "21.23", "-", "-", "0.877", "-", "-", "8,000 dynamic + 1,234 static", "83", "150"]
    file = tmp_path / "table.md"
    script["write_markdown"](file, "clip (held-out camera)", ["method"] + ["title"] * 9, [row])
    lines = file.read_text().splitlines()
    assert [line.count("|") for line in lines[:3]] == [11, 11, 11]
    assert lines[-1] == "clip (held-out camera)"
    assert [p.name for p in tmp_path.iterdir()] == ["table.md"]


@pytest.mark.parametrize("toolkit", [False, True])
def test_a_gpu_without_a_cuda_compiler_gets_one_from_pip(monkeypatch, toolkit: bool):
    import torch

    from dyngs_plugins.raster import gsplat_kernels

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = gsplat_kernels.Toolkit(Path("/usr/local/cuda"), (13, 0)) if toolkit else None
    monkeypatch.setattr(gsplat_kernels, "find_toolkit", lambda: found)
    monkeypatch.setattr(gsplat_kernels, "_homes", lambda: iter([]))
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: commands.append(command))
    runpy.run_path(str(ROOT / "scripts" / "cuda_compiler.py"))["main"]()
    if toolkit:
        assert commands == []
    else:
        assert commands[0][:4] == [sys.executable, "-m", "pip", "install"]
        assert "nvidia-cuda-nvcc==13.0.*" in commands[0]


def test_a_gpu_without_any_way_to_a_cuda_compiler_is_told(monkeypatch, capsys):
    import torch

    from dyngs_plugins.raster import gsplat_kernels

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    monkeypatch.setattr(gsplat_kernels, "_homes", lambda: iter([]))
    runpy.run_path(str(ROOT / "scripts" / "cuda_compiler.py"))["main"]()
    assert "training on the GPU cannot start yet." in capsys.readouterr().out


def test_methods_are_timed_and_one_that_fails_leaves_the_others_their_figures(rig: Path, capsys):
    bench = runpy.run_path(str(ROOT / "scripts" / "bench_methods.py"))
    options = bench["BenchMethods"](
        rig, ("dyn-static-small", "no-method"), steps=2, warm_up=1, num_dynamic=20, num_static=30
    )

    def here(args, method: str):
        try:
            return bench["measured"](args, method)
        except KeyError as error:
            return RuntimeError(f"KeyError: {error}")

    bench["main"].__globals__["in_its_own_process"] = here
    with pytest.raises(SystemExit, match="1"):
        bench["main"](options)
    _, timed, failed = (
        line for line in capsys.readouterr().out.splitlines() if line.startswith("| `") or "---" in line
    )
    assert re.match(r"\| `dyn-static-small` \| \d+\.\d \| \d+\.\d ms \| 1\.00 \| \d+\.\d\d GB \| \d+ \|", timed)
    assert failed == "| `no-method` | failed: KeyError: 'no-method' | | | | |"


def test_every_method_of_gaussians_is_timed():
    timed = set(runpy.run_path(str(ROOT / "scripts" / "bench_methods.py"))["METHODS"])
    listed = {
        name for name in entry_points(group="nerfstudio.method_configs").names if name.startswith(("dyn-", "deblur-"))
    }
    assert timed == {name for name in listed if not name.endswith("-small")}
