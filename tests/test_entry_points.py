"""One broken import in one entry point stops every ns-* command: load all of them, with what is optional absent."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

OPTIONAL = ("open3d", "transformers", "pycolmap", "numba")

PREAMBLE = f"""
import importlib.metadata, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OPTIONAL!r}:
            raise ImportError(f"{{name}} is blocked by the test")

sys.meta_path.insert(0, Blocker())

def ours(group):
    for entry in importlib.metadata.entry_points(group=group):
        if entry.value.split(".")[0] in ("dyngs_plugins", "method_configs", "dataparsers"):
            yield entry
"""


def run_python(code: str, *arguments: str, timeout: float = 300) -> str:
    """Run code in a fresh interpreter, outside the checkout, so that what is found is what is installed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREAMBLE + textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=Path(sys.prefix),
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_blocker_blocks():
    code = """
        for name in ("open3d", "transformers", "pycolmap", "numba"):
            try:
                __import__(name)
            except ImportError as error:
                assert "blocked by the test" in str(error)
            else:
                sys.exit(f"{name} was imported")
    """
    run_python(code)


def test_every_entry_point_loads_without_the_optional_packages():
    code = """
        count = 0
        for group in ("nerfstudio.dataparser_configs", "nerfstudio.method_configs", "console_scripts"):
            for entry in ours(group):
                entry.load()
                count += 1
        from dyngs_plugins.hooks import registry
        assert registry().plugins
        print(count)
    """
    assert int(run_python(code)) >= 5


def test_the_host_lists_our_methods_and_loaders_without_the_optional_packages():
    """``ns-train --help`` itself, in the order in which the host imports (where a circular import would show)."""
    code = """
        from nerfstudio.scripts.train import entrypoint
        for arguments in (["--help"], ["dyn-som", "--help"]):
            sys.argv = ["ns-train", *arguments]
            try:
                entrypoint()
            except SystemExit as stop:
                assert not stop.code, stop.code
    """
    listed = run_python(code)
    for name in ("dyn-som", "dyn-som-small", "dyn-static", "dyn-static-small", "som-data", "llff-data"):
        assert name in listed, name


def test_dataparsers_are_leaf_modules():
    """The host discovers them while its datamanagers are half imported: they must not import these, nor a model."""
    code = """
        for entry in ours("nerfstudio.dataparser_configs"):
            entry.load()
        forbidden = (
            "nerfstudio.engine", "nerfstudio.pipelines", "nerfstudio.models", "nerfstudio.data.datamanagers",
            "nerfstudio.configs.method_configs", "dyngs_plugins.model", "dyngs_plugins.data", "dyngs_plugins.pipeline",
            "dyngs_plugins.trainer", "method_configs",
        )
        found = [
            name for name in sys.modules if any(name == root or name.startswith(root + ".") for root in forbidden)
        ]
        print("\\n".join(sorted(found)))
    """
    assert run_python(code).split() == []


def test_parts_that_do_not_need_the_host_do_not_import_it():
    """DESIGN: only the host seam imports nerfstudio."""
    code = """
        import importlib
        for name in ("motion.bases", "motion.deformable", "motion.hexplane", "motion.native4d", "exposure.base",
                     "raster", "losses", "metrics.image", "metrics.tracks", "metrics.lpips", "priors.views",
                     "priors.lifting", "camera_paths", "sample.clip", "hooks", "papers"):
            importlib.import_module(f"dyngs_plugins.{name}")
        found = sorted(name for name in sys.modules if name.split(".")[0] == "nerfstudio")
        assert not found, found
    """
    run_python(code)


def test_a_foreign_plugin_that_fails_to_import_is_reported_and_skipped(tmp_path: Path):
    package = tmp_path / "broken_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("import a_package_nobody_has\n")
    metadata = tmp_path / "broken_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[dyngs_plugins]\nbroken = broken_plugin\n")
    code = """
        import warnings
        sys.path.insert(0, sys.argv[1])
        warnings.resetwarnings()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            from dyngs_plugins.hooks import registry
            plugins = registry().plugins
        assert "broken" not in plugins and plugins, plugins
        messages = [str(warning.message) for warning in said]
        assert any("broken" in m and "a_package_nobody_has" in m for m in messages), messages
    """
    run_python(code, str(tmp_path))
