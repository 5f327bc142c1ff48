"""The host's vanilla NeRF on scenes that say how to sample them: device coordinates, or near and far bounds.

A seam to the host: the model is nerfstudio's own, with other rays going in and distances coming out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from nerfstudio.cameras.rays import RayBundle, RaySamples
from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from nerfstudio.field_components.encodings import NeRFEncoding
from nerfstudio.fields.vanilla_nerf_field import NeRFField
from nerfstudio.model_components.losses import MSELoss
from nerfstudio.model_components.ray_samplers import PDFSampler, UniformSampler
from nerfstudio.model_components.renderers import AccumulationRenderer, DepthRenderer, RGBRenderer
from nerfstudio.model_components.scene_colliders import NearFarCollider
from nerfstudio.models.base_model import Model
from nerfstudio.models.vanilla_nerf import NeRFModel, VanillaModelConfig
from torch import Tensor

from dyngs_plugins.metrics import image as image_metrics
from dyngs_plugins.metrics.lpips import backbone, lpips
from dyngs_plugins.ndc import ndc_distance, ndc_rays

_VIEWS = "view_directions"


@dataclass
class BoundedNeRFModelConfig(VanillaModelConfig):
    """Vanilla NeRF with the near and far, or the device coordinates, of its dataparser."""

    _target: type = field(default_factory=lambda: BoundedNeRFModel)
    device_coordinates: bool | None = None
    """Sample in normalised device coordinates. None: where the dataparser says that the scene faces forward."""


class BoundedNeRFModel(NeRFModel):
    """The host's NeRF, whose rays are changed to device coordinates before sampling where the scene faces forward.

    The dataparser's metadata decide: ``ndc_scale`` (2 fx / width, 2 fy / height) allows device coordinates, ``near``
    and ``far`` (scene units) bound rays otherwise; without them the collider's parameters do.
    """

    config: BoundedNeRFModelConfig

    def populate_modules(self) -> None:
        """The host's fields, samplers and renderers, without the LPIPS network that it would download here."""
        Model.populate_modules(self)
        position = NeRFEncoding(in_dim=3, num_frequencies=10, min_freq_exp=0.0, max_freq_exp=8.0, include_input=True)
        direction = NeRFEncoding(in_dim=3, num_frequencies=4, min_freq_exp=0.0, max_freq_exp=4.0, include_input=True)
        self.field_coarse = ViewField(position_encoding=position, direction_encoding=direction)
        self.field_fine = ViewField(position_encoding=position, direction_encoding=direction)
        self.sampler_uniform = UniformSampler(num_samples=self.config.num_coarse_samples)
        self.sampler_pdf = PDFSampler(num_samples=self.config.num_importance_samples)
        self.renderer_rgb = RGBRenderer(background_color=self.config.background_color)
        self.renderer_accumulation = AccumulationRenderer()
        self.renderer_depth = DepthRenderer()
        self.rgb_loss = MSELoss()
        self._bound(self.kwargs.get("metadata") or {})

    def _bound(self, metadata: dict[str, Any]) -> None:
        self.lpips_net = metadata.get("lpips_net", "alex")  # the protocol's
        scale = metadata.get("ndc_scale")
        if self.config.device_coordinates and scale is None:
            raise ValueError(
                "device_coordinates is on, but the dataparser does not say that the scene faces forward (metadata "
                "without ndc_scale). Expected llff-data with its llff_frame on, recentred, scaled by bd_factor and not "
                "spherified, all of whose cameras look the same way. Turn device_coordinates off."
            )
        self.ndc_scale = scale if self.config.device_coordinates is not False else None
        if self.ndc_scale is not None:
            self.collider = None  # rays are bounded where they are changed
        elif "near" in metadata and "far" in metadata:
            near, far = float(metadata["near"]), float(metadata["far"])
            self.collider = NearFarCollider(near_plane=near, far_plane=far, reset_near_plane=False)
            self.config.collider_params = {"near_plane": near, "far_plane": far}

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Tensor]:
        """Colours, accumulation and depth (distance along the rays, scene units) of the coarse and the fine field."""
        if self.ndc_scale is None:
            return super().get_outputs(ray_bundle)
        changed, length = self.in_device_coordinates(ray_bundle)
        outputs = super().get_outputs(changed)
        for name in ("depth_coarse", "depth_fine"):
            z = changed.origins[..., 2] + outputs[name][..., 0] * changed.directions[..., 2]
            outputs[name] = ndc_distance(z, ray_bundle.origins, ray_bundle.directions)[..., None]
        return outputs

    def in_device_coordinates(self, ray_bundle: RayBundle) -> tuple[RayBundle, Tensor]:
        """The rays in device coordinates with unit directions, bounded by near plane and infinity; and their length.

        Unit directions make distances between samples true lengths in device coordinates, as in NeRF's rendering.
        """
        assert self.ndc_scale is not None  # get_outputs asks only then
        origins, directions = ndc_rays(ray_bundle.origins, ray_bundle.directions, self.ndc_scale)
        length = directions.norm(dim=-1, keepdim=True)
        changed = replace(
            ray_bundle,
            origins=origins,
            directions=directions / length,
            nears=torch.zeros_like(length),
            fars=length,
            metadata={**ray_bundle.metadata, _VIEWS: ray_bundle.directions},
        )
        return changed, length

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """PSNR, SSIM and (where its weights lie on disk) LPIPS of an image; pictures beside the true one."""
        target = batch["image"].to(outputs["rgb_fine"].device)[..., :3]
        fine, coarse = outputs["rgb_fine"], outputs["rgb_coarse"]
        smallest = backbone(self.lpips_net).smallest_side
        scores: dict[str, Any] = {
            "psnr": image_metrics.psnr(fine, target),
            "ssim": image_metrics.ssim(fine, target),
            "psnr_coarse": image_metrics.psnr(coarse, target),
            "lpips": lpips(fine, target, self.lpips_net) if min(target.shape[:2]) >= smallest else None,
        }
        depth = torch.cat([outputs["depth_coarse"], outputs["depth_fine"]], dim=1)
        near = depth.min().clamp(min=1e-6)  # nearest is white; infinity is finite in disparity
        images = {
            "img": torch.cat([target, coarse, fine], dim=1),
            "accumulation": torch.cat([outputs["accumulation_coarse"], outputs["accumulation_fine"]], dim=1),
            "disparity": near / depth.clamp(min=1e-6),
        }
        return {name: float(value) for name, value in scores.items() if value is not None}, images


