"""Flow and normals: values between pixels, other sizes, lenses at both ends, and files that are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dyngs_plugins.priors.flow_files import FlowFile, check_flow, flow_at, read_flow
from dyngs_plugins.priors.normal_files import check_normals, normals_at, read_normals, write_normals
from dyngs_plugins.priors.undistort import Lens
from dyngs_plugins.priors.vector_maps import between_pixels, pixel_grid, rescaled_pixels
from dyngs_plugins.priors.views import ClipViews, Priors

SIZE = (48, 64)
LENSES = torch.tensor([[0.12, 0.04, 0.01, 0.0, 0.004, -0.006], [-0.2, 0.05, -0.01, 0.0, -0.003, 0.005]])
K = torch.tensor([[[50.0, 0, 31.0], [0, 52.0, 24.5], [0, 0, 1]], [[56.0, 0, 33.0], [0, 54.0, 23.0], [0, 0, 1]]])
POSES = torch.eye(4).repeat(2, 1, 1)
POSES[1, :3, 3] = torch.tensor([0.2, -0.1, 0.15])


def plane_flow(xy: torch.Tensor) -> torch.Tensor:
    """Where the second pinhole sees what the first sees at its pixels, on a slanted plane, less the pixels."""
    ray = torch.cat([(xy.double() + 0.5 - K[0, :2, 2]) / K[0].diagonal()[:2], torch.ones(*xy.shape[:-1], 1)], dim=-1)
    points = ray * (3.0 / (1.0 + 0.2 * ray[..., :1] - 0.1 * ray[..., 1:2])) + POSES[1, :3, 3]
    return points[..., :2] / points[..., 2:] * K[1].diagonal()[:2] + K[1, :2, 2] - 0.5 - xy


def write_flow(root: Path, flow: torch.Tensor, visible: torch.Tensor | None = None, archive: bool = True) -> FlowFile:
    visible = torch.ones(flow.shape[:2], dtype=torch.bool) if visible is None else visible
    if archive:
        np.savez(root / "a_fwd.npz", flow=flow.float().numpy(), mask=visible.numpy())
        return FlowFile(root / "a_fwd.npz", 1)
    np.save(root / "a_fwd.npy", flow.float().numpy())
    np.save(root / "a_fwd_visible.npy", visible.numpy())
    return FlowFile(root / "a_fwd.npy", 1, root / "a_fwd_visible.npy")


def views_of(file: FlowFile | None, normals: Path | None = None, lenses: torch.Tensor | None = None) -> ClipViews:
    return ClipViews(
        camera_T_world=POSES,
        K=K,
        width=SIZE[1],
        height=SIZE[0],
        frame_index=torch.tensor([0, 1]),
        camera_index=torch.zeros(2, dtype=torch.long),
        num_frames=2,
        image_files=(Path("a.png"), Path("b.png")),
        priors=Priors(flow_forward=(file, None), normal_files=(normals, None)),
        distortion=lenses,
    )


# Between pixels ------------------------------------------------------------------------------------------------------


def test_between_pixels_is_bilinear_on_one_surface_and_nearest_at_its_edge():
    ramp = torch.stack(torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")[::-1], dim=-1)
    known = torch.ones(5, 6, dtype=torch.bool)
    xy = torch.tensor([[1.25, 3.5], [0.0, 0.0], [5.0, 4.0], [9.0, -3.0]])
    found, seen = between_pixels(ramp, known, xy, spread=1.0)
    torch.testing.assert_close(found, torch.tensor([[1.25, 3.5], [0.0, 0.0], [5.0, 4.0], [5.5, -0.5]]))
    assert seen.all()
    edge = ramp.clone()
    edge[:, 3:] += 10  # another thing from column 3 on
    found, _ = between_pixels(edge, known, torch.tensor([[2.4, 1.0], [2.6, 1.0]]), spread=1.0)
    torch.testing.assert_close(found, torch.tensor([[2.0, 1.0], [13.0, 11.0]]))


def test_what_is_unknown_is_mixed_into_nothing():
    values, known = torch.zeros(3, 3, 2), torch.ones(3, 3, dtype=torch.bool)
    known[1, 1] = False
    values[1, 1] = 0.9
    found, seen = between_pixels(values, known, torch.tensor([[0.4, 0.4], [0.6, 0.6]]), spread=1.0)
    assert found.tolist()[0] == [0.0, 0.0]
    assert seen.tolist() == [True, False]


@pytest.mark.parametrize("size", [(24, 32), (96, 128), (16, 21)])
@pytest.mark.parametrize("archive", [True, False])
def test_a_copy_of_another_size_has_vectors_of_its_own_pixels(tmp_path, size, archive):
    """A linear flow field is exact at any size."""
    grid = pixel_grid(SIZE)
    file = write_flow(tmp_path, torch.stack([0.1 * grid[..., 0] + 2, -0.05 * grid[..., 1]], dim=-1), archive=archive)
    xy = pixel_grid(size)
    there = rescaled_pixels(xy, size, SIZE)
    expected = torch.stack([0.1 * there[..., 0] + 2, -0.05 * there[..., 1]], dim=-1)
    expected = expected * torch.tensor([size[1] / SIZE[1], size[0] / SIZE[0]])
    found, seen = flow_at(file, xy, size)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    assert seen.all()


# Lenses --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_both_ends_of_a_vector_are_undistorted_by_their_own_lens(tmp_path, order):
    lenses = LENSES[list(order)]
    straight, drawn = Lens(K[0], lenses[0]).straighten(pixel_grid(SIZE))
    reached, shown = Lens(K[1], lenses[1]).bend(straight + plane_flow(straight))
    file = write_flow(tmp_path, reached - pixel_grid(SIZE), drawn & shown)
    found = views_of(file, lenses=lenses).flow(0, "forward")
    assert found is not None
    assert found.target == 1
    error = (found.flow - plane_flow(pixel_grid(SIZE))).norm(dim=-1)[found.visible]
    assert found.visible.float().mean() > 0.75
    assert float((error < 0.1).double().mean()) > 0.999  # in a barrel's corner vectors change by over a pixel a pixel
    assert float(error.quantile(0.99)) < 0.02
    once = views_of(file, lenses=torch.stack([lenses[0], torch.zeros(6)])).flow(0, "forward")
    assert once is not None
    assert float((once.flow - plane_flow(pixel_grid(SIZE))).norm(dim=-1)[once.visible].mean()) > 0.1


def test_vectors_that_leave_the_other_image_are_not_visible(tmp_path):
    flow = torch.zeros(*SIZE, 2)
    flow[..., 0] = 10.0
    found = views_of(write_flow(tmp_path, flow)).flow(0, "forward")
    assert found is not None
    assert torch.equal(found.visible, (pixel_grid(SIZE)[..., 0] + 10 <= SIZE[1] - 0.5))
    assert torch.equal(found.flow, flow)
    assert views_of(None).flow(0, "forward") is None
    assert views_of(None).flow(1, "backward") is None


def test_normals_are_turned_into_the_frame_of_the_cameras(tmp_path):
    """A wall seen at an angle, by a camera that looks along -x: its normal comes out as it is in the world."""
    world_R_camera = torch.tensor([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
    world = torch.nn.functional.normalize(torch.tensor([1.0, 0.3, -0.2]), dim=0)
    local = (world_R_camera.T @ world).expand(*SIZE, 3)
    write_normals(tmp_path / "n.npy", local.numpy())
    views = views_of(None, tmp_path / "n.npy", LENSES)
    turned = POSES.clone()
    turned[0, :3, :3] = world_R_camera.T
    found = replace(views, camera_T_world=turned).normals(0)
    drawn = views.valid(0)
    torch.testing.assert_close(found[drawn], world.expand(int(drawn.sum()), 3), atol=1e-5, rtol=0)
    assert not found[~drawn].any()
    assert not views.normals(1).any()  # an image without a file
    small = views.rescaled(turned, 0.1).normals(0)
    torch.testing.assert_close(small, found)  # a direction has no unit


# Files ---------------------------------------------------------------------------------------------------------------


def test_normals_in_every_order_of_axes(tmp_path):
    normals = torch.nn.functional.normalize(torch.randn(6, 8, 3), dim=-1)
    normals[..., 2] = -normals[..., 2].abs()
    normals[0, 0] = 0.0
    for array in (normals, normals.permute(2, 0, 1), normals[None], normals.permute(2, 0, 1)[None], normals * 1.1):
        np.save(tmp_path / "n.npy", array.numpy())
        check_normals(tmp_path / "n.npy", (8, 6))
        torch.testing.assert_close(read_normals(tmp_path / "n.npy"), normals)
    half = normals_at(tmp_path / "n.npy", pixel_grid((3, 4)), (3, 4))
    lengths = half.norm(dim=-1)
    assert ((lengths - 1).abs() < 1e-4).all() | (lengths == 0).any()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.full((6, 8, 3), np.nan), "48 of 48 normals are NaN"),
        (np.full((6, 8, 3), 200.0), "the vectors are 346 long"),
        (np.tile([0.0, 0, 1], (6, 8, 1)), "100% of the normals point away from the camera"),
        (np.zeros((6, 8)), r"an array of shape \(6, 8\). Expected normals"),
        (np.tile([0.0, 0, -1], (6, 4, 1)), "the normals are 4x6, but the image is 8x6"),
        (np.array([print], object), "cannot be read as a normal map"),
    ],
)
def test_files_that_hold_no_normals(tmp_path, array, said):
    np.save(tmp_path / "n.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=said):
        normals_at(tmp_path / "n.npy", pixel_grid((6, 8)), (6, 8))


def spoiled(root: Path, **arrays) -> FlowFile:
    with open(root / "a_fwd.npz", "wb") as file:
        np.savez(file, **arrays)
    return FlowFile(root / "a_fwd.npz", 1)


FLAT = {"flow": np.zeros((*SIZE, 2), np.float32), "mask": np.ones(SIZE, bool)}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"flow": FLAT["flow"]}, "it lacks mask"),
        (FLAT | {"flow": np.zeros((2, *SIZE))}, r"shape \(2, 48, 64\). Expected flow \[h, w, 2\]"),
        (FLAT | {"mask": np.ones((48, 60))}, "the flow's mask is 60x48, expected 64x48"),
        (FLAT | {"flow": np.array([print], object)}, "holds object, not numbers"),
        ({"flow": np.zeros((48, 48, 2)), "mask": np.ones((48, 48))}, "the flow is 48x48, but its image is 64x48"),
    ],
)
def test_headers_say_what_is_no_flow(tmp_path, arrays, said):
    with pytest.raises(ValueError, match=said):
        check_flow(spoiled(tmp_path, **arrays), (SIZE[1], SIZE[0]))


def test_values_are_looked_at_when_they_are_read(tmp_path):
    flow = FLAT["flow"].copy()
    flow[3, 4] = np.inf
    file = spoiled(tmp_path, **(FLAT | {"flow": flow}))
    check_flow(file, (SIZE[1], SIZE[0]))
    with pytest.raises(ValueError, match="1 of 3072 vectors are NaN or infinite"):
        read_flow(file)
    content = file.path.read_bytes()
    file.path.write_bytes(content[: len(content) // 2])
    for look in (read_flow, lambda f: check_flow(f, (SIZE[1], SIZE[0]))):
        with pytest.raises(ValueError, match="cannot be read as flow"):
            look(file)
    file.path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a_fwd.npz: no such flow file"):
        check_flow(file, (SIZE[1], SIZE[0]))


@pytest.mark.parametrize("archive", [True, False])
def test_a_mask_with_nan_hides_no_pixel_in_silence(tmp_path, archive):
    visible = torch.ones(SIZE)
    visible[0] = torch.nan
    file = write_flow(tmp_path, torch.zeros(*SIZE, 2), visible, archive)
    with pytest.raises(ValueError, match=r"64 of 3072 values of the flow's mask are NaN.* Compute it again"):
        read_flow(file)
