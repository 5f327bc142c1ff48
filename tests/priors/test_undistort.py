"""Images, masks, depths, tracks and marked points of a lens end up where a pinhole sees them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from nerfstudio.cameras.camera_utils import radial_and_tangential_undistort
from PIL import Image

from dyngs_plugins.priors.clip_files import GroundTruthTracks, Keypoints
from dyngs_plugins.priors.lifting import project
from dyngs_plugins.priors.som_files import write_depth, write_mask
from dyngs_plugins.priors.tracks import TrackObservations, TrackStore
from dyngs_plugins.priors.undistort import Lens, PixelMap, UndistortedTracks, undistorted_keypoints, undistorted_truth
from dyngs_plugins.priors.views import ClipViews, Priors

WIDTH, HEIGHT = 128, 96
K = torch.tensor([[100.0, 0, 61.0], [0, 104.0, 49.5], [0, 0, 1]])
LENSES = {
    "pincushion": (0.12, 0.04, 0.01, 0.0, 0.004, -0.006),
    "barrel": (-0.2, 0.05, -0.01, 0.0, -0.003, 0.005),
    "four radial terms": (0.05, 0.02, -0.01, 0.03, 0.002, 0.001),
}


@pytest.fixture(params=LENSES.values(), ids=LENSES.keys())
def lens(request) -> Lens:
    return Lens(K, torch.tensor(request.param))


def pixels() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack([x, y], dim=-1).float()


def board(xy: torch.Tensor) -> torch.Tensor:
    """A smooth checkerboard painted on the plane z = 1, by pinhole pixels; exact at any place."""
    x, y = xy.double().unbind(-1)
    return 0.5 + 0.45 * torch.sin(2 * np.pi * x / 16) * torch.sin(2 * np.pi * y / 16)


def test_the_equations_are_opencvs_and_nerfstudios(lens):
    k1, k2, k3, k4, p1, p2 = lens.terms.tolist()
    xy = pixels().reshape(-1, 2)[::7]
    straight, found = lens.straighten(xy)
    assert found.all()
    plane = (xy + 0.5 - K[:2, 2]) / K.diagonal()[:2]
    theirs = radial_and_tangential_undistort(plane.double(), lens.terms.double().expand(len(xy), 6))
    torch.testing.assert_close(straight, (theirs * K.diagonal()[:2] + K[:2, 2] - 0.5).float(), atol=2e-3, rtol=0)
    if k4 == 0:
        stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
        terms = np.array([k1, k2, p1, p2, k3])
        bent = (xy + 0.5).double().numpy()[:, None]
        cvs = cv2.undistortPointsIter(bent, K.double().numpy(), terms, np.eye(3), K.double().numpy(), stop)[:, 0]
        np.testing.assert_allclose(straight.numpy() + 0.5, cvs, atol=2e-3)
        points = torch.cat([plane, torch.ones(len(plane), 1)], dim=1).double().numpy()
        drawn = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K.double().numpy(), terms)[0][:, 0]
        np.testing.assert_allclose(lens.bend(xy)[0].numpy() + 0.5, drawn, atol=2e-3)


def test_bending_and_straightening_are_inverse(lens):
    xy = pixels()
    bent, drawn = lens.bend(xy)
    back, found = lens.straighten(bent)
    assert (found | ~drawn).all()
    torch.testing.assert_close(back[drawn], xy[drawn], atol=1e-3, rtol=0)


def test_a_checkerboard_comes_out_straight(lens):
    """What a lens drew of a board, undistorted, is the board as the pinhole sees it: within 0.1 px of a slope."""
    straight, _ = lens.straighten(pixels())
    on_disk = (board(straight) * 255).round().to(torch.uint8)[..., None].expand(-1, -1, 3)
    mapped = PixelMap.of(lens, (HEIGHT, WIDTH))
    found = mapped.bilinear(on_disk.contiguous()).double() / 255
    expected = board(pixels())
    slope = 0.45 * 2 * np.pi / 16  # the steepest per pixel
    inner = inside(mapped)
    off = (found[..., 0] - expected).abs()[inner]
    assert float(off.max()) < 0.1 * slope + 0.5 * (2 * np.pi / 16) ** 2 * 0.45 / 4 + 1 / 255  # + bilinear's own error
    shift = best_shift(found[..., 0], expected, inner)
    assert max(map(abs, shift)) < 0.02  # a mistake about pixel centres would show as half a pixel
    assert float(found[~mapped.valid].abs().max() if (~mapped.valid).any() else 0) == 0.0


def inside(mapped: PixelMap) -> torch.Tensor:
    """Pixels whose source is inside the outermost pixel centres, so that nothing is padded."""
    last = torch.tensor([WIDTH - 1, HEIGHT - 1])
    return mapped.valid & ((mapped.xy >= 0) & (mapped.xy <= last)).all(dim=-1)


def best_shift(found: torch.Tensor, expected: torch.Tensor, inner: torch.Tensor) -> tuple[float, float]:
    """The translation in pixels that explains the difference best, by least squares on the true gradient."""
    gx = torch.zeros_like(expected)
    gy = torch.zeros_like(expected)
    gx[:, 1:-1] = (expected[:, 2:] - expected[:, :-2]) / 2
    gy[1:-1] = (expected[2:] - expected[:-2]) / 2
    inner = inner.clone()
    inner[0], inner[-1], inner[:, 0], inner[:, -1] = False, False, False, False
    rows = torch.stack([gx[inner], gy[inner]], dim=1)
    return tuple(torch.linalg.lstsq(rows, (found - expected)[inner][:, None]).solution[:, 0].tolist())


# Views ---------------------------------------------------------------------------------------------------------------

POSE = torch.eye(4)


def plane_depth(xy: torch.Tensor) -> torch.Tensor:
    """z-depth of a slanted plane, by pinhole pixels."""
    ray = (xy.double() + 0.5 - K[:2, 2]) / K.diagonal()[:2]
    return 3.0 / (1.0 + 0.4 * ray[..., 0] - 0.3 * ray[..., 1])


def on_disc(xy: torch.Tensor) -> torch.Tensor:
    return (xy - torch.tensor([80.0, 40.0])).norm(dim=-1) < 20


class Store(TrackStore):
    """A point every eighth pixel of what lies on disk, tracked into itself."""

    def targets(self, query):
        return torch.tensor([query])

    def query_points(self, query):
        return pixels()[::8, ::8].reshape(-1, 2)

    def observe(self, query, target, rows=None):
        xy = self.query_points(query)
        xy = xy if rows is None else xy[rows]
        sure = torch.ones(len(xy), dtype=torch.bool)
        return TrackObservations(xy, sure, ~sure, torch.ones(len(xy)))


def write_view(root: Path, lens: Lens, alpha: bool = False, masks: bool = True) -> ClipViews:
    """One view on disk as its lens draws it: the board, a disc that moves, the plane's depth."""
    straight, _ = lens.straighten(pixels())
    image = (board(straight) * 255).round().to(torch.uint8)[..., None].expand(-1, -1, 3)
    if alpha:
        image = torch.cat([image, on_disc(straight).to(torch.uint8)[..., None] * 255], dim=-1)
    Image.fromarray(image.numpy()).save(root / "image.png")
    write_depth(root / "depth.npy", plane_depth(straight).float().numpy())
    write_mask(root / "mask.png", on_disc(straight).numpy())
    files = {name: (root / name,) for name in ("image.png", "depth.npy", "mask.png")}
    return ClipViews(
        camera_T_world=POSE[None],
        K=K[None],
        width=WIDTH,
        height=HEIGHT,
        frame_index=torch.zeros(1, dtype=torch.long),
        camera_index=torch.zeros(1, dtype=torch.long),
        num_frames=1,
        image_files=files["image.png"],
        priors=Priors(
            depth_files=files["depth.npy"],
            mask_files=files["mask.png"] if masks else None,
            covisible_files=files["mask.png"],
            valid_files=files["image.png"],
            depth_kind="depth",
            depth_median=1,
            mask_erosion=1,
            tracks=Store(),
        ),
        distortion=lens.terms[None],
    )


