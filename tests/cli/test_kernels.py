"""``dyngs kernels`` compiles for the GPU in sight, or for the one that is named."""

from __future__ import annotations

import sys

import pytest
import torch

from dyngs_plugins.cli import main
from dyngs_plugins.raster import gsplat_kernels


@pytest.fixture
def compiled(monkeypatch) -> list[bool]:
    """Filled when the kernels would be compiled; torch is built for CUDA."""
    done: list[bool] = []
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(gsplat_kernels, "load_gsplat_kernels", lambda: done.append(True))
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    return done


@pytest.mark.parametrize(("gpu", "named"), [(True, ""), (False, "9.0")])
def test_for_a_gpu_in_sight_or_a_named_one(gpu, named, compiled, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", named)
    main(["kernels"])
    assert compiled == [True]
    assert "are compiled" in capsys.readouterr().out


def test_a_login_node_has_no_gpu_to_compile_for(compiled, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        main(["kernels"])
    assert stop.value.code == 2
    assert compiled == []
    assert "srun --gpus=1 dyngs kernels" in capsys.readouterr().err


def test_what_cannot_be_compiled_here_is_one_message(monkeypatch, capsys):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(gsplat_kernels, "kernels_problem", lambda: "no CUDA toolkit")
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", None)
    with pytest.raises(SystemExit) as stop:
        main(["kernels"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "dyngs: no CUDA toolkit\n"
