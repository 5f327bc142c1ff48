"""Optical flow and normals beside a casual clip's images: ``flow/SEQ`` and ``normals/SEQ``, each optional."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dataparsers.checks import either_case, image_files
from dataparsers.clip import Frame
from dataparsers.flow_folders import FlowTable, arrays
from dataparsers.layouts import CasualLayout
from dyngs_plugins.priors.files import optional_file
from dyngs_plugins.priors.normal_files import check_normals
from dyngs_plugins.priors.views import Priors


def with_flow_and_normals(
    priors: Priors,
    root: Path,
    layout: CasualLayout,
    sequences: Sequence[str],
    train: Sequence[Frame],
    size: tuple[int, int],
) -> Priors:
    """The priors with what training images have of flow to training images, and of normals.

    Args:
        sequences: in the order of ``Frame.camera``.
        train: the training images; flow to any other image of a sequence is left alone.

    Raises:
        FileNotFoundError, ValueError: a file is damaged, or not of the images' shape.
    """
    table = FlowTable(len(train), size)
    for camera, sequence in enumerate(sequences):
        folder = layout.folder(root, "flow", sequence)
        if not folder.is_dir():
            continue
        names = [path.stem for path in image_files(layout.folder(root, layout.image_type, sequence))]
        places = {frame.name: i for i, frame in enumerate(train) if frame.camera == camera}
        table.add([places.get(name) for name in names], arrays(folder, names))
    priors = table.onto(priors)
    folders = {camera: layout.folder(root, "normals", sequence) for camera, sequence in enumerate(sequences)}
    files = [either_case(folders[frame.camera] / f"{frame.name}.npy") for frame in train]
    found = tuple(path if optional_file(path, "normal map") else None for path in files)
    for path in filter(None, found):
        check_normals(path, size)
    return replace(priors, normal_files=found if any(found) else None)
