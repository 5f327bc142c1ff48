"""What of the host's options a run cannot do, said before anything is written and any process is started.

The host itself would find out in a child process, in the middle of training, or not at all.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dyngs_plugins.checkpoint_files import STEP

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig


def check_surroundings(config: TrainerConfig) -> None:
    """Refuse options of the host's trainer that this machine cannot follow, whatever the method.

    Raises:
        ValueError: with what was found, what was expected and what to try.
    """
    if config.machine.device_type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"--machine.device-type cuda, but torch {torch.__version__} finds no GPU here. `dyngs doctor` says what "
            "is missing; in a cluster's job, ask for a GPU. Leave the option out to train on the CPU."
        )
    if config.is_viewer_enabled():
        check_port(config.viewer.websocket_port)


def check_options(config: TrainerConfig) -> None:
    """Refuse options of the host's trainer that methods of Gaussians, or this machine, cannot follow.

    Raises:
        ValueError: with what was found, what was expected and what to try.
    """
    machine = config.machine
    check_one_device(
        machine.num_devices * machine.num_machines,
        f"--machine.num-devices {machine.num_devices} --machine.num-machines {machine.num_machines}",
    )
    if machine.device_type == "mps":
        raise ValueError("--machine.device-type mps: Gaussians are rasterized on cuda or cpu. Leave the option out.")
    if config.mixed_precision:
        raise ValueError(
            "--mixed-precision True would compute motion and positions in 16 bits, which hold three digits, and these "
            "methods and gsplat's kernels need 32. Leave the option out."
        )
    if config.use_grad_scaler:
        raise ValueError(
            "--use-grad-scaler True multiplies gradients by thousands before density control compares them with its "
            "thresholds, so that every Gaussian would be split. It serves mixed precision alone. Leave the option out."
        )
    check_surroundings(config)


def check_one_device(number: int, asked: str) -> None:
    """Refuse a run of Gaussians on several devices.

    Args:
        number: of devices, over all machines.
        asked: what asked for them, as the user or the caller wrote it.

    Raises:
        ValueError: it is not one.
    """
    if number != 1:
        raise ValueError(
            f"{asked}: density control adds and removes parameters, which copies of a model on several devices cannot "
            "follow, so a run uses one device. Train several scenes side by side instead, one ns-train per GPU: "
            "CUDA_VISIBLE_DEVICES=0 ns-train ..., CUDA_VISIBLE_DEVICES=1 ns-train ..."
        )


def check_port(port: int | None) -> None:
    """Refuse a port for the viewer that another program has: the host would take the next one, and name this one.

    Args:
        port: as ``--viewer.websocket-port`` gives it; None: the host looks for a free one.

    Raises:
        ValueError: it is in use, or none.
    """
    if port is None:
        return
    if not 0 < port < 1 << 16:
        raise ValueError(f"--viewer.websocket-port {port}: expected a number from 1 to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that a viewer has just left is free
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ValueError(
                f"--viewer.websocket-port {port}: {error.strerror}. Expected a free port: another viewer may run there. "
                "Leave the option out to have a free one chosen and named."
            ) from error


def check_accumulation(steps: Mapping[str, int], groups: Mapping[str, object]) -> None:
    """Refuse ``--gradient-accumulation-steps`` of a group that there is not, which the host would pass over in silence.

    Args:
        steps: number of steps by parameter group, as given.
        groups: the parameter groups of the model.

    Raises:
        ValueError: for an unknown group or a number below 1.
    """
    unknown = sorted(set(steps) - set(groups))
    if unknown:
        raise ValueError(
            f"--gradient-accumulation-steps of {', '.join(unknown)}: no such parameter group. Expected some of "
            f"{', '.join(sorted(groups))}."
        )
    for group, number in steps.items():
        if number < 1:
            raise ValueError(f"--gradient-accumulation-steps {group} {number}: expected 1 (every step) or more.")


def check_unused(folder: Path) -> None:
    """Refuse to train anew into a run's folder that has checkpoints: the first save would delete them.

    Args:
        folder: where the training would keep its checkpoints.

    Raises:
        FileExistsError: with the latest step, and how to go on from it.
    """
    steps = [int(name[1]) for path in folder.glob("*.ckpt") if (name := STEP.fullmatch(path.name))]
    if steps:
        raise FileExistsError(
            f"{folder} has checkpoints of an earlier training, up to step {max(steps)}, which a new one would delete. To "
            f"go on from there add --load-dir {shlex.quote(str(folder))}. To train anew take another --timestamp or "
            "--experiment-name."
        )
