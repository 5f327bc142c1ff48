"""Blur against closed forms: ramps, discs, and the power that turns linear light into display values."""

from dataclasses import dataclass

import numpy as np
import pytest

from dyngs_plugins.sample.blur import Exposure, circle_of_confusion, expose
from dyngs_plugins.sample.cameras import Camera, OrbitPath
from dyngs_plugins.sample.clip import to_8bit
from dyngs_plugins.sample.raycast import render_linear
from dyngs_plugins.sample.scene import Scene, SceneObject, Still, build_scene
from dyngs_plugins.sample.shapes import Plane
from dyngs_plugins.sample.textures import decode, encode

FOCAL = 60.0


@dataclass(frozen=True)
class Step:
    """White to the right of x = 0, black to the left."""

    def colors(self, points, normals):
        return np.repeat((points[:, :1] > 0).astype(points.dtype), 3, axis=1)


@dataclass(frozen=True)
class Sliding:
    """A camera that slides to the left: the image of x = 0 moves right by ``pixels`` per unit of time."""

    pixels: float = 0.0
    depth: float = 4.0

    def at(self, t):
        pose = np.eye(4)
        pose[0, 3] = -self.pixels * self.depth / FOCAL * t
        return Camera(48, 8, np.array([[FOCAL, 0, 24.0], [0, FOCAL, 4.0], [0, 0, 1]]), pose)


def step_scene(depth=4.0):
    pose = np.eye(4)
    pose[2, 3] = depth
    return Scene((SceneObject("step", Plane(), Step(), Still(pose)),))


def test_no_motion_means_no_blur():
    camera = OrbitPath(32, 24).at(0.4)

    class Fixed:
        def at(self, t):
            return camera

    full = build_scene()
    static = Scene(tuple(thing for thing in full.objects if not thing.moving))
    sharp = render_linear(static, camera, 0.4, 2)
    blurred = expose(static, Fixed(), 0.4, 0.1, Exposure(fraction=1.0, subframes=7), 2)
    np.testing.assert_allclose(blurred, sharp, atol=1e-12)
    # ... and the moving objects alone do blur, in front of the same still camera.
    moved = expose(full, Fixed(), 0.4, 0.3, Exposure(fraction=1.0, subframes=7), 2)
    assert np.abs(moved - render_linear(full, camera, 0.4, 2)).max() > 0.05


def test_averages_are_taken_in_linear_light():
    """Half the exposure black, half white: 0.5 in linear light is 0.5 ** (1 / 2.2) = 0.7297 on the display."""
    linear = expose(step_scene(), Sliding(pixels=20.0), 0.0, 1.0, Exposure(fraction=1.0, subframes=2), 1)
    middle = linear[:, 23:25]
    np.testing.assert_allclose(middle, 0.5, atol=1e-12)
    assert np.unique(to_8bit(middle)).tolist() == [round(255 * 0.5 ** (1 / 2.2))] == [186]


def test_encode_and_decode_are_inverse():
    values = np.linspace(0, 1, 33)
    np.testing.assert_allclose(decode(encode(values)), values, atol=1e-12)
    assert encode(np.array(0.5)) == pytest.approx(0.7297, abs=1e-4)


def test_an_edge_in_linear_motion_becomes_a_ramp_of_the_streak_length():
    """Speed 16 px per frame, shutter half open: the box filter is 8 pixels wide."""
    image = expose(step_scene(), Sliding(pixels=16.0), 0.0, 1.0, Exposure(fraction=0.5, subframes=64), 4)
    ramp = np.clip((np.arange(48) - 23.5) / 8.0 + 0.5, 0, 1)
    np.testing.assert_allclose(image[4, :, 0], ramp, atol=0.03)


def test_more_subframes_converge():
    scene, path = build_scene(), OrbitPath(32, 24, shake=1.0)
    images = {n: expose(scene, path, 0.5, 0.15, Exposure(fraction=1.0, subframes=n), 1) for n in (2, 8, 32, 128)}
    errors = [np.abs(images[n] - images[128]).mean() for n in (2, 8, 32)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def test_a_short_exposure_tends_to_the_sharp_image():
    scene, path = build_scene(), OrbitPath(32, 24)
    sharp = render_linear(scene, path.at(0.5), 0.5, 2)
    errors = [
        np.abs(expose(scene, path, 0.5, 0.2, Exposure(fraction=f, subframes=9), 2) - sharp).mean()
        for f in (1.0, 0.1, 0.01)
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


def test_exposure_times_are_centred_and_fill_the_open_shutter():
    samples = Exposure(fraction=0.6, subframes=6).samples()
    assert [s.offset for s in samples] == pytest.approx([-0.25, -0.15, -0.05, 0.05, 0.15, 0.25])
    assert all(s.lens == (0.0, 0.0) for s in samples)
    assert [(s.offset, s.lens) for s in Exposure().samples()] == [(0.0, (0.0, 0.0))]


def test_the_focal_plane_stays_sharp_for_every_aperture():
    sharp = render_linear(step_scene(), Sliding().at(0), 0.0, 2)
    lens = Exposure(aperture=0.8, focus_distance=4.0, lens_samples=16)
    np.testing.assert_allclose(expose(step_scene(), Sliding(), 0.0, 1.0, lens, 2), sharp, atol=1e-12)


@pytest.mark.parametrize(("depth", "focus"), [(4.0, 8.0), (4.0, 2.5), (6.0, 3.0)])
def test_defocus_spreads_an_edge_over_the_circle_of_confusion(depth, focus):
    """The image of an edge under a uniform disc of radius R has a derivative of variance R^2 / 4."""
    aperture = 0.4
    radius = FOCAL * aperture * abs(1 / depth - 1 / focus)
    assert circle_of_confusion(FOCAL, aperture, np.array(depth), focus) == pytest.approx(radius)
    lens = Exposure(aperture=aperture, focus_distance=focus, lens_samples=400)
    profile = expose(step_scene(depth), Sliding(), 0.0, 1.0, lens, 2)[4, :, 0]
    spread, where = np.diff(profile), np.arange(47) + 0.5
    assert spread.sum() == pytest.approx(1)
    centre = (spread * where).sum()
    variance = (spread * (where - centre) ** 2).sum()
    assert centre == pytest.approx(23.5, abs=0.05)  # defocus does not shift the image
    assert variance == pytest.approx(radius**2 / 4 + 1 / 6, rel=0.04)  # two boxes of one pixel add 1/12 each
    touched = where[np.abs(spread) > 1e-6]
    assert np.ptp(touched) / 2 == pytest.approx(radius, abs=1.0)


def test_lens_points_fill_the_aperture_and_do_not_follow_the_time():
    samples = Exposure(fraction=1.0, subframes=9, aperture=0.2, focus_distance=4.0, lens_samples=200).samples()
    lens = np.array([s.lens for s in samples])
    assert len(samples) == 200
    radius = np.linalg.norm(lens, axis=1)
    assert radius.max() < 0.205
    assert (radius**2).mean() == pytest.approx(0.2**2 / 2, rel=0.02)
    assert abs(np.corrcoef(radius, [s.offset for s in samples])[0, 1]) < 0.2
