"""The host seam for images: a dataset that reads them and their priors lazily, undistorted, within a budget of memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset

from dyngs_plugins.priors.cache import MemoryCache
from dyngs_plugins.priors.views import ClipViews


class DynamicDataset(InputDataset):
    """Images with what the layout knows beyond colour: depth, moving mask, frame and camera index.

    Everything is read from files when it is asked for, undistorted, and kept in ``cache`` while its budget lasts.
    """

    def __init__(
        self,
        dataparser_outputs: DataparserOutputs,
        scale_factor: float = 1.0,
        cache: MemoryCache | None = None,
        **kwargs,
    ):
        if scale_factor != 1.0:
            raise ValueError(
                f"camera_res_scale_factor is {scale_factor}, but depth, masks and tracks are files of the full size. "
                "Leave it at 1.0 and prepare the clip at the size you want to train at."
            )
        super().__init__(dataparser_outputs, scale_factor, **kwargs)
        views = ClipViews.from_dataparser_outputs(dataparser_outputs)
        self.views = views if cache is None else views.cached_in(cache)
        """The same images as a clip, in the scene frame."""
        # What is handed out has no distortion any more. The dataparser's outputs keep theirs for the host's methods.
        self.cameras.distortion_params = None

    def get_numpy_image(self, image_idx: int) -> npt.NDArray[np.uint8]:
        return self.views.pixels(image_idx).numpy().copy()

    def get_metadata(self, data: dict) -> dict:
        return {name: read() for name, read in self._readers(data["image_idx"]).items()}

    @property
    def items(self) -> Sequence[Mapping[str, Any]]:
        """What :meth:`get_data` gives, each part read only when it is looked at."""
        return _Items(self)

    def _readers(self, index: int) -> dict[str, Callable[[], Any]]:
        views, priors = self.views, self.views.priors
        readers: dict[str, Callable[[], Any]] = {
            "frame_index": lambda: int(views.frame_index[index]),
            "camera_index": lambda: int(views.camera_index[index]),
        }
        if priors.depth_files is not None:
            readers["depth"] = lambda: views.depth(index)
        if priors.mask_files is not None:
            readers["dynamic"] = lambda: views.dynamic(index)
        if views.distortion is not None or (priors.valid_files is not None and priors.mask_files is None):
            readers["valid"] = lambda: views.valid(index)  # with masks, pixels that do not count are of unknown motion
        if priors.covisible_files is not None:
            readers["covisible"] = lambda: views.covisible(index)
        return readers


class _Item(Mapping[str, Any]):
    """One image of a dataset; a part is read when it is looked at."""

    def __init__(self, dataset: DynamicDataset, index: int):
        self._readers: dict[str, Callable[[], Any]] = {
            "image_idx": lambda: index,
            "image": lambda: dataset.get_image_float32(index),
            **dataset._readers(index),
        }

    def __getitem__(self, key: str) -> Any:
        return self._readers[key]()

    def __contains__(self, key: object) -> bool:
        return key in self._readers  # a mapping's own way is to read it

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def copy(self) -> dict[str, Any]:
        """Everything, read; the host asks for it."""
        return dict(self)


@dataclass(frozen=True)
class _Items(Sequence[Mapping[str, Any]]):
    """All images of a dataset."""

    dataset: DynamicDataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return _Item(self.dataset, range(len(self))[index])


@dataclass(frozen=True)
class EvalFrames(Sequence[tuple[Cameras, dict[str, Any]]]):
    """Cameras and images to evaluate, one at a time."""

    dataset: DynamicDataset
    device: torch.device | str

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[index]
        data = self.dataset.get_data(index)
        data["image"] = data["image"].to(self.device)
        return self.dataset.cameras[index : index + 1].to(self.device), data
