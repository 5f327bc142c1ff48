"""The host's trainer with what every method shares: device, optimizers, checkpoints that are whole or not there."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig, Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.rich_utils import CONSOLE

from dyngs_plugins.checkpoint_files import check_complete, check_load_dir, folder_for_partial, remove_others
from dyngs_plugins.config import GrowingConfig
from dyngs_plugins.pipeline import DynamicPipelineConfig
from dyngs_plugins.run_options import check_accumulation, check_options, check_surroundings, check_unused
from dyngs_plugins.user_errors import end_in_one_message

# The host's own schedulers put numpy scalars into checkpoints, which `torch.load(weights_only=True)` refuses. Ours hold
# python floats; this lets older checkpoints of the host's methods load too.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]  # numpy 1 and 2 keep this function under different names
_NUMPY_TYPES: list[Any] = [_NUMPY_SCALAR, np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i8"))]
torch.serialization.add_safe_globals(_NUMPY_TYPES)

SCHEDULED_LENGTH = -1
"""``max_num_iterations`` of a method whose schedule says how long to train."""


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam with PyTorch's fused kernel: six times faster than the loop on a CPU."""

    fused: bool = True


def adam(lr: float) -> dict[str, Any]:
    """One entry of ``TrainerConfig.optimizers``; rates over time are the schedule's, not the host schedulers'."""
    return {"optimizer": FusedAdamConfig(lr=lr, eps=1e-8), "scheduler": None}


def machine() -> MachineConfig:
    """CUDA when there is one, else the CPU: no flag needed."""
    return MachineConfig(device_type="cuda" if torch.cuda.is_available() else "cpu")


def size_advice(method: str | None, device_type: str) -> str:
    """A line for whoever trains a method's full size without a GPU, where it also comes in a small one; else ""."""
    from nerfstudio.configs.method_configs import all_methods  # our configs are among these, so not at the top

    small = f"{method}-small"
    if device_type != "cpu" or small not in all_methods:
        return ""
    return f"{method} is sized for a GPU and may take hours without one; {small} takes minutes."


@dataclass
class RunConfig(GrowingConfig, TrainerConfig):
    """The host's trainer for any model: it keeps what earlier runs made, and says in one message what cannot be done."""

    _target: type = field(default_factory=lambda: DynamicTrainer)
    machine: MachineConfig = field(default_factory=machine)

    def check(self) -> None:
        """Refuse options that the run cannot follow. See ``run_options.py``."""
        check_surroundings(self)

    def set_timestamp(self) -> None:
        """The host's; and since ``ns-train`` calls it first of all, what it cannot do is said here, before it starts.

        Raises:
            FileExistsError, ValueError: see ``run_options.py``.
        """
        end_in_one_message()
        self.check()
        super().set_timestamp()
        if self.load_dir is None and self.load_checkpoint is None:
            check_unused(self.get_checkpoint_dir())

    def set_experiment_name(self) -> None:
        """By what is trained on: a film's own name, or its folder's. The host takes a film's folder, and of "." nothing."""
        data = self.pipeline.datamanager.data
        if self.experiment_name is None and data is not None:
            self.experiment_name = Path(os.path.abspath(data)).stem
        super().set_experiment_name()

    def save_config(self) -> None:
        """The host's, in one message where it cannot write.

        Raises:
            OSError: with the folder, and what to try.
        """
        try:
            super().save_config()
        except OSError as error:
            raise OSError(
                f"{self.get_base_dir().absolute()}: nothing can be written there ({error.strerror}). Expected a place "
                "for the run's config.yml and checkpoints: name another with --output-dir, or make room in this one."
            ) from error

    def setup(self, **kwargs: Any) -> Any:
        """The trainer.

        Raises:
            FileNotFoundError, ValueError: the checkpoint to resume from is missing or damaged.
        """
        end_in_one_message()
        if self.load_dir is not None:
            check_load_dir(self.load_dir, self.load_step)
        elif self.load_checkpoint is not None:
            check_complete(self.load_checkpoint, "Give another one with --load-checkpoint.")
        return super().setup(**kwargs)


@dataclass
class DynamicTrainerConfig(RunConfig):
    """A run of Gaussians, with this package's defaults."""

    pipeline: DynamicPipelineConfig = field(default_factory=DynamicPipelineConfig)
    max_num_iterations: int = SCHEDULED_LENGTH
    """Training steps; -1: as long as the method's schedule."""
    mixed_precision: bool = False
    steps_per_save: int = 1000
    steps_per_eval_batch: int = 0
    steps_per_eval_image: int = 500
    steps_per_eval_all_images: int = 0
    viewer: ViewerConfig = field(default_factory=lambda: ViewerConfig(num_rays_per_chunk=1 << 15))
    vis: str = "viewer"  # type: ignore[assignment]

    def check(self) -> None:
        """Refuse options that a run of Gaussians cannot follow. See ``run_options.py``."""
        check_options(self)

    def setup(self, **kwargs: Any) -> Any:
        """The trainer, with an optimizer for every parameter group that the exposure and the cameras may have.

        So any exposure goes with any method; what the method's own optimizers name stays as it is.
        """
        advice = size_advice(self.method_name, self.machine.device_type)
        if advice:
            CONSOLE.log(advice)
        model, data = self.pipeline.model, self.pipeline.datamanager
        if data.sampler_seed is None:
            data.sampler_seed = self.machine.seed
        if model.initialise.seed is None:
            model.initialise.seed = self.machine.seed
        for group, rate in (model.exposure.rates() | model.cameras.rates()).items():
            self.optimizers.setdefault(group, adam(rate))
        return super().setup(**kwargs)


class DynamicTrainer(Trainer):
    """The host's trainer. A checkpoint takes its name when it is whole: a job that is stopped can always go on."""

    def setup_optimizers(self) -> Optimizers:
        """The host's.

        Raises:
            ValueError: gradients are to be accumulated of a group that there is not.
        """
        optimizers = super().setup_optimizers()
        check_accumulation(self.config.gradient_accumulation_steps, optimizers.parameters)
        return optimizers

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """The host's file; what was there before stays until it is written."""
        folder = self.checkpoint_dir
        folder.mkdir(parents=True, exist_ok=True)
        with folder_for_partial(folder) as partial:
            self.checkpoint_dir = partial
            try:
                super().save_checkpoint(step)
            finally:
                self.checkpoint_dir = folder
            for saved in partial.iterdir():
                os.replace(saved, folder / saved.name)
                if self.config.save_only_latest_checkpoint:
                    remove_others(folder / saved.name)
