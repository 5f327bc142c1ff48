"""The motion pre-fit's losses (the sheet's section 2.2) where they are known: on a clip that the motion explains."""

import pytest
import torch

from dyngs_plugins.gaussian_sets import GaussianSet
from dyngs_plugins.motion.bases import MotionBases, MotionBasesConfig
from dyngs_plugins.prefit import PrefitTarget, prefit_losses

N, T = 25, 4


@pytest.fixture
def motion() -> MotionBases:
    """Two bases that stand still."""
    return MotionBases(MotionBasesConfig(num_bases=2), T)


@pytest.fixture
def gaussians(motion: MotionBases) -> GaussianSet:
    """Points three units in front of the cameras, each on its own basis alone."""
    moving = GaussianSet("dynamic", motion.columns())
    rows = {name: torch.zeros(N, *column.shape[1:]) for name, column in moving.raw.items()}
    rows["means"] = torch.rand(N, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.0, 0.0, 3.0])
    rows["quats"][:, 0] = 1.0
    rows["motion_coefs"][:, 0] = 100.0
    moving.load_rows(rows)
    return moving


def target(gaussians: GaussianSet, points: torch.Tensor | None = None, **weights: torch.Tensor) -> PrefitTarget:
    """What still cameras see of points that stand still."""
    given = {"visible_weight": torch.zeros(N, T), "hidden_weight": torch.zeros(N, T), **weights}
    K = torch.tensor([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]]).expand(T, 3, 3)
    still = gaussians.raw["means"].detach()[:, None].expand(N, T, 3)
    return PrefitTarget(still if points is None else points, camera_T_world=torch.eye(4).expand(T, 4, 4), K=K, **given)


def test_a_motion_that_explains_its_tracks_costs_nothing(motion, gaussians):
    ones = torch.ones(N, T)
    found = prefit_losses(target(gaussians, visible_weight=ones, hidden_weight=ones), gaussians, motion, 1.0)
    for name, loss in found.items():
        assert float(loss) == pytest.approx(0.0, abs=1e-6), name
    sum(found.values()).backward()  # type: ignore[union-attr]
    assert all(bool(torch.isfinite(p.grad).all()) for p in (motion.rots, motion.transls) if p.grad is not None)


def test_visible_points_are_compared_in_3d_and_hidden_ones_in_the_image(motion, gaussians):
    nearer = gaussians.raw["means"].detach()[:, None].expand(N, T, 3) * 0.5  # the same pixels at half the depth
    hidden = prefit_losses(target(gaussians, nearer, hidden_weight=torch.ones(N, T)), gaussians, motion, 0.0)
    assert float(hidden["prefit_2d"]) == pytest.approx(0.0, abs=1e-6)
    assert float(hidden["prefit_3d"]) == 0.0
    visible = prefit_losses(target(gaussians, nearer, visible_weight=torch.ones(N, T)), gaussians, motion, 0.0)
    assert float(visible["prefit_3d"]) == pytest.approx(float(nearer.abs().mean()), rel=1e-5)


def test_points_of_which_nothing_is_known_do_not_use_up_the_trimming(motion, gaussians):
    """Three of 60 hidden observations are off and trimmed; 40 more that were not observed are farther off still."""
    points = gaussians.raw["means"].detach()[:, None].repeat(1, T, 1)
    points[:15][torch.arange(3), 0] += torch.tensor([1.0, 0, 0])
    points[15:] += torch.tensor([9.0, 0, 0])
    weight = torch.zeros(N, T)
    weight[:15] = 1.0
    found = prefit_losses(target(gaussians, points, hidden_weight=weight), gaussians, motion, 0.0)
    assert float(found["prefit_2d"]) == pytest.approx(0.0, abs=1e-6)
