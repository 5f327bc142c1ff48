from __future__ import annotations

import subprocess
import sys

import pytest

from dyngs_plugins.raster.semantics import Semantics, installed_semantics, semantics_of


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.4.0", Semantics(max_alpha=0.999, compensation_min=0.0, radius_rule="three-sigma")),
        ("1.4.0+pt24cu121", Semantics(max_alpha=0.999, compensation_min=0.0, radius_rule="three-sigma")),
        ("1.5.3", Semantics(max_alpha=0.999, compensation_min=0.0, radius_rule="opacity")),
        ("1.6.0rc1", Semantics(max_alpha=0.99, compensation_min=0.005, radius_rule="opacity")),
        ("2.0", Semantics(max_alpha=0.99, compensation_min=0.005, radius_rule="opacity")),
    ],
)
def test_versions(version, expected):
    assert semantics_of(version) == expected


def test_unreadable_version_says_what_was_expected():
    with pytest.raises(ValueError, match="expected something like '1.4.0'"):
        semantics_of("main")


def test_installed_version_is_used():
    import gsplat

    assert installed_semantics() == semantics_of(gsplat.__version__)


def test_reading_the_version_imports_neither_gsplat_nor_numba():
    code = (
        "import sys; import dyngs_plugins.raster as r; from dyngs_plugins.raster.semantics import installed_semantics; "
        "installed_semantics(); assert not {'gsplat', 'numba'} & set(sys.modules), 'imported too early'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
