"""BAD-NeRF's and BAD-Gaussians' deblurring: a static scene, and a path of the camera within every exposure."""

from nerfstudio.plugins.types import MethodSpecification

from dataparsers.auto import AutoDataParserConfig
from dyngs_plugins.data import DynamicDataManagerConfig
from dyngs_plugins.density import DensityControlConfig
from dyngs_plugins.exposure.camera_path import CameraPathExposureConfig
from dyngs_plugins.exposure.choice import choose
from dyngs_plugins.initialise import InitialiseConfig
from dyngs_plugins.model import DynamicModelConfig
from dyngs_plugins.motion.static import StaticMotionConfig
from dyngs_plugins.objective import LossTerm
from dyngs_plugins.papers import Paper
from dyngs_plugins.pipeline import DynamicPipelineConfig
from dyngs_plugins.scene import STATIC
from dyngs_plugins.stages import Decay
from dyngs_plugins.trainer import DynamicTrainerConfig, adam

PAPER = Paper(
    title="BAD-Gaussians: Bundle Adjusted Deblur Gaussian Splatting",
    venue="ECCV",
    year=2024,
    url="https://arxiv.org/abs/2403.11831",
    licence="Apache-2.0",
    published=(),
    status="faithful core",
    deviations=(
        "Also stands for BAD-NeRF (CVPR 2023), whose image formation and splines are the same: Gaussians instead of a "
        "radiance field.",
        "Control poses start at exactly zero, where the reference adds noise to avoid undefined derivatives.",
        "A small penalty keeps the middle of each exposure near the given pose, where the reference lets it drift.",
        "An odd number of images is averaged (11 for 10), so that the sharp middle is one of them.",
        "Colours are averaged before they are clamped; all averaged images count in density control, whose threshold "
        "needs no division then; the reference takes the last one's.",
        "Density control is Shape of Motion's with the thresholds of the reference; colours are the same from all "
        "directions.",
        "The papers' figures were not measured again, so none is quoted.",
    ),
)

STEPS = 30_000


def full() -> DynamicTrainerConfig:
    """The paper's setting: one image a step, linear paths, 30,000 steps."""
    return DynamicTrainerConfig(
        method_name="deblur-bad",
        pipeline=DynamicPipelineConfig(
            datamanager=DynamicDataManagerConfig(dataparser=AutoDataParserConfig(), frames_per_batch=1),
            model=DynamicModelConfig(
                motion=StaticMotionConfig(),
                exposure=choose(CameraPathExposureConfig(num_instants=11, learning_rate=1e-3)),
                sets=(STATIC,),
                losses={"rgb": LossTerm()},
                initialise=InitialiseConfig(num_static=100_000),
                rasterize_mode="antialiased",  # the reference's default
                train_steps=STEPS,
                scale_decay=Decay(factor=1.0, steps=0),
                decays={
                    "static_means": Decay(factor=0.01, steps=STEPS),
                    "exposure_knots": Decay(factor=0.01, steps=STEPS),
                },
                density={
                    STATIC: DensityControlConfig(
                        start=500, stop=15_000, grad_threshold=4e-4, prune_opacity=5e-3, reset_opacity=0.01
                    )
                },
            ),
        ),
        optimizers={
            "static_means": adam(1.6e-4),
            "static_colors": adam(2.5e-3 * 4),  # of a logit, whose slope is at most a quarter
            "static_opacities": adam(5e-2),
            "static_scales": adam(5e-3),
            "static_quats": adam(1e-3),
        },
        gradient_accumulation_steps={"exposure_knots": 25},  # a path is seen once in a round of all images
    )


def small() -> DynamicTrainerConfig:
    """For scenes of a few hundred pixels and machines without a GPU: fewer Gaussians and steps."""
    config = full()
    config.method_name = "deblur-bad-small"
    config.steps_per_save = 500
    model, steps = config.pipeline.model, 1500
    config.pipeline.datamanager.frames_per_batch = 2
    config.gradient_accumulation_steps = {}  # of so few steps none may be lost
    model.exposure = choose(CameraPathExposureConfig(num_instants=9, learning_rate=1e-3))
    model.initialise = InitialiseConfig(num_static=6000, static_from="frames")
    model.train_steps = steps
    model.decays = {
        "static_means": Decay(factor=0.1, steps=steps),
        "exposure_knots": Decay(factor=0.1, steps=steps),
    }
    model.density = {
        STATIC: DensityControlConfig(
            every=100, start=200, stop=1000, grad_threshold=4e-4, prune_opacity=0.02, reset_every=10_000,
            max_gaussians=10_000,
        )
    }  # fmt: skip
    config.optimizers["static_means"] = adam(5e-4)
    return config


deblur_bad = MethodSpecification(
    config=full(), description="BAD-NeRF, BAD-Gaussians: a static scene and the camera's path in each exposure."
)
deblur_bad_small = MethodSpecification(config=small(), description="deblur-bad sized for small scenes and CPUs.")
