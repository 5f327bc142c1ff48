"""How a scene starts: moving Gaussians from lifted tracks or from points, static ones from points.

Source: Shape of Motion; the sheet's sections 1.4, 1.5 and 2.1.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dyngs_plugins import randomness
from dyngs_plugins.gaussian_sets import GaussianSet, logit
from dyngs_plugins.motion.base import MotionField
from dyngs_plugins.motion.track_gaps import best_seen, interpolate_tracks
from dyngs_plugins.moving_points import PointsFrom, moving_points
from dyngs_plugins.priors.lifting import Tracks3D, background_points, lift_tracks
from dyngs_plugins.priors.seed import cloud_points, random_points
from dyngs_plugins.priors.views import ClipViews


@dataclass
class InitialiseConfig:
    """Numbers of Gaussians to start from."""

    num_dynamic: int = 40_000
    """Moving Gaussians, one per lifted track or point (fewer where the clip has fewer of them)."""
    num_static: int = 100_000
    """Background Gaussians (fewer where the clip has fewer points)."""
    static_points: PointsFrom = "auto"
    """What background Gaussians start from. ``depth``: unprojected depth. ``points``: the layout's point cloud.
    ``random``: anywhere in what the cameras see in common. ``auto``: the first of these that the clip has."""
    static_from: Literal["keyframes", "frames"] = "keyframes"
    """Where points from depth come from. ``keyframes``: each key-frame in turn adds what the earlier ones' bounding box
    does not cover (the reference). ``frames``: an equal share from every frame, which also covers what something hides
    in the first ones."""
    dynamic_points: PointsFrom = "auto"
    """The same for moving Gaussians of fields that start from points instead of tracks."""
    dynamic_from: Literal["middle", "frames"] = "middle"
    """When such points of moving things are seen. ``middle``: in the middle of the clip, for a field that moves one
    pose. ``frames``: at every time step, for a field whose Gaussians live for a while."""
    opacity: float = 0.7
    """Of every Gaussian at the start."""
    seed: int | None = None
    """Picks tracks, points and clusters. None: that of ``--machine.seed``."""


def select_tracks(tracks: Tracks3D, frame: int) -> Tracks3D:
    """Drop tracks that are never visible, and those farther from the per-axis median in ``frame`` than 95 % are."""
    points = interpolate_tracks(tracks.points, tracks.visible)[:, frame]
    seen = tracks.visible.any(dim=1)
    distance = (points - points[seen].median(dim=0).values).norm(dim=-1)
    bar = distance[seen].kthvalue(max(1, int(0.95 * int(seen.sum())))).values
    return tracks.select(seen & (distance <= bar))


def start_dynamic(
    gaussians: GaussianSet, motion: MotionField, tracks: Tracks3D, opacity: float, generator: torch.Generator
) -> Tracks3D:
    """Fill the dynamic set (one Gaussian per track) and start the motion field; returns the tracks it used.

    Centres are the tracks' positions in the canonical frame: interpolated in time where a track is not visible there
    (the reference takes the lifted depth of whatever hides it), unless the field knows better where it then is.
    Scales are the mean distance to the three nearest centres, clipped to the 5-95 % range.
    """
    frame = best_seen(tracks.visible)  # the canonical one
    tracks = select_tracks(tracks, frame)
    columns = dict(motion.initialise(tracks, frame, generator))
    means = columns.pop("means", interpolate_tracks(tracks.points, tracks.visible)[:, frame])
    distances = nearest_distances(means)
    low = distances.kthvalue(max(1, int(0.05 * distances.numel()))).values
    high = distances.kthvalue(max(1, int(0.95 * distances.numel()))).values
    quats = torch.rand(means.shape[0], 4, generator=generator)
    _fill(gaussians, means, quats, distances.clamp(low, high), tracks.colors, opacity, columns)
    return tracks


def start_from_points(
    config: InitialiseConfig,
    views: ClipViews,
    gaussians: GaussianSet,
    motion: MotionField,
    whole_scene: bool,
    generator: torch.Generator,
) -> float:
    """Fill the dynamic set from points and start the motion field; returns the set's extent (see `start_static`)."""
    found = moving_points(
        views, config.num_dynamic, config.dynamic_points, config.dynamic_from == "frames", whole_scene, generator
    )
    columns = motion.start_from_points(found.points, found.times, generator)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(found.points), 4)
    _fill(gaussians, found.points, quats, nearest_distances(found.points), found.colors, config.opacity, columns)
    return _extent(found.points)


def start_static(
    gaussians: GaussianSet,
    points: Float[Tensor, "n 3"],
    normals: Float[Tensor, "n 3"],
    colors: Float[Tensor, "n 3"],
    opacity: float,
) -> float:
    """Fill the static set from background points; returns its extent (half the largest 5-95 % width)."""
    _fill(gaussians, points, rotate_z_to(normals), nearest_distances(points), colors, opacity, {})
    return _extent(points)


def _extent(points: Float[Tensor, "n 3"]) -> float:
    if points.shape[0] < 20:
        return 1.0
    spread = torch.quantile(points, 0.95, dim=0) - torch.quantile(points, 0.05, dim=0)
    return max(float(spread.max()) / 2, 1e-6)


