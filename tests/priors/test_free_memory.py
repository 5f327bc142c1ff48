"""How much memory may still be taken, on file systems made up for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyngs_plugins.priors.cache import cache_bytes
from dyngs_plugins.priors.free_memory import free_memory

GB = 1 << 30


def machine(root: Path, available_gb: float, groups: str = "") -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(
        f"MemTotal: 99 kB\nMemAvailable:   {int(available_gb * GB / 1024)} kB\nBuffers: 1 kB\n"
    )
    (root / "proc/self/cgroup").write_text(groups)
    return root


def group(
    folder: Path, limit: str, used: int, files: int, names=("memory.max", "memory.current", "inactive_file")
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 17\n{names[2]} {files}\nslab 3\n")


def test_a_machine_without_limits(tmp_path):
    assert free_memory(machine(tmp_path, 12)) == 12 * GB


def test_a_cluster_job_has_its_own_limit_and_files_give_way(tmp_path):
    root = machine(tmp_path, 400, "0::/slurm/job_7/step_0\n")
    groups = root / "sys/fs/cgroup"
    group(groups / "slurm/job_7/step_0", "max", 5 * GB, 0)
    group(groups / "slurm/job_7", str(16 * GB), 6 * GB, 2 * GB)
    group(groups / "slurm", str(300 * GB), 100 * GB, 0)
    assert free_memory(root) == 12 * GB


def test_a_container_sees_its_group_as_the_outermost(tmp_path):
    root = machine(tmp_path, 64, "0::/docker/0123\n")
    group(root / "sys/fs/cgroup", str(8 * GB), 3 * GB, GB)
    assert free_memory(root) == 6 * GB


def test_the_first_version_of_control_groups(tmp_path):
    root = machine(tmp_path, 64, "5:cpu,cpuacct:/a\n4:memory:/a/job\n")
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    group(root / "sys/fs/cgroup/memory/a/job", str(10 * GB), 4 * GB, GB, names)
    group(root / "sys/fs/cgroup/memory", str(2**63 - 4096), 20 * GB, GB, names)
    assert free_memory(root) == 7 * GB


def test_a_group_that_is_full_leaves_nothing(tmp_path):
    root = machine(tmp_path, 64, "0::/job\n")
    group(root / "sys/fs/cgroup/job", str(4 * GB), 5 * GB, 0)
    assert free_memory(root) == 0


@pytest.mark.parametrize("text", ["", "MemTotal: 5 kB\n", "MemAvailable: much\n"])
def test_a_system_that_does_not_say(tmp_path, text):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(text)
    assert free_memory(tmp_path) is None
    assert free_memory(tmp_path / "elsewhere") is None


@pytest.mark.parametrize(("free", "expected"), [(None, 2 * GB), (5 * GB, 2 * GB), (400 * GB, 50 * GB)])
def test_a_share_of_it_is_for_images(monkeypatch, free, expected):
    monkeypatch.setattr("dyngs_plugins.priors.cache.free_memory", lambda: free)
    assert cache_bytes(None) == expected
    assert cache_bytes(0.5) == GB // 2
    assert cache_bytes(0) == 0
