"""What a checkpoint is scored by: images on the whole frame and on what moves, and tracks in 2-D and 3-D.

Numbers that do not exist (an image without moving pixels, LPIPS without weights) are left out or averaged over the
images that define them; none is made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dyngs_plugins.losses.tracks import project
from dyngs_plugins.metrics import tracks as track_metrics
from dyngs_plugins.metrics.image import masked_psnr, masked_ssim, psnr, ssim
from dyngs_plugins.metrics.lpips import Net, backbone, lpips, masked_lpips
from dyngs_plugins.priors.clip_files import Keypoints
from dyngs_plugins.priors.views import ClipViews, GroundTruthTracks
from dyngs_plugins.scene import RenderOptions, Scene, TargetCameras, Views


def image_metrics(
    prediction: Float[Tensor, "h w 3"],
    target: Float[Tensor, "h w 3"],
    dynamic: Bool[Tensor, "h w"] | None = None,
    covisible: Bool[Tensor, "h w"] | None = None,
    valid: Bool[Tensor, "h w"] | None = None,
    net: Net = "alex",
) -> dict[str, float]:
    """PSNR, SSIM and (where its weights are there) LPIPS of one image.

    On the full image; as ``*_dynamic`` on the moving pixels, where masks exist; as ``*_covisible`` on the pixels that
    training frames see, where the layout says which (DyCheck's mPSNR, mSSIM, mLPIPS).

    Args:
        valid: pixels that exist at all, if not all do: an undistorted image has none where its lens drew nothing.
        net: the network of LPIPS.
    """
    perceptual = min(target.shape[:2]) >= backbone(net).smallest_side
    scores: dict[str, float | Tensor | None]
    if valid is None or bool(valid.all()):
        scores = {"psnr": psnr(prediction, target), "ssim": ssim(prediction, target)}
        scores["lpips"] = lpips(prediction, target, net) if perceptual else None
    else:
        scores = {"psnr": masked_psnr(prediction, target, valid), "ssim": masked_ssim(prediction, target, valid)}
        scores["lpips"] = masked_lpips(prediction, target, valid, net) if perceptual else None
    for name, mask in (("dynamic", dynamic), ("covisible", covisible)):
        if mask is not None:
            scores[f"psnr_{name}"] = masked_psnr(prediction, target, mask)
            # DyCheck counts windows without a single counted pixel as 1, which drowns a small region in ones.
            everywhere = name == "covisible"
            scores[f"ssim_{name}"] = masked_ssim(prediction, target, mask, count_empty_windows=everywhere)
            scores[f"lpips_{name}"] = masked_lpips(prediction, target, mask, net) if perceptual else None
    return {name: float(value) for name, value in scores.items() if value is not None}


def batch_metrics(prediction: Float[Tensor, "h w 3"], batch: Mapping[str, Tensor], net: Net) -> dict[str, float]:
    """`image_metrics` of a render against the image and the masks that a batch of the datamanager has."""
    known = {
        name: batch[name].to(prediction.device) for name in ("image", "dynamic", "covisible", "valid") if name in batch
    }
    dynamic = known["dynamic"] > 0 if "dynamic" in known else None
    return image_metrics(prediction, known["image"], dynamic, known.get("covisible"), known.get("valid"), net)


@dataclass(frozen=True)
class PredictedTracks:
    """Where the scene says ground-truth query points go."""

    points: Float[Tensor, "p t 3"]
    """Scene frame."""
    covered: Bool[Tensor, "p"]
    """Whether the scene renders anything at the query pixel."""


@torch.no_grad()
def predict_tracks(scene: Scene, truth: GroundTruthTracks, views: ClipViews, options: RenderOptions) -> PredictedTracks:
    """Follow each query pixel through the clip: render every Gaussian's future centre and read it at the pixel.

    The rendered position is divided by the opacity at the pixel (the track channels are alpha-composited).
    """
    t = truth.points.shape[1]
    points = torch.zeros(truth.points.shape[0], t, 3)
    covered = torch.zeros(truth.points.shape[0], dtype=torch.bool)
    times = torch.linspace(0, 1, t)
    for frame in truth.query_frame.unique().tolist():
        view = _first_camera_at(views, frame)
        if view is None:
            continue  # a held-out frame: nothing was queried there while training
        rows = (truth.query_frame == frame).nonzero().flatten()
        points[rows], covered[rows] = follow_pixels(scene, views, view, truth.xy[rows, frame], times, options)
    return PredictedTracks(points, covered)


@torch.no_grad()
def follow_pixels(
    scene: Scene,
    views: ClipViews,
    view: int,
    xy: Float[Tensor, "p 2"],
    times: Float[Tensor, "t"],
    options: RenderOptions,
) -> tuple[Float[Tensor, "p t 3"], Bool[Tensor, "p"]]:
    """Where what is seen at pixels (integer centres) of a view is at some times, and whether anything is rendered there.

    Positions in the scene frame, composited like colours and divided by the opacity at the pixel.
    """
    device = scene.gaussian_sets()[0].raw["means"].device
    seen_from = Views(
        camera_T_world=views.camera_T_world[view : view + 1].to(device),
        K=views.K[view : view + 1].to(device),
        time=views.times[view : view + 1].to(device),
        width=views.width,
        height=views.height,
    )
    identity = torch.eye(4, device=device).expand(1, len(times), 4, 4)
    targets = TargetCameras(identity, times[None].to(device))
    render = scene.render(seen_from, needs=("targets",), targets=targets, options=options)
    x, y = xy.round().long().unbind(-1)
    x, y = x.clamp(0, views.width - 1), y.clamp(0, views.height - 1)
    alpha = render.alpha[0, y, x].cpu()
    positions = render.channels["targets"][0, y, x].cpu().reshape(-1, len(times), 3)
    return positions / alpha[..., None].clamp_min(1e-6), alpha[:, 0] > 0.1


def _first_camera_at(views: ClipViews, frame: int) -> int | None:
    """The view of the first camera at a time step."""
    first = int(views.camera_index.min())
    found = ((views.frame_index == frame) & (views.camera_index == first)).nonzero().flatten()
    return int(found[0]) if found.numel() else None


def keypoint_scores(scene: Scene, keypoints: Keypoints, views: ClipViews, options: RenderOptions) -> dict[str, float]:
    """PCK-T: marked points carried from each annotated frame to each other one (DyCheck's transfer).

    A point is right within 5 % of the longer image side. One that lies where nothing is rendered is wrong.
    """
    known = [(k, _first_camera_at(views, int(frame))) for k, frame in enumerate(keypoints.frame_index)]
    known = [(k, view) for k, view in known if view is not None]
    found, truth, counted = [], [], []
    times = views.times[torch.tensor([view for _, view in known], dtype=torch.long)]
    for place, (k, view) in enumerate(known):
        points, covered = follow_pixels(scene, views, view, keypoints.xy[k], times, options)
        for other, (j, target) in enumerate(known):
            if other == place:
                continue
            camera_T_world = views.camera_T_world[target]
            camera = points[:, other] @ camera_T_world[:3, :3].T + camera_T_world[:3, 3]
            pixels = project(camera, views.K[target].expand(len(camera), 3, 3)) - 0.5
            found.append(torch.where(covered[:, None], pixels, torch.inf))
            truth.append(keypoints.xy[j])
            counted.append(keypoints.visible[k] & keypoints.visible[j])
    if not counted or not bool(torch.cat(counted).any()):
        return {}
    pixels, targets, mask = torch.cat(found), torch.cat(truth), torch.cat(counted)
    return {
        "keypoints_pck_t_5percent": track_metrics.pck_t(pixels, targets, (views.width, views.height), mask),
        "keypoints_transferred": float(mask.sum()),
    }


def track_scores(
    scene: Scene, truth: GroundTruthTracks, views: ClipViews, scene_scale: float, options: RenderOptions
) -> dict[str, float]:
    """3-D end-point error (world units, and % of the tracked points' extent) and 2-D EPE and PCK of moving points.

    Counted over moving points in the frames where they are visible, except their query frame.
    """
    predicted = predict_tracks(scene, truth, views, options)
    moving = truth.moving[:, None] & truth.visible & predicted.covered[:, None]
    counted = moving & track_metrics.except_query(truth.query_frame, truth.points.shape[1])
    if not bool(counted.any()):
        return {}
    error = track_metrics.end_point_error(predicted.points, truth.points, counted)
    everything = truth.points[truth.visible]
    low, high = (everything.kthvalue(max(1, int(q * len(everything))), dim=0).values for q in (0.05, 0.95))
    extent = float((high - low).max())
    first = int(views.camera_index.min())
    frame_to_view = torch.full((truth.points.shape[1],), -1)
    mine = (views.camera_index == first).nonzero().flatten()
    frame_to_view[views.frame_index[mine]] = mine
    counted = counted & (frame_to_view >= 0)
    camera_T_world, K = views.camera_T_world[frame_to_view], views.K[frame_to_view]
    camera = torch.einsum("tij,ptj->pti", camera_T_world[:, :3, :3], predicted.points) + camera_T_world[:, :3, 3]
    pixels = project(camera, K) - 0.5
    flat = track_metrics.end_point_error(pixels, truth.xy, counted)
    return {
        "track_epe3d_mean": error.mean * scene_scale,
        "track_epe3d_median": error.median * scene_scale,
        "track_epe3d_median_percent_of_extent": 100 * error.median / max(extent, 1e-9),
        "track_epe2d_median_px": flat.median,
        "track_pck2d_5percent": track_metrics.pck_t(pixels, truth.xy, (views.width, views.height), counted),
        "track_points_covered": float(predicted.covered[truth.moving].float().mean()),
    }
