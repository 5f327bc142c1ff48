"""Shape of Motion (Wang et al. 2024): shared SE(3) motion bases, started from tracks, trained on video with priors."""

from nerfstudio.plugins.types import MethodSpecification

from dataparsers.auto import AutoDataParserConfig
from dyngs_plugins.data import DynamicDataManagerConfig
from dyngs_plugins.density import DensityControlConfig
from dyngs_plugins.initialise import InitialiseConfig
from dyngs_plugins.model import DynamicModelConfig
from dyngs_plugins.motion.bases import MotionBasesConfig
from dyngs_plugins.objective import LossTerm
from dyngs_plugins.papers import Paper, Published
from dyngs_plugins.pipeline import DynamicPipelineConfig
from dyngs_plugins.stages import Decay
from dyngs_plugins.trainer import DynamicTrainerConfig, adam

IPHONE = "DyCheck iPhone, 5 scenes with validation cameras, 720x960, covisible pixels"
TRACKS = "DyCheck iPhone, 12 scenes, points lifted from LiDAR, after Sim(3) alignment of the cameras"

PAPER = Paper(
    title="Shape of Motion: 4D Reconstruction from a Single Video",
    venue="arXiv",
    year=2024,
    url="https://arxiv.org/abs/2407.13764",
    licence="MIT",
    published=(
        Published("iPhone", "mPSNR", 16.72, IPHONE),
        Published("iPhone", "mSSIM", 0.63, IPHONE),
        Published("iPhone", "mLPIPS (AlexNet)", 0.45, IPHONE),
        Published("iPhone", "3-D EPE, m", 0.082, TRACKS),
        Published("iPhone", "3-D within 5 cm, %", 43.0, TRACKS),
        Published("iPhone", "3-D within 10 cm, %", 73.3, TRACKS),
    ),
    status="faithful core",
    deviations=(
        "Track weights keep the interval factor exp(-2|ti-tj|/T) per observation; the reference normalises it away.",
        "Unknown depth (disparity 0) is ignored, and losses over nothing observed are 0; the reference crashes or fits "
        "a far plane.",
        "Canonical positions of tracks hidden in the canonical frame are interpolated in time; the reference lifts the "
        "depth of what hides them. Unsolvable frames of a basis are interpolated, not held.",
        "The small preset carries what is not seen at the clip's start, end or canonical frame along with what moves as "
        "it does where both are seen; the reference, and the full preset, hold it where it was seen first or last.",
        "Between frames the bases are interpolated linearly, so that time is continuous.",
        "Density control really updates its screen-radius statistic, keeps the background's extent in checkpoints, and "
        "never both splits and duplicates a Gaussian.",
        "The bar on cluster sizes is lowered for clips with few tracks; below 480 rows the median filter of depth and the "
        "least share of a key-frame's background points shrink with the image.",
        "The mask loss leaves out the unknown band around masks. Depth losses trim the worst of the pixels of known depth "
        "where something is rendered, not of all pixels.",
        "Frames are drawn without repetition within an epoch; every eighth is held out where a clip has no views to test "
        "on. Training takes at least 5000 steps.",
        "Clusters are found by k-means with three restarts, in PyTorch.",
        "Not compared with the reference's figures on the iPhone data yet.",
    ),
)

DEFAULT_LOSSES = {
    "rgb": 1.0,
    "mask": 1.0,
    "track_2d": 2.0,
    "depth": 0.5,
    "track_depth": 0.1,
    "depth_gradient": 1.0,
    "smooth_tracks": 2.0,
    "scale_variance": 0.01,
    "motion_along_ray": 1.0,
    "rigidity": 0.0,  # not in the reference; --pipeline.model.losses.rigidity.weight 0.1 turns it on
}


def losses() -> dict[str, LossTerm]:
    """The paper's terms and weights (section 3 of the supplement)."""
    return {name: LossTerm(weight) for name, weight in DEFAULT_LOSSES.items()}


def optimizers() -> dict:
    """One Adam per tensor, rates of the reference; only the scales' decay, by the schedule."""
    rates = {
        "dynamic_means": 1.6e-4,
        "dynamic_opacities": 1e-2,
        "dynamic_scales": 5e-3,
        "dynamic_quats": 1e-3,
        "dynamic_colors": 1e-2,
        "dynamic_motion_coefs": 1e-2,
        "static_means": 1.6e-4,
        "static_opacities": 5e-2,
        "static_scales": 5e-3,
        "static_quats": 1e-3,
        "static_colors": 1e-2,
        "motion_bases_rots": 1.6e-4,
        "motion_bases_transls": 1.6e-4,
    }
    return {group: adam(rate) for group, rate in rates.items()}


PREFIT_RATES = {
    "motion_bases_rots": 1e-2,
    "motion_bases_transls": 3e-2,
    "dynamic_motion_coefs": 1e-2,
    "dynamic_means": 1e-3,
}


def full() -> DynamicTrainerConfig:
    """The paper's setting: 40k + 100k Gaussians, batches of 8 frames with 4 targets each."""
    return DynamicTrainerConfig(
        method_name="dyn-som",
        pipeline=DynamicPipelineConfig(
            datamanager=DynamicDataManagerConfig(
                dataparser=AutoDataParserConfig(), frames_per_batch=8, targets_per_frame=4
            ),
            model=DynamicModelConfig(
                motion=MotionBasesConfig(num_bases=10),
                losses=losses(),
                initialise=InitialiseConfig(num_dynamic=40_000, num_static=100_000),
                prefit_steps=1000,
                prefit_rates=dict(PREFIT_RATES),
            ),
        ),
        optimizers=optimizers(),
    )


def small() -> DynamicTrainerConfig:
    """For scenes of a few hundred pixels and machines without a GPU: fewer Gaussians, smaller batches, fewer steps."""
    config = full()
    config.method_name = "dyn-som-small"
    config.steps_per_save = 500
    data, model = config.pipeline.datamanager, config.pipeline.model
    data.frames_per_batch, data.targets_per_frame = 4, 2
    # The reference's 7 pixels are meant for 540 rows.
    data.layout_options = {"som-data": {"mask_erosion": 3}}
    model.initialise = InitialiseConfig(num_dynamic=4000, num_static=8000, static_from="frames")
    # A few hundred steps do not mend what starts off its thing, and stays unseen by the training camera.
    model.motion = MotionBasesConfig(num_bases=10, hidden="carry")
    model.prefit_steps, model.train_steps = 300, 1200
    # A fifth of the steps, so the rates that are slow in a long training are raised and the cadence is shortened.
    model.scale_decay = Decay(factor=0.1, steps=1200)
    for group in ("dynamic_means", "static_means", "motion_bases_rots", "motion_bases_transls"):
        config.optimizers[group] = adam(5e-4)
    model.density = {
        name: DensityControlConfig(every=100, start=100, stop=1000, reset_every=3000, max_gaussians=cap)
        for name, cap in (("dynamic", 8000), ("static", 16_000))
    }
    return config


dyn_som = MethodSpecification(config=full(), description="Shape of Motion: shared SE(3) motion bases from tracks.")
dyn_som_small = MethodSpecification(config=small(), description="Shape of Motion sized for small scenes and CPUs.")