def static_points(
    config: InitialiseConfig, views: ClipViews, generator: torch.Generator
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Points, normals (0 where unknown) and colours that background Gaussians start from.

    Raises:
        ValueError: the config asks for depth or points that the clip does not have.
    """
    kind, has_points = config.static_points, views.points is not None and len(views.points) > 0
    if kind == "depth" or (kind == "auto" and views.priors.depth_files is not None):
        source = views if config.static_from == "keyframes" else replace(views, keyframes=None)
        found = background_points(source.cached_in(views.cache), config.num_static, generator)
        if len(found[0]) > 0 or kind == "depth" or not has_points:
            return found
    if has_points and kind != "random":
        points, colors = cloud_points(views, config.num_static, generator)
    elif kind == "points":
        raise ValueError(
            "The static Gaussians were to start from the layout's point cloud, but this clip has none. Leave "
            "--pipeline.model.initialise.static-points at 'auto', or add a COLMAP model or a point file to the clip."
        )
    else:
        if kind == "auto":
            warnings.warn(
                f"The clip has neither depth nor a point cloud: the static Gaussians start from {config.num_static} "
                "RANDOM points in what the cameras see in common, which costs quality. Add points (a COLMAP model) or "
                "depth (`dyngs process`) to start from the scene's surfaces.",
                stacklevel=2,
            )
        points, colors = random_points(views, config.num_static, generator)
    return points, torch.zeros_like(points), colors


def _fill(gaussians: GaussianSet, means, quats, sizes, colors, opacity: float, columns) -> None:
    n = means.shape[0]
    width = 1 if gaussians.isotropic else 3
    gaussians.load_rows(
        {
            "means": means,
            "quats": quats,
            "scales": torch.log(sizes)[:, None].expand(n, width),
            "opacities": logit(torch.full((n,), opacity)),
            **gaussians.color_columns(colors),
            **columns,
        }
    )


def _from_tracks(
    config: InitialiseConfig, views: ClipViews, gaussians: GaussianSet, motion: MotionField, generator: torch.Generator
) -> Tracks3D | None:
    """Fill the dynamic set from lifted tracks; None where there are none and the field does not need any."""
    if motion.starts_from == "tracks if any":
        if views.tracks is None or views.priors.depth_files is None or views.priors.mask_files is None:
            return None
    elif views.tracks is None:
        raise ValueError(
            "This method starts its moving Gaussians from point tracks, but the clip has none. Make them with "
            "`dyngs process FOLDER --out CLIP`, or train a method that needs none, such as `dyn-4dgs`; `dyngs inspect "
            "FOLDER` lists them."
        )
    tracks = lift_tracks(views, config.num_dynamic, generator)
    if tracks.points.shape[0] > 0:
        return start_dynamic(gaussians, motion, tracks, config.opacity, generator)
    if motion.starts_from == "tracks if any":
        return None
    raise ValueError(
        f"Of the clip's tracks none could be lifted to 3-D: found 0 that lie on a moving mask with known depth "
        f"in {len(views)} frames. Check the masks (white = moving) and the depth at the moving pixels. If nothing moves, "
        "train `dyn-static`."
    )


def start_scene(
    config: InitialiseConfig,
    views: ClipViews,
    dynamic: GaussianSet | None,
    static: GaussianSet | None,
    motion: MotionField,
) -> tuple[Tracks3D | None, dict[str, float]]:
    """Fill both sets from a clip's priors. Returns the tracks of the dynamic rows (for a pre-fit) and set extents.

    Where nothing moves and no tracks can be lifted, the dynamic set stays empty.

    Raises:
        ValueError: the clip lacks what a set starts from (tracks for moving Gaussians; see :func:`static_points` and
            :func:`~dyngs_plugins.moving_points.moving_points`).
    """
    generator = randomness.generator(config.seed)
    tracks: Tracks3D | None = None
    extents: dict[str, float] = {}
    if dynamic is not None and motion.starts_from == "points":
        extents[dynamic.name] = start_from_points(config, views, dynamic, motion, static is None, generator)
    elif dynamic is not None:
        tracks = _from_tracks(config, views, dynamic, motion, generator)
        if tracks is not None:
            extents[dynamic.name] = 1.0
    if static is not None:
        points, normals, colors = static_points(config, views, generator)
        extents[static.name] = start_static(static, points, normals, colors, config.opacity)
    return tracks, extents


def nearest_distances(points: Float[Tensor, "n 3"], neighbours: int = 3) -> Float[Tensor, "n"]:
    """Mean distance of each point to its nearest ``neighbours`` other points (0 rows or 1 row: a distance of 0.01)."""
    from scipy.spatial import KDTree

    n = points.shape[0]
    if n < 2:
        return points.new_full((n,), 0.01)
    array = points.detach().cpu().double().numpy()
    distances, _ = KDTree(array).query(array, k=min(neighbours, n - 1) + 1)
    return torch.as_tensor(distances[:, 1:].mean(-1), dtype=points.dtype, device=points.device).clamp_min(1e-6)


def rotate_z_to(normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """The unit quaternion (wxyz) of the shortest rotation taking +z to each (unit) normal; zero normals: identity."""
    x, y, z = normals.unbind(-1)
    # Half-way construction q = (1 + z.n, z x n); at n = -z it degenerates to a half turn about x.
    quats = torch.stack([1 + z, -y, x, torch.zeros_like(z)], dim=-1)
    opposite = quats.norm(dim=-1) < 1e-6
    quats = torch.where(opposite[..., None], quats.new_tensor([0.0, 1.0, 0.0, 0.0]), quats)
    missing = normals.norm(dim=-1) < 1e-6
    quats = torch.where(missing[..., None], quats.new_tensor([1.0, 0.0, 0.0, 0.0]), quats)
    return F.normalize(quats, dim=-1)
