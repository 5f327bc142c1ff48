"""Deblur4DGS (Wu et al. 2024): Shape of Motion's bases, a learned camera path and a learned time of each exposure."""

from nerfstudio.plugins.types import MethodSpecification

from dyngs_plugins.exposure.choice import choose
from dyngs_plugins.exposure.pose_mlp import PosePathExposureConfig
from dyngs_plugins.exposure.shutter import ShutterConfig
from dyngs_plugins.motion.bases import MotionBasesConfig
from dyngs_plugins.papers import Paper
from dyngs_plugins.stages import Decay
from dyngs_plugins.trainer import DynamicTrainerConfig
from method_configs import som

PAPER = Paper(
    title="Deblur4DGS: 4D Gaussian Splatting from Blurry Monocular Video",
    venue="AAAI",
    year=2026,
    url="https://arxiv.org/abs/2412.06424",
    licence="none given",
    published=(),
    status="partial",
    deviations=(
        "One scene for the whole clip: no stage of static Gaussians alone, no coarse and fine resolution, no windows with "
        "canonical frames chosen by sharpness.",
        "The losses between sub-frames (aligned by an optical-flow network) and between resolutions are not there.",
        "Every frame has an exposure time of its own; the reference has eight, and none at the ends of a window. "
        "Exposures that reach beyond the clip's ends are cut off there.",
        "The predicted path moves the camera, not the world's points, and keeps one order of translation and rotation; the "
        "reference swaps the halves between two libraries.",
        "Masks, depths and tracks of a frame are compared with the middle of its exposure; the reference takes extremes "
        "over it. The network that predicts paths sees poses centred and scaled to the clip.",
        "dyn-deblur4dgs-small has one exposure time for the whole clip, of at most the time between two frames and without "
        "the paper's band. Its paths start along the camera's own motion from frame to frame and keep the given pose in "
        "their middle, and are turned round where the frame fits better so, since the blur of what stands still does not "
        "tell their direction. Sub-frames lie in the middles of equal shares of the exposure and add up in linear light.",
        "The reference prints no figures that we could find; none is quoted.",
    ),
)

EPOCHS_OF_STILL_CAMERAS = 20
FRAMES = 24
"""Of the paper's clips: an epoch is that many steps."""


def full() -> DynamicTrainerConfig:
    """The paper's setting: 20 bases, 11 sub-frames, poses after 20 epochs, both in steps of 25 frames."""
    config = som.full()
    config.method_name = "dyn-deblur4dgs"
    data, model = config.pipeline.datamanager, config.pipeline.model
    data.frames_per_batch = 1
    model.motion = MotionBasesConfig(num_bases=20)
    model.exposure = choose(
        PosePathExposureConfig(
            num_instants=11, learning_rate=5e-4, shutter=ShutterConfig("learned", half_exposure=0.5, learning_rate=1e-1)
        )
    )
    model.group_starts = {"exposure_predictor": EPOCHS_OF_STILL_CAMERAS * FRAMES}
    model.train_steps = 12_000
    model.decays = {
        "exposure_predictor": Decay(factor=0.02, steps=12_000),
        "exposure_shutter": Decay(factor=1e-4, steps=4800),
    }
    config.gradient_accumulation_steps = {"exposure_predictor": 25, "exposure_shutter": 25}
    return config


def small() -> DynamicTrainerConfig:
    """For scenes of a few hundred pixels and machines without a GPU: fewer Gaussians, sub-frames and steps."""
    config, quick = full(), som.small()
    config.method_name = "dyn-deblur4dgs-small"
    config.steps_per_save = 500
    data, model, theirs = config.pipeline.datamanager, config.pipeline.model, quick.pipeline.model
    data.frames_per_batch, data.targets_per_frame = 2, 2
    data.layout_options = quick.pipeline.datamanager.layout_options
    model.initialise, model.density = theirs.initialise, theirs.density
    model.prefit_steps, model.train_steps, model.scale_decay = 300, 1500, theirs.scale_decay
    # A shutter cannot stay open for longer than the time between two frames.
    shutter = ShutterConfig(
        "learned", half_exposure=0.25, shortest=0.02, longest=0.5, band=(0.0, 0.5), shared=True, reversible=True,
        observe_from=600, learning_rate=1e-2,
    )  # fmt: skip
    model.exposure = choose(
        PosePathExposureConfig(
            num_instants=7, learning_rate=1e-3, shutter=shutter, blend="linear", sampling="middles", pin_middle=True,
            along_clip=True,
        )
    )  # fmt: skip
    model.group_starts = {"exposure_predictor": 100, "exposure_shutter": 300}
    model.decays = {
        "exposure_predictor": Decay(factor=0.1, steps=1500),
        "exposure_shutter": Decay(factor=0.1, steps=1500),
    }
    config.gradient_accumulation_steps = {}  # of so few steps none may be lost
    config.optimizers = quick.optimizers
    return config


dyn_deblur4dgs = MethodSpecification(
    config=full(), description="Deblur4DGS: motion bases with a learned camera path and time of each exposure."
)
dyn_deblur4dgs_small = MethodSpecification(
    config=small(), description="dyn-deblur4dgs sized for small scenes and CPUs."
)