def test_everything_of_a_view_is_undistorted_together(tmp_path, lens):
    views = write_view(tmp_path, lens)
    mapped = PixelMap.of(lens, (HEIGHT, WIDTH))
    valid, xy = mapped.valid, pixels()
    assert torch.equal(views.valid(0), valid)
    # Nearest sampling is off by at most half a pixel of disk, a slanted plane's depth by that much of its slope.
    depth, true = views.depth(0), plane_depth(xy).float()
    assert (depth[~valid] == 0).all()
    slope = 3.0 * 0.5 / 100 * (true / 3).square() * 1.5  # |d depth / d pixel|, with the lens' enlargement
    assert ((depth - true).abs() < slope)[valid].all()
    moving = views.dynamic(0)
    assert (moving[~valid] == 0).all()
    rim = ((xy - torch.tensor([80.0, 40.0])).norm(dim=-1) - 20).abs() < 1
    assert torch.equal((moving == 1)[valid & ~rim], on_disc(xy)[valid & ~rim])
    assert torch.equal((moving == -1)[valid & ~rim], ~on_disc(xy)[valid & ~rim])
    assert torch.equal(views.covisible(0)[~rim], (on_disc(xy) & valid)[~rim])
    inner = inside(mapped)
    assert max(map(abs, best_shift(views.image(0)[..., 0].double(), board(xy), inner))) < 0.02


