"""The float64 reference itself, on scenes whose image can be written down."""

from __future__ import annotations

import math

import pytest
import torch

from dyngs_plugins.raster.ambiguous import ambiguous_pixels
from dyngs_plugins.raster.dense import DenseBackend
from dyngs_plugins.raster.semantics import semantics_of

OLD, OPACITY_RULE, NEWEST = (semantics_of(version) for version in ("1.4.0", "1.5.3", "1.6.0"))


def composite(means2d, variances, opacities, colors, depths, size, radii=None, background=None, semantics=OLD):
    """Round Gaussians with the given variances (pixels squared), seen by one camera."""
    means2d, variances, opacities, depths = (torch.tensor(v).double() for v in (means2d, variances, opacities, depths))
    conics = torch.stack([1 / variances, torch.zeros_like(variances), 1 / variances], -1)
    radii = torch.ceil(3 * (variances + 0.1).sqrt()) if radii is None else torch.tensor(radii)
    image, alpha = DenseBackend(semantics).composite(
        means2d[None],
        conics[None],
        torch.tensor(colors).double()[:, None],
        opacities,
        radii.int()[None],
        depths[None],
        None if background is None else torch.tensor([[background]]),
        *size,
        absgrad=False,
    )
    return image[0, ..., 0], alpha[0, ..., 0]


def test_one_gaussian_is_its_bell_over_the_background():
    image, alpha = composite([[5.2, 4.7]], [4.0], [0.8], [3.0], [1.0], (11, 9), background=2.0)
    for x, y in [(5, 4), (0, 0), (9, 2)]:
        bell = 0.8 * math.exp(-((5.2 - x - 0.5) ** 2 + (4.7 - y - 0.5) ** 2) / 8)
        bell = bell if bell >= 1 / 255 else 0.0
        assert alpha[y, x].item() == pytest.approx(bell)
        assert image[y, x].item() == pytest.approx(3.0 * bell + 2.0 * (1 - bell))


def test_the_nearer_gaussian_covers_the_farther():
    image, alpha = composite([[2.5, 2.5]] * 2, [9.0] * 2, [0.5, 0.4], [1.0, 10.0], [2.0, 1.0], (5, 5))
    assert image[2, 2].item() == pytest.approx(0.4 * 10.0 + 0.6 * 0.5 * 1.0)
    assert alpha[2, 2].item() == pytest.approx(1 - 0.6 * 0.5)


def test_alpha_has_an_upper_limit():
    for semantics, limit in ((OLD, 0.999), (NEWEST, 0.99)):
        _, alpha = composite([[2.5, 2.5]], [9.0], [1.0], [1.0], [1.0], (5, 5), semantics=semantics)
        assert alpha[2, 2].item() == pytest.approx(limit)


def test_compositing_stops_before_the_transmittance_is_used_up():
    """0.1^3 = 1e-3 is left after three; a fourth would leave 1e-4 or less, so it and the fifth are dropped."""
    n = 5
    image, alpha = composite([[2.5, 2.5]] * n, [1e9] * n, [0.9001] * n, [1.0] * n, list(range(1, n + 1)), (5, 5))
    assert alpha[2, 2].item() == pytest.approx(1 - 0.0999**3)
    # A weaker Gaussian behind the one that stopped it is not drawn either.
    _, alpha = composite([[2.5, 2.5]] * n, [1e9] * n, [0.9001] * 4 + [0.1], [1.0] * n, list(range(1, n + 1)), (5, 5))
    assert alpha[2, 2].item() == pytest.approx(1 - 0.0999**3)


def test_a_gaussian_ends_with_the_last_tile_its_square_touches():
    """Radius 5 around x = 11.5 reaches 16.5, so tile 1 (x from 16) is drawn; around x = 10.5 it is not."""
    for x, touches in ((11.5, True), (10.5, False), (11.0, False)):
        _, alpha = composite([[x, 8.0]], [30.0], [0.9], [1.0], [1.0], (48, 16), radii=[5])
        assert (alpha[8, 15] > 0.3).item()
        assert (alpha[8, 16] > 0).item() == touches
        assert (alpha[8, 31] == 0).item() == (not touches or 0.9 * math.exp(-((31.5 - x) ** 2) / 60) < 1 / 255)
        assert (alpha[8, 32] == 0).item()


