"""The loaders are entry points: what they import is imported by every ns-* command, while the host is half loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "nerfstudio.engine",
    "nerfstudio.pipelines",
    "nerfstudio.data.datamanagers",
    "nerfstudio.models",
    "open3d",
    "transformers",
    "pycolmap",
    "numba",
    "torchvision",
)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loaders_import_no_part_of_the_host_that_imports_them():
    code = f"""
import importlib, pkgutil, sys
import nerfstudio.data.dataparsers.base_dataparser, nerfstudio.plugins.registry_dataparser  # what the host has by then
before = set(sys.modules)
import dataparsers
for module in pkgutil.iter_modules(dataparsers.__path__):
    importlib.import_module(f"dataparsers.{{module.name}}")
new = set(sys.modules) - before
print([name for name in new if name.startswith({HEAVY!r})])
"""
    assert run(code).strip() == "[]"


def test_the_host_finds_the_loaders_half_way_through_its_own_imports():
    """Importing a datamanager discovers dataparsers before it is complete; a loader that needs it would fail here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    loaders = project["entry-points"]["nerfstudio.dataparser_configs"]
    code = f"""
import os
os.environ["NERFSTUDIO_DATAPARSER_CONFIGS"] = {",".join(f"{name}={place}" for name, place in loaders.items())!r}
import nerfstudio.data.datamanagers.base_datamanager
from nerfstudio.configs.dataparser_configs import all_dataparsers
print(sorted(name for name in all_dataparsers if name in {sorted(loaders)}))
"""
    assert run(code).strip().splitlines()[-1] == str(sorted(loaders))


def test_priors_do_not_import_the_host():
    code = """
import sys
import dyngs_plugins.priors.normalise, dyngs_plugins.priors.llff_files
print([name for name in sys.modules if name.startswith("nerfstudio")])
"""
    assert run(code).strip() == "[]"