def test_tracks_land_where_the_pinhole_sees_their_points(tmp_path, lens):
    views = write_view(tmp_path, lens)
    store = views.tracks
    assert isinstance(store, UndistortedTracks)
    on_disk = Store().query_points(0)
    straight, _ = lens.straighten(on_disk)
    ray = (straight.double() + 0.5 - K[:2, 2]) / K.diagonal()[:2]
    points = torch.cat([ray, torch.ones(len(ray), 1)], dim=1) * plane_depth(straight)[:, None]
    expected, _ = project(points.float(), POSE, K)
    seen = store.observe(0, 0)
    shown = ((expected >= -0.5) & (expected <= torch.tensor([WIDTH - 0.5, HEIGHT - 0.5]))).all(dim=-1)
    assert torch.equal(seen.visible, shown)
    assert shown.float().mean() > 0.7
    assert float((seen.xy - expected)[shown].abs().max()) < 0.1
    assert (seen.confidence[~shown] == 0).all()
    assert not seen.invisible.any()
    queries = store.query_points(0)
    last = torch.tensor([WIDTH - 1, HEIGHT - 1])
    assert ((queries >= 0) & (queries <= last)).all()  # they index rendered images
    some = store.observe(0, 0, torch.tensor([3, 40, 7]))
    torch.testing.assert_close(some.xy, seen.xy[[3, 40, 7]])
    assert torch.equal(some.visible, seen.visible[[3, 40, 7]])
    assert store.targets(0).tolist() == [0]


def test_marked_points_and_true_tracks_too(tmp_path, lens):
    views = write_view(tmp_path, lens)
    straight = torch.tensor([[30.0, 20.0], [100.5, 80.25]])
    bent, _ = lens.bend(straight)
    truth = GroundTruthTracks(
        points=torch.zeros(2, 3, 3),
        xy=bent[:, None].repeat(1, 3, 1),
        visible=torch.ones(2, 3, dtype=torch.bool),
        moving=torch.ones(2, dtype=torch.bool),
        query_frame=torch.zeros(2, dtype=torch.long),
        camera="camera0",
    )
    found = undistorted_truth(truth, views)
    torch.testing.assert_close(found.xy, straight[:, None].repeat(1, 3, 1), atol=1e-2, rtol=0)
    assert found.visible.all()
    keypoints = Keypoints(torch.tensor([0]), bent[None], torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(undistorted_keypoints(keypoints, views).xy[0], straight, atol=1e-2, rtol=0)
    pinholes = replace(views, distortion=None)
    assert torch.equal(undistorted_truth(truth, pinholes).xy, truth.xy)


def test_alpha_is_undistorted_with_the_colours_it_belongs_to(tmp_path, lens):
    views = replace(write_view(tmp_path, lens, alpha=True), background="white")
    xy = pixels()
    mapped = PixelMap.of(lens, (HEIGHT, WIDTH))
    outside = (xy - torch.tensor([80.0, 40.0])).norm(dim=-1) > 22
    inside_disc = (xy - torch.tensor([80.0, 40.0])).norm(dim=-1) < 18
    image = views.image(0)
    assert (image[outside] == 1).all()
    kept = inside_disc & inside(mapped)
    assert float((image[..., 0] - board(xy)).abs()[kept].max()) < 0.05
    rim = mapped.valid & ~outside & ~inside_disc
    assert float(image[rim].min()) > 0.02  # what alpha hides does not bleed in as black
    assert torch.equal(views.valid(0)[kept], torch.ones_like(kept)[kept])
    assert not views.valid(0)[outside].any()


def test_a_folding_lens_draws_nothing_beyond_its_fold():
    lens = Lens(K, torch.tensor([-0.9, 0.0, 0.0, 0.0, 0.0, 0.0]))
    mapped = PixelMap.of(lens, (HEIGHT, WIDTH))
    plane = (pixels() + 0.5 - K[:2, 2]) / K.diagonal()[:2]
    assert torch.equal(mapped.valid, plane.square().sum(-1) < 1 / 2.7)  # r (1 - 0.9 r^2) turns at r^2 = 1 / 2.7
    assert (~mapped.valid).any()


def test_views_without_a_lens_among_others_with_one(tmp_path, lens):
    one = write_view(tmp_path, lens)
    views = replace(
        one,
        camera_T_world=POSE.expand(2, 4, 4),
        K=K.expand(2, 3, 3),
        frame_index=torch.tensor([0, 1]),
        camera_index=torch.tensor([0, 1]),
        num_frames=2,
        image_files=one.image_files * 2,
        priors=replace(one.priors, depth_files=one.priors.depth_files * 2, valid_files=None),
        distortion=torch.stack([lens.terms, torch.zeros(6)]),
    )
    assert not torch.equal(views.pixels(0), views.pixels(1))
    raw = torch.from_numpy(np.array(Image.open(one.image_files[0])))
    assert torch.equal(views.pixels(1), raw)
    assert views.valid(1).all()
    assert views.pixels(0) is views.pixels(0)