class ViewField(NeRFField):
    """The host's field, whose colours see the rays' directions of before a change of coordinates."""

    def get_outputs(self, ray_samples: RaySamples, density_embedding: Tensor | None = None):
        """See the host's field."""
        views = (ray_samples.metadata or {}).get(_VIEWS)
        if views is not None:
            frustums = ray_samples.frustums
            directions = views.expand_as(frustums.directions)
            ray_samples = replace(ray_samples, frustums=replace(frustums, directions=directions))
        return super().get_outputs(ray_samples, density_embedding)


@dataclass
class PowerDecayConfig(SchedulerConfig):
    """A rate that falls by ``factor`` every ``steps`` steps, continuously. Holds python floats: the host's own decay
    puts numpy scalars into checkpoints, which newer torch refuses to load."""

    _target: type = field(default_factory=lambda: PowerDecay)
    factor: float = 0.1
    steps: int = 250_000


class PowerDecay(Scheduler):
    """See :class:`PowerDecayConfig`."""

    config: PowerDecayConfig

    def get_scheduler(self, optimizer: torch.optim.Optimizer, lr_init: float) -> torch.optim.lr_scheduler.LRScheduler:
        """The scheduler of an optimizer; ``lr_init`` is its rate already."""
        factor, steps = self.config.factor, self.config.steps
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(factor ** (step / steps)))
