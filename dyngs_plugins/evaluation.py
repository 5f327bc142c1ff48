"""What a checkpoint is scored by: images on the whole frame and on what moves, and tracks in 2-D and 3-D.

Numbers that do not exist (an image without moving pixels, LPIPS without weights) are left out or averaged over the
images that define them; none is made up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dyngs_plugins.losses.tracks import project
from dyngs_plugins.metrics import tracks as track_metrics
from dyngs_plugins.metrics.image import masked_psnr, masked_ssim, psnr, ssim
from dyngs_plugins.metrics.lpips import lpips, masked_lpips
from dyngs_plugins.priors.views import ClipViews, GroundTruthTracks
from dyngs_plugins.scene import RenderOptions, Scene, TargetCameras, Views


def image_metrics(
    prediction: Float[Tensor, "h w 3"],
    target: Float[Tensor, "h w 3"],
    dynamic: Bool[Tensor, "h w"] | None = None,
    covisible: Bool[Tensor, "h w"] | None = None,
) -> dict[str, float]:
    """PSNR, SSIM and (where its weights are there) LPIPS of one image.

    On the full image; as ``*_dynamic`` on the moving pixels, where masks exist; as ``*_covisible`` on the pixels that
    training frames see, where the layout says which (DyCheck's mPSNR, mSSIM, mLPIPS).
    """
    perceptual = min(target.shape[:2]) >= 31  # AlexNet's smallest input
    scores: dict[str, float | Tensor | None] = {
        "psnr": psnr(prediction, target),
        "ssim": ssim(prediction, target),
        "lpips": lpips(prediction, target) if perceptual else None,
    }
    for name, mask in (("dynamic", dynamic), ("covisible", covisible)):
        if mask is not None:
            scores[f"psnr_{name}"] = masked_psnr(prediction, target, mask)
            # DyCheck counts windows without a single counted pixel as 1, which drowns a small region in ones.
            everywhere = name == "covisible"
            scores[f"ssim_{name}"] = masked_ssim(prediction, target, mask, count_empty_windows=everywhere)
            scores[f"lpips_{name}"] = masked_lpips(prediction, target, mask) if perceptual else None
    return {name: float(value) for name, value in scores.items() if value is not None}


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
    device = scene.gaussian_sets()[0].raw["means"].device
    t = truth.points.shape[1]
    points = torch.zeros(truth.points.shape[0], t, 3)
    covered = torch.zeros(truth.points.shape[0], dtype=torch.bool)
    times = torch.linspace(0, 1, t, device=device)[None]
    identity = torch.eye(4, device=device).expand(1, t, 4, 4)
    first = int(views.camera_index.min())
    for frame in truth.query_frame.unique().tolist():
        at = ((views.frame_index == frame) & (views.camera_index == first)).nonzero().flatten()
        if at.numel() == 0:
            continue  # a held-out frame: nothing was queried there while training
        rows = (truth.query_frame == frame).nonzero().flatten()
        view = Views(
            camera_T_world=views.camera_T_world[at[:1]].to(device),
            K=views.K[at[:1]].to(device),
            time=times[0, frame : frame + 1],
            width=views.width,
            height=views.height,
        )
        render = scene.render(view, needs=("targets",), targets=TargetCameras(identity, times), options=options)
        xy = truth.xy[rows, frame].round().long()
        x, y = xy[:, 0].clamp(0, views.width - 1), xy[:, 1].clamp(0, views.height - 1)
        alpha = render.alpha[0, y, x].cpu()
        positions = render.channels["targets"][0, y, x].cpu().reshape(-1, t, 3)
        points[rows] = positions / alpha[..., None].clamp_min(1e-6)
        covered[rows] = alpha[:, 0] > 0.1
    return PredictedTracks(points, covered)


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
