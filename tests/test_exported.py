"""What exporters read: colours at the export time, and a line about what a file of Gaussians cannot hold."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from dyngs_plugins.color_head import ColorHeadConfig, PlainColors, SandwichHead, SandwichHeadConfig
from dyngs_plugins.exported import ExportedScene
from dyngs_plugins.exposure.base import InstantExposure, InstantExposureConfig
from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.motion.native4d import Native4DConfig
from dyngs_plugins.motion.static import StaticMotionConfig
from dyngs_plugins.raster.harmonics import SH_C0
from dyngs_plugins.scene import DYNAMIC, Scene

N = 5


def exported_scene(motion, color_head=None, sh_degree: int = 0, time: float | None = None) -> ExportedScene:
    """One random set as a model would export it."""
    torch.manual_seed(0)
    gaussians = GaussianSet(DYNAMIC, motion.columns(), sh_degree=sh_degree, color_head=color_head)
    gaussians.load_rows({name: torch.randn(N, *column.shape[1:]) for name, column in gaussians.raw.items()})
    whole = ExportedScene()
    whole.scene = Scene([gaussians], motion, InstantExposure(InstantExposureConfig(), 1), color_head=color_head)
    whole.config = SimpleNamespace(export_time=time)
    return whole


def test_harmonics_are_exported_as_they_are_at_the_time():
    motion = Native4DConfig(sh_degree=1).setup(num_frames=3)
    for time in (None, 0.4):
        whole = exported_scene(motion, sh_degree=1, time=time)
        harmonics = whole.scene.at(time).harmonics
        assert harmonics is not None
        torch.testing.assert_close(whole.shs_0, harmonics[:, 0])
        torch.testing.assert_close(whole.colors, 0.5 + SH_C0 * harmonics[:, 0])
        torch.testing.assert_close(whole.shs_rest, harmonics[:, 1:])
    still = exported_scene(motion, sh_degree=1).shs_0
    assert not torch.allclose(whole.shs_0, still), "the colour of this time is not the canonical one"


def test_exporters_are_told_that_a_decoder_is_lost_and_the_viewer_is_not():
    motion = StaticMotionConfig().setup(num_frames=3)
    decoded = exported_scene(motion, SandwichHead(SandwichHeadConfig()))
    with torch.no_grad(), pytest.warns(UserWarning, match="exported colours lack what SplineGS's decoder adds"):
        assert decoded.colors.shape == (N, 3)
    plain = exported_scene(motion, PlainColors(ColorHeadConfig()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decoded.colors.shape == (N, 3)
        with torch.no_grad():
            assert plain.colors.shape == (N, 3)


@pytest.mark.parametrize(("time", "said"), [(None, "the canonical pose"), (0.25, "the moment 0.25 of [0, 1]")])
def test_an_export_says_once_which_moment_it_is(time, said, capsys):
    whole = exported_scene(StaticMotionConfig().setup(num_frames=2), time=time)
    _ = whole.means  # the viewer's walk over properties, with gradients
    assert capsys.readouterr().out == ""
    with torch.no_grad():
        _ = whole.means, whole.quats
    assert capsys.readouterr().out.count(f"Exporting {said}. DYNGS_EXPORT_TIME=0.5") == 1
