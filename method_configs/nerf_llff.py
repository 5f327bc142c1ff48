"""NeRF on LLFF's scenes, as nerf-pytorch trains it: the host's vanilla NeRF with rays in device coordinates."""

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.plugins.types import MethodSpecification

from dataparsers.llff import LlffDataParserConfig
from dyngs_plugins.nerf import BoundedNeRFModelConfig, PowerDecayConfig
from dyngs_plugins.papers import Paper, Published
from dyngs_plugins.pipeline import RunPipeline
from dyngs_plugins.trainer import RunConfig

PAPER = Paper(
    title="NeRF: Representing Scenes as Neural Radiance Fields for View Synthesis",
    venue="ECCV",
    year=2020,
    url="https://arxiv.org/abs/2003.08934",
    licence="MIT",
    published=(
        Published("LLFF, mean of 8 scenes", "PSNR", 26.50, "every 8th image from the first tests, 1008x756"),
        Published("LLFF, mean of 8 scenes", "SSIM", 0.811, "every 8th image from the first tests, 1008x756"),
        Published("LLFF, mean of 8 scenes", "LPIPS (VGG)", 0.250, "every 8th image from the first tests, 1008x756"),
    ),
    status="faithful core",
    deviations=(
        "The networks are nerfstudio's: softplus densities without noise instead of rectified ones with noise of "
        "deviation 1, its encodings' frequencies, and two layers in the colour head.",
        "Pixel centres are at +0.5, where nerf-pytorch's rays go through pixels' corners.",
        "The focal length follows the size of the reduced images, not the nominal factor.",
        "Images are reduced by averaging areas.",
        "The setting is nerf-pytorch's for fern: 1/8 of the size, 64 + 64 samples, 200,000 steps of 1024 rays. The "
        "paper's figures are of 1/4 of the size; they were not measured again.",
    ),
)


def nerf_pytorch() -> RunConfig:
    """nerf-pytorch's configuration of fern."""
    return RunConfig(
        method_name="nerf-llff",
        max_num_iterations=200_000,
        steps_per_save=10_000,
        steps_per_eval_batch=500,
        steps_per_eval_image=5000,
        steps_per_eval_all_images=50_000,
        pipeline=VanillaPipelineConfig(
            _target=RunPipeline,
            datamanager=VanillaDataManagerConfig(
                dataparser=LlffDataParserConfig(protocol="llff", downscale_factor=8, llff_frame=True),
                train_num_rays_per_batch=1024,
                eval_num_rays_per_batch=1024,
            ),
            model=BoundedNeRFModelConfig(
                num_coarse_samples=64,
                num_importance_samples=64,
                background_color="last_sample",  # the reference's last sample reaches to infinity
                eval_num_rays_per_chunk=1 << 12,
            ),
        ),
        optimizers={
            "fields": {
                "optimizer": AdamOptimizerConfig(lr=5e-4, eps=1e-8),
                "scheduler": PowerDecayConfig(factor=0.1, steps=250_000),
            }
        },
        viewer=ViewerConfig(num_rays_per_chunk=1 << 12),
        vis="viewer",
    )


nerf_llff = MethodSpecification(
    config=nerf_pytorch(), description="NeRF on LLFF scenes, in device coordinates where they face forward."
)
