"""Depth networks: the real loading and inference code on tiny random models, and alignment on the sample."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'dyngs-plugins[learned]'")

import tiny_networks

from dyngs_plugins.priors.providers.depth_aligned import inverse_depth
from dyngs_plugins.priors.providers.depth_transformers import DepthAnything, DepthPro
from dyngs_plugins.priors.providers.flow_dis import DISFlow
from dyngs_plugins.priors.providers.inputs import FrameSequence, PriorInputs
from dyngs_plugins.priors.som_files import read_cameras, read_disparity, read_mask

FRAMES = 6


@pytest.fixture(scope="module")
def relative(tmp_path_factory) -> str:
    return str(tiny_networks.depth_anything(tmp_path_factory.mktemp("relative")))


@pytest.fixture(scope="module")
def metric(tmp_path_factory) -> str:
    return str(tiny_networks.depth_anything(tmp_path_factory.mktemp("metric"), "metric"))


@pytest.fixture(scope="module")
def pro(tmp_path_factory) -> str:
    return str(tiny_networks.depth_pro(tmp_path_factory.mktemp("pro")))


@pytest.fixture(scope="module")
def frames(rig) -> FrameSequence:
    cameras = read_cameras(rig / "droid_recon" / "camera0.npy")
    fx, fy, cx, cy = cameras.intrinsics
    files = tuple(sorted((rig / "images" / "camera0").iterdir()))[:FRAMES]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    return FrameSequence(
        "camera0", files, tuple(range(FRAMES)), (48, 64), cameras.world_T_camera[:FRAMES].astype(float),
        np.stack([K] * FRAMES),
    )  # fmt: skip


@pytest.fixture(scope="module")
def truth(rig, frames) -> np.ndarray:
    return np.stack([read_disparity(rig / "aligned_depth_anything/camera0" / f"{s}.npy") for s in frames.stems])


def inputs_of(rig, frames: FrameSequence) -> PriorInputs:
    masks = {"masks": lambda i, j: read_mask(rig / "masks/camera0" / f"{frames.stems[i]}.png")}
    return PriorInputs(frames, DISFlow(), masks)


@pytest.fixture(scope="module")
def inputs(rig, frames) -> PriorInputs:
    return inputs_of(rig, frames)


def noise(count: int, size=(48, 64)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for _ in range(count)]


def test_depth_anything_loads_and_predicts_at_the_images_size(relative):
    provider = DepthAnything(model=relative, input_size=42)
    assert provider.predict(noise(3)).shape == (3, 48, 64)
    assert provider.freedom == "affine"
    assert provider.unavailable() is None
    assert provider.predict(noise(1, (62, 34))).shape == (1, 62, 34), "a portrait video"


def test_batches_do_not_change_the_result(relative):
    provider, images = DepthAnything(model=relative, input_size=42), noise(3)
    together = provider.predict(images)
    alone = np.concatenate([provider.predict([image]) for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-8)


def test_the_metric_model_is_read_as_depth_and_only_scaled(metric):
    provider = DepthAnything(model=metric, input_size=42)
    disparity = provider.predict(noise(1))
    assert provider.freedom == "scale"
    assert (disparity > 0.1).all(), "depths of at most 10 m"


def test_depth_pro_gives_metric_depth_and_a_focal_length(pro):
    provider = DepthPro(model=pro, input_size=128)
    disparity = provider.predict(noise(2))
    assert disparity.shape == (2, 48, 64)
    assert np.nanmin(disparity) > 0
    hint = provider.focal_hint(noise(2))
    assert hint is not None
    assert hint > 0
    assert provider.figures() == {"network's focal px": hint}


def test_a_focal_length_that_differs_is_a_hint(rig, frames, pro):
    provider = DepthPro(model=pro, input_size=128)
    made(provider, inputs_of(rig, frames), [0])
    assert "sees a focal length of" in provider.notes()[-1], "a random network's field of view"
    assert "the cameras have 61" in provider.notes()[-1]


def test_inverse_depth_marks_what_has_none():
    np.testing.assert_array_equal(inverse_depth(np.array([2.0, 0.0, -1.0, np.inf, np.nan])), [0.5] + [np.nan] * 4)


class Known(DepthAnything):
    """Stands in for a trained network: an affine map of the true disparity of each frame, in a foreign unit."""

    answers: np.ndarray
    asked = 0

    def unavailable(self):
        return None

    freedom = "affine"  # type: ignore[assignment]

    def _predict_batch(self, inputs, batch):
        self.asked += 1
        return self.answers[batch * self.batch_size : (batch + 1) * self.batch_size]


def known(answers: np.ndarray, **settings) -> Known:
    provider = Known(**settings)
    provider.answers = answers
    return provider


def made(provider, inputs, indices=range(FRAMES)) -> np.ndarray:
    return np.stack([arrays["disparity"] for _, arrays in provider.compute(inputs, list(indices))])


def error(disparity: np.ndarray, truth: np.ndarray) -> float:
    return float(np.median(np.abs(disparity / truth - 1)))


def test_relative_depth_comes_out_in_the_cameras_scale(rig, frames, truth):
    per_frame = np.linspace(20, 60, FRAMES)[:, None, None]
    provider = known((per_frame * truth - 3.0).astype(np.float32))
    disparity = made(provider, inputs_of(rig, frames))
    assert error(disparity, truth) < 0.05
    figures = provider.figures()
    assert figures["alignment residual"] < 0.05
    assert figures["unknown"] < 0.02
    assert figures["borrowed"] == 0
    (note,) = provider.notes()
    assert "differs from triangulated depth by" in note


def test_metric_depth_is_scaled(rig, frames, truth):
    provider = known(truth / 4.2)
    provider.freedom = "scale"  # type: ignore[assignment]
    assert error(made(provider, inputs_of(rig, frames)), truth) < 0.03


def test_a_resumed_run_gives_the_same(rig, frames, truth):
    answers = (30 * truth - 1).astype(np.float32)
    whole = made(known(answers), inputs_of(rig, frames))
    part = made(known(answers), inputs_of(rig, frames), [2, 5])
    np.testing.assert_array_equal(part, whole[[2, 5]])


def test_a_frame_that_cannot_be_aligned_borrows_and_says_so(rig, frames, truth):
    answers = (30 * truth - 1).astype(np.float32)
    inputs = inputs_of(rig, frames)
    inputs._read = {"masks": lambda i, j: np.full(frames.size, i == 3)}
    provider = known(answers)
    disparity = made(provider, inputs)
    assert error(disparity[3], truth[3]) < 0.08, "its neighbour's scale and shift"
    assert provider.figures()["borrowed"] == 1
    assert "1 images have too few" in provider.notes()[1]


def test_a_network_that_contradicts_the_cameras_is_refused(rig, frames, truth):
    with pytest.raises(ValueError, match="cannot be aligned to the cameras of camera0"):
        made(known((5 - 3 * truth).astype(np.float32)), inputs_of(rig, frames))


def test_a_standing_camera_keeps_the_networks_scale_and_says_so(rig, frames, truth):
    still = dataclasses.replace(frames, world_T_camera=np.stack([np.eye(4)] * FRAMES))
    provider = known((truth * 2 - 0.3).astype(np.float32))
    disparity = made(provider, inputs_of(rig, still))
    kept = disparity > 0
    np.testing.assert_allclose(disparity[kept], (truth * 2 - 0.3)[kept], rtol=1e-5)
    assert "no parallax" in provider.notes()[0]
    assert "no unit" in provider.notes()[0]


def test_negative_and_missing_depth_becomes_unknown_and_is_counted(rig, frames, truth):
    answers = (30 * truth - 1).astype(np.float32)
    answers[:, :4] = np.nan
    provider = known(answers)
    disparity = made(provider, inputs_of(rig, frames))
    assert (disparity[:, :4] == 0).all()
    assert provider.figures()["unknown"] == pytest.approx(4 / 48, abs=0.02)


def test_batches_are_predicted_once(rig, frames, truth):
    provider = known((30 * truth - 1).astype(np.float32), batch_size=3)
    made(provider, inputs_of(rig, frames))
    assert provider.asked == 2


def test_a_network_from_disk_to_aligned_files(inputs, truth, metric):
    """A random metric network sees about the same depth everywhere; aligned, that is the middle of the scene."""
    provider = DepthAnything(model=metric, input_size=42, batch_size=4)
    disparity = made(provider, inputs)
    assert disparity.shape == truth.shape
    assert np.isfinite(disparity).all()
    middle = np.median(truth.reshape(FRAMES, -1), axis=1)
    np.testing.assert_allclose(np.median(disparity.reshape(FRAMES, -1), axis=1), middle, rtol=0.5)
    assert provider.figures()["borrowed"] == 0


def test_damaged_weights_and_another_architecture_are_refused(relative, pro, tmp_path):
    provider = DepthAnything(model=pro, input_size=42)
    with pytest.raises(ValueError, match="cannot be loaded as DepthAnythingForDepthEstimation"):
        provider.predict(noise(1))
    tiny_networks.depth_anything(tmp_path)
    weights = next(tmp_path.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(ValueError, match="only half fetched"):
        DepthAnything(model=str(tmp_path), input_size=42).predict(noise(1))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="cannot be loaded"):
        DepthAnything(model=str(tmp_path), input_size=42).predict(noise(1))
