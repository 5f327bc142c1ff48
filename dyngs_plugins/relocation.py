"""A run that was moved, or copied from another machine, opens where it lies now.

``config.yml`` keeps where the run and its data were when it was trained, and the host offers no option to say otherwise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dyngs_plugins.checkpoint_files import STEP
from dyngs_plugins.priors.files import atomic_file

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig


@dataclass(frozen=True)
class Place:
    """Where a run and its data are, in absolute paths."""

    run: Path
    data: Path


def relocate(run: Path, data: Path | None = None) -> Place:
    """Write into a run's config.yml where the run lies, and where its data does.

    Args:
        run: the run's folder, or its config.yml.
        data: the data it was trained on; None: where config.yml says, which must be there.

    Raises:
        FileNotFoundError, ValueError: no run, no checkpoints, no data, or a folder whose name does not fit its method.
    """
    file = Path(os.path.abspath(run if run.name == "config.yml" else run / "config.yml"))
    config = read_config(file)
    folder = file.parent
    _point_to_run(config, folder)
    _point_to_data(config, data)
    with atomic_file(file) as out:
        out.write(yaml.dump(config).encode())
    return Place(folder, data_of(config.pipeline.datamanager))


def read_config(file: Path) -> TrainerConfig:
    """A run's config.yml, as ``ns-eval`` reads it.

    Raises:
        FileNotFoundError, ValueError: it is not there, or not nerfstudio's.
    """
    from nerfstudio.configs.method_configs import all_methods  # noqa: F401  (loads the classes that the file names)
    from nerfstudio.engine.trainer import TrainerConfig

    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file. Expected the folder of a run, which holds config.yml: outputs/CLIP/METHOD/TIME."
        )
    try:
        config = yaml.load(file.read_text("utf8"), Loader=yaml.Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: cannot be read ({error}). Expected the config.yml that ns-train wrote.") from error
    if not isinstance(config, TrainerConfig):
        raise ValueError(f"{file}: holds a {type(config).__name__}. Expected the config.yml that ns-train wrote.")
    return config


def data_of(datamanager: Any) -> Path:
    """Where a datamanager's config says that the data is: its own path, or else its dataparser's."""
    return Path(datamanager.data if datamanager.data is not None else datamanager.dataparser.data)


def check_data_of_run(datamanager: Any) -> None:
    """Refuse to open a run whose data is not where it was.

    Raises:
        FileNotFoundError: with the path, and how to say where it is now.
    """
    data = data_of(datamanager)
    if not data.exists():
        here = "" if data.is_absolute() else f" as seen from {Path.cwd()}"
        raise FileNotFoundError(
            f"{data}: the data that this run was trained on is not there{here}. Where it has moved, or the run comes from "
            "another machine: dyngs relocate RUN --data DATA, with the folders where both are now."
        )


def _point_to_run(config: TrainerConfig, folder: Path) -> None:
    method = str(config.method_name)
    if folder.parent.name != method:
        raise ValueError(
            f"{folder}: nerfstudio looks for a run in ANYWHERE/EXPERIMENT/METHOD/TIME, and this one's method is {method}. "
            f"Put it into a folder of that name: mkdir '{folder.parent / method}'; mv '{folder}' '{folder.parent / method}/'"
        )
    config.timestamp, config.experiment_name = folder.name, folder.parents[1].name
    config.output_dir = folder.parents[2]
    checkpoints = config.get_checkpoint_dir()
    if not any(STEP.fullmatch(path.name) for path in checkpoints.glob("*")):
        raise FileNotFoundError(
            f"{checkpoints}: no checkpoint there. Expected step-NUMBER.ckpt: copy the whole folder of the run."
        )


def _point_to_data(config: TrainerConfig, data: Path | None) -> None:
    datamanager: Any = config.pipeline.datamanager
    if data is None:
        check_data_of_run(datamanager)
    elif not data.exists():
        raise FileNotFoundError(f"--data {data}: there is nothing. Expected the data that the run was trained on.")
    where = Path(os.path.abspath(data_of(datamanager) if data is None else data))
    datamanager.data = where
    if config.data is not None:
        config.data = where
