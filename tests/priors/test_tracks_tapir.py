"""The adapter to TAPIR: its coordinates, its order of axes, its logits; a stand-in with its interface does the tracking.

The real package is not on PyPI. The stand-in answers as its documentation says: tracks [b, n, t, 2] of x, y counted from
the image's corner, logits [b, n, t], queries [b, n, 3] of t, y, x.
"""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from dyngs_plugins.priors.providers.tracks_tapir import TapirTracks

SIZE, COUNT, SHIFT = (48, 96), 5, 3.0  # every point goes SHIFT pixels of the network's image to the right each frame


class StandIn(nn.Module):
    calls: list[tuple] = []

    def __init__(self, pyramid_level: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, video, query_points, query_chunk_size):
        StandIn.calls.append((tuple(video.shape), float(video.min()), float(video.max()), len(query_points[0])))
        assert len(query_points[0]) <= query_chunk_size
        t = torch.arange(video.shape[1], dtype=torch.float32)
        start = query_points[..., [2, 1]]
        moved = (t[None, None] - query_points[..., :1])[..., None] * torch.tensor([SHIFT, 0.0])
        x = start[:, :, None] + moved
        return {"tracks": x + 0.01, "occlusion": x[..., 0] - 40.0, "expected_dist": torch.full(x.shape[:3], -2.0)}


@pytest.fixture
def package(monkeypatch, tmp_path) -> str:
    tapir_model = types.ModuleType("tapnet.torch.tapir_model")
    tapir_model.TAPIR = StandIn  # type: ignore[attr-defined]
    for name in ("tapnet", "tapnet.torch", "tree", "einshape"):
        module = types.ModuleType(name)
        module.__spec__ = types.SimpleNamespace(loader=None)  # type: ignore[assignment]
        module.__path__ = []  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "tapnet.torch.tapir_model", tapir_model)
    sys.modules["tapnet.torch"].tapir_model = tapir_model  # type: ignore[attr-defined]
    path = tmp_path / "tapir.pt"
    torch.save(StandIn(1).state_dict(), path)
    StandIn.calls = []
    return str(path)


def inputs(mask: np.ndarray) -> types.SimpleNamespace:
    class Frames(types.SimpleNamespace):
        def __len__(self) -> int:
            return COUNT

    image = np.full((*SIZE, 3), 255, np.uint8)
    image[0, 0] = 0
    return types.SimpleNamespace(
        frames=Frames(size=SIZE, name="camera0"), mask=lambda i: mask, image=lambda i: image,
        remember=lambda key, make: make(),
    )  # fmt: skip


def mask_of_rectangle() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[8:20, 40:60] = True
    return mask


def test_positions_come_back_in_the_clips_pixels(package):
    provider = TapirTracks(checkpoint=package, input_size=64, device="cpu")
    results = dict(provider.compute(inputs(mask_of_rectangle()), [2]))  # type: ignore[arg-type]
    window = results[2]["tracks"]
    queries = window.rows_in(2)[:, :2]
    assert window.frames == (0, 1, 2, 3, 4)
    assert len(queries) == 3 * 5
    np.testing.assert_array_equal(queries[0], [40, 8])
    per_frame = np.array([SHIFT * SIZE[1] / 64, 0.0])
    for t in (0, 1, 3, 4):
        expected = queries + (t - 2) * per_frame
        np.testing.assert_allclose(window.rows_in(t)[:, :2], expected, atol=0.03)
    corner_x = (window.rows_in(3)[:, 0] + 0.5) * 64 / SIZE[1]
    np.testing.assert_allclose(window.rows_in(3)[:, 2], corner_x - 40.0 - 0.01, atol=1e-3)
    assert (window.rows[..., 3] == -2.0).all()


def test_frames_are_square_between_minus_one_and_one_and_points_come_in_chunks(package):
    provider = TapirTracks(checkpoint=package, input_size=64, chunk=4, reach=1, device="cpu")
    results = dict(provider.compute(inputs(mask_of_rectangle()), [0]))  # type: ignore[arg-type]
    assert results[0]["tracks"].frames == (0, 1)
    assert [call[3] for call in StandIn.calls] == [4, 4, 4, 3]
    shape, low, high, _ = StandIn.calls[0]
    assert shape == (1, 2, 64, 64, 3)
    assert -1 <= low < high == 1


def test_an_empty_mask_gives_no_points(package):
    provider = TapirTracks(checkpoint=package, input_size=64, device="cpu")
    (_, arrays), *_ = provider.compute(inputs(np.zeros(SIZE, bool)), [1])  # type: ignore[arg-type]
    assert arrays["tracks"].rows.shape == (COUNT, 0, 4)


def test_without_package_or_weights_it_says_what_to_do(package, tmp_path, monkeypatch):
    message = TapirTracks(checkpoint=str(tmp_path / "none.pt")).unavailable()
    assert message is not None
    for part in ("219 MB", "Apache-2.0", "curl -L", "bootstapir_checkpoint_v2.pt", "tracks.checkpoint=FILE"):
        assert part in message
    monkeypatch.setitem(sys.modules, "tapnet", None)
    monkeypatch.delitem(sys.modules, "tapnet.torch")
    assert "github.com/google-deepmind/tapnet" in str(TapirTracks().unavailable())


def test_other_weights_are_refused(package, tmp_path):
    torch.save({"other": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not torch weights of this TAPIR"):
        list(TapirTracks(checkpoint=str(tmp_path / "other.pt")).compute(inputs(mask_of_rectangle()), [0]))  # type: ignore[arg-type]


def test_settings():
    with pytest.raises(ValueError, match="tracks.input_size=250"):
        TapirTracks(input_size=250)
    settings = TapirTracks(checkpoint="/somewhere/a.pt").settings
    assert settings["checkpoint"] == "a.pt"
    assert "chunk" not in settings
