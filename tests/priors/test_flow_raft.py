"""RAFT through torchvision: weights from a file, any image size, messages without weights. The network is random."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("torchvision.models.optical_flow", reason="torchvision is not installed")

from dyngs_plugins.priors.providers.flow_raft import RaftFlow


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "small.pth"
    torch.save(raft_small(weights=None).state_dict(), path)
    return str(path)


def raft(weights: str, **settings) -> RaftFlow:
    return RaftFlow(network="small", weights=weights, iterations=2, device="cpu", **settings)


def images(height: int, width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (height, width, 3), dtype=np.uint8) for _ in range(2)]


def test_the_same_as_the_network_itself(weights):
    from torchvision.models.optical_flow import raft_small

    first, second = images(128, 160)
    model = raft_small(weights=None).eval()
    model.load_state_dict(torch.load(weights))
    tensors = [torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1 for image in (first, second)]
    with torch.no_grad():
        expected = model(*tensors, num_flow_updates=2)[-1][0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(raft(weights).estimate(first, second), expected, atol=1e-5)
    assert np.abs(expected).max() > 0.01


@pytest.mark.parametrize("size", [(48, 64), (131, 150), (40, 20)])
def test_images_of_any_size(weights, size):
    flow = raft(weights).estimate(*images(*size))
    assert flow.shape == (*size, 2)
    assert flow.dtype == np.float32
    assert np.isfinite(flow).all()


def test_large_images_are_looked_at_in_smaller_copies(weights):
    """Flow is in pixels of the full image: a copy of a third gives a third of the displacement."""
    first, second = images(384, 400)
    small = raft(weights, max_size=200)
    flow = small.estimate(first, second)
    copies = [cv2.resize(image, (200, 192), interpolation=cv2.INTER_AREA) for image in (first, second)]
    inside = raft(weights).estimate(*copies)
    assert flow.shape == (384, 400, 2)
    np.testing.assert_allclose(flow.mean((0, 1)), 2 * inside.mean((0, 1)), rtol=0.02, atol=1e-3)


def test_without_weights_it_says_what_to_fetch(tmp_path):
    message = RaftFlow(weights=str(tmp_path / "none.pth")).unavailable()
    assert message is not None
    for part in ("20 MB", "BSD-3-Clause", "curl -L", "raft_large_C_T_SKHT_V2", "flow.weights=FILE"):
        assert part in message
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        RaftFlow(weights=str(tmp_path / "none.pth")).estimate(*images(32, 32))


def test_torchvisions_own_cache_is_used(tmp_path, monkeypatch, weights):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    provider = RaftFlow(network="small", device="cpu")
    assert provider.unavailable() is not None
    file = provider._file()
    file.parent.mkdir(parents=True)
    shutil.copy(weights, file)
    assert provider.unavailable() is None
    assert provider.estimate(*images(32, 32)).shape == (32, 32, 2)


def test_other_weights_are_refused(weights, tmp_path):
    with pytest.raises(ValueError, match="not the weights of RAFT large"):
        RaftFlow(network="large", weights=weights).estimate(*images(32, 32))
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="half fetched"):
        raft(str(broken)).estimate(*images(32, 32))


def test_settings():
    assert "device" not in RaftFlow().settings
    assert RaftFlow(weights="/somewhere/a.pth").settings["weights"] == "a.pth", "not where it lies on this machine"
    with pytest.raises(ValueError, match="flow.max_size=64"):
        RaftFlow(max_size=64)