def project(covar, z=2.0, opacity=0.5, semantics=OLD, antialiased=False, eps2d=0.3, mean=(0.0, 0.0)):
    means = torch.tensor([[*mean, z]], dtype=torch.float64)
    K = torch.tensor([[[20.0, 0, 16], [0, 20.0, 16], [0, 0, 1]]])
    covars = torch.tensor(covar, dtype=torch.float64)[None]
    return DenseBackend(semantics).project(
        means,
        None,
        None,
        covars,
        torch.tensor([opacity]),
        torch.eye(4)[None],
        K,
        32,
        32,
        eps2d,
        0.01,
        1e10,
        0.0,
        antialiased,
    )


def test_projection_on_the_axis():
    """At the image centre the covariance is (f/z)^2 times the world's, plus the blur."""
    radii, means2d, depths, conics, compensations = project([[0.04, 0, 0], [0, 0.09, 0], [0, 0, 7.0]], antialiased=True)
    a, c = 100 * 0.04, 100 * 0.09
    assert means2d[0, 0].tolist() == [16.0, 16.0]
    assert depths[0, 0].item() == 2.0
    torch.testing.assert_close(conics[0, 0], torch.tensor([1 / (a + 0.3), 0, 1 / (c + 0.3)]).double())
    assert radii[0, 0].item() == math.ceil(3 * math.sqrt(c + 0.3))
    assert compensations[0, 0].item() == pytest.approx(math.sqrt(a * c / ((a + 0.3) * (c + 0.3))))


def test_radius_of_a_round_gaussian_has_a_floor():
    """sqrt(b^2 - det) is 0 for a round one; gsplat 1.4 takes at least 0.1, so 3 sqrt(3.98) = 5.98 becomes 6.06."""
    radii, *_ = project([[0.0368, 0, 0], [0, 0.0368, 0], [0, 0, 0.04]])
    assert radii[0, 0].item() == 7


def test_radius_follows_opacity_in_later_versions():
    covar = [[0.04, 0, 0], [0, 0.09, 0], [0, 0, 0.01]]
    for opacity in (1.0, 0.2, 0.004, 0.0039):
        radii, *_ = project(covar, opacity=opacity, semantics=OPACITY_RULE)
        sigmas = min(3.33, math.sqrt(2 * math.log(255 * opacity))) if opacity >= 1 / 255 else 0
        assert radii[0, 0].item() == math.ceil(sigmas * math.sqrt(9.3))


def test_compensation_has_a_floor_in_the_newest_version():
    flat = [[0.0, 0, 0], [0, 0.0, 0], [0, 0, 1.0]]
    assert project(flat, antialiased=True)[4][0, 0].item() == 0.0
    assert project(flat, antialiased=True, semantics=NEWEST, opacity=1.0)[4][0, 0].item() == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("opacity", "nudge", "expected"),
    [(0.5, 0.0, False), ((1 + 5e-5) / 255, 0.0, True), ((1 - 5e-5) / 255, 0.0, True), ((1 + 5e-3) / 255, 0.0, False)],
)
def test_ambiguous_alpha(opacity, nudge, expected):
    assert _ambiguous([2.5], [1e9], [opacity], [1.0])[2, 2].item() is expected


def test_ambiguous_depths():
    assert not _ambiguous([2.5, 2.5], [9.0, 9.0], [0.5, 0.5], [1.0, 1.001]).any()
    assert _ambiguous([2.5, 2.5], [9.0, 9.0], [0.5, 0.5], [1.0, 1.0 + 1e-8])[2, 2]


def test_ambiguous_transmittance():
    assert _ambiguous([2.5] * 2, [1e9] * 2, [0.99] * 2, [1.0, 2.0])[2, 2]
    assert not _ambiguous([2.5] * 2, [1e9] * 2, [0.98] * 2, [1.0, 2.0]).any()


def test_ambiguous_tile():
    variance = 100.0
    radius = math.ceil(3 * math.sqrt(100.1))
    assert _ambiguous([48.0 - radius], [variance], [0.9], [1.0], width=64)[2, 48]
    assert not _ambiguous([48.3 - radius], [variance], [0.9], [1.0], width=64).any()
    assert not _ambiguous([48.0 - radius], [variance], [0.9], [1.0], width=64, semantics=OPACITY_RULE).any()


def _ambiguous(xs, variances, opacities, depths, width=5, semantics=OLD):
    means2d = torch.tensor([[[x, 2.5] for x in xs]])
    variances = torch.tensor([variances])
    conics = torch.stack([1 / variances, torch.zeros_like(variances), 1 / variances], -1)
    radii = torch.ceil(3 * (variances.double() + 0.1).sqrt()).int()
    depths = torch.tensor([depths], dtype=torch.float64)
    return ambiguous_pixels(means2d, conics, torch.tensor([opacities]).double(), radii, depths, width, 5, semantics)[0]
