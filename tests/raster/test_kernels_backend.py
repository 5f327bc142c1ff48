"""What only the compiled backend promises: bits that do not depend on threads, and calls that do not disturb each other."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")

from dyngs_plugins.raster import numba_backend, rasterize


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def _everything(scene: dict[str, Tensor], width: int, height: int, **options: Any) -> list[Tensor]:
    """Image, alpha and all gradients."""
    leaves = {name: tensor.float().requires_grad_(name != "Ks") for name, tensor in scene.items()}
    image, alpha, info = rasterize(**leaves, width=width, height=height, backend="numba", **options)
    weights = torch.sin(torch.arange(image.numel())).reshape(image.shape)
    ((image * weights).sum() + (alpha * alpha).sum()).backward()
    results = [image, alpha, *(leaf.grad for leaf in leaves.values() if leaf.grad is not None)]
    return [*results, info["means2d"].absgrad] if options.get("absgrad") else results


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("channels", "options"), [(3, {}), (4, {"absgrad": True}), (17, {"absgrad": True}), (33, {})])
def test_the_same_bits_for_any_number_of_threads(random_scene, threads, channels: int, options: dict):
    scene = random_scene(1500, 83, 61, channels=channels, cameras=3)
    threads(1)
    expected = _everything(scene, 83, 61, **options)
    for number in (1, 2, 3, 7):
        threads(number)
        assert _same(expected, _everything(scene, 83, 61, **options)), f"{number} threads"


def test_the_same_bits_when_several_threads_render_at_once(random_scene):
    scenes = [random_scene(800, 64, 48, seed=seed) for seed in range(3)]
    expected = [_everything(scene, 64, 48) for scene in scenes]
    failures: list[int] = []

    def render(index: int) -> None:
        for _ in range(8):
            if not _same(expected[index], _everything(scenes[index], 64, 48)):
                failures.append(index)

    workers = [threading.Thread(target=render, args=(index,)) for index in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


def test_an_interrupted_render_leaves_no_trace(random_scene):
    """nerfstudio's viewer raises from a trace function, at any line."""
    scene = random_scene(300, 48, 40)
    expected = _everything(scene, 48, 40)
    watched = {numba_backend.__file__, numba_backend.current_team.__code__.co_filename}
    generator = random.Random(0)
    interrupts = 0

    def interrupt(frame, event, argument):
        if event == "line" and frame.f_code.co_filename in watched and generator.random() < 0.02:
            raise InterruptedError
        return interrupt

    previous = sys.gettrace()
    for _ in range(40):
        sys.settrace(interrupt)
        try:
            _everything(scene, 48, 40)
        except InterruptedError:
            interrupts += 1
        finally:
            sys.settrace(previous)
        assert _same(expected, _everything(scene, 48, 40))
    assert interrupts > 5


@pytest.mark.parametrize("channels", [4, 6])
def test_many_views_in_one_call_equal_one_call_each(random_scene, channels: int):
    """Shared Gaussians: their gradients are the sums over the views, to rounding."""
    scene = random_scene(600, 50, 70, channels=channels, cameras=4)
    together = _everything(scene, 50, 70)
    per_view = ("viewmats", "Ks", "backgrounds")
    names = [name for name in scene if name != "Ks"]
    sums: dict[str, Any] = {}
    for view in range(4):
        one = {name: tensor[view : view + 1] if name in per_view else tensor for name, tensor in scene.items()}
        leaves = {name: tensor.float().requires_grad_(name != "Ks") for name, tensor in one.items()}
        image, alpha, _ = rasterize(**leaves, width=50, height=70, backend="numba")
        assert torch.equal(image[0], together[0][view])
        assert torch.equal(alpha[0], together[1][view])
        size = together[0][0].numel()
        weights = torch.sin(torch.arange(view * size, (view + 1) * size)).reshape(image.shape)
        ((image * weights).sum() + (alpha * alpha).sum()).backward()
        for name in names:
            sums.setdefault(name, []).append(leaves[name].grad)
    for name, gradient in zip(names, together[2:], strict=True):
        parts = sums[name]
        expected = torch.cat(parts) if name in per_view else torch.stack(parts).sum(dim=0)
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_no_gaussian_and_no_visible_gaussian(random_scene):
    scene = random_scene(20, 30, 20)
    nobody = {
        name: t[:0] if name in ("means", "quats", "scales", "opacities", "colors") else t for name, t in scene.items()
    }
    behind = scene | {"means": scene["means"] - torch.tensor([0.0, 0.0, 50.0])}
    for arguments in (nobody, behind):
        image, alpha, *gradients = _everything(arguments, 30, 20)
        assert torch.equal(image[0], scene["backgrounds"][0].float().expand(20, 30, -1))
        assert not alpha.any()
        # Only the background is seen.
        assert sum(bool(gradient.any()) for gradient in gradients) == 1


_FIRST_USE = """
    import logging, sys, time
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    import numba, torch
    from dyngs_plugins.raster import rasterize
    n = 50
    start = time.process_time()
    rasterize(torch.randn(n, 3) + torch.tensor([0, 0, 5.0]), torch.randn(n, 4), torch.full((n, 3), 0.1), torch.full((n,), 0.5),
              torch.rand(n, 3), torch.eye(4)[None], torch.tensor([[[40.0, 0, 20], [0, 40, 20], [0, 0, 1]]]), 40, 40, backend="numba")
    print("took", time.process_time() - start)
"""


def _first_use(cache: str) -> str:
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", textwrap.dedent(_FIRST_USE)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_first_use_says_that_it_compiles_and_the_second_uses_the_cache(tmp_path):
    first, second = _first_use(str(tmp_path)), _first_use(str(tmp_path))
    assert first.count("ompiling") == 1, "one message"
    assert "ompiling" not in second
    assert any(path.suffix == ".nbi" for path in tmp_path.rglob("*"))
    seconds = [float(output.split("took")[1]) for output in (first, second)]
    assert seconds[1] < 0.5 * seconds[0]


@pytest.mark.parametrize("moving", ["means", "quats", "scales", "opacities", "colors", "covars"])
@pytest.mark.parametrize("absgrad", [False, True])
def test_any_one_tensor_may_differ_from_view_to_view(random_scene, moving: str, absgrad: bool):
    """Each array has its own camera axis or none: against one call per view, in values and gradients."""
    scene = random_scene(300, 50, 40, cameras=3)
    if moving == "covars":
        matrix = torch.randn(3, 300, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        covars = 0.003 * matrix @ matrix.mT
        scene = {name: t for name, t in scene.items() if name not in ("quats", "scales")} | {"covars": covars}
        covariance = {"quats": None, "scales": None}
    else:
        # Not multiples of each other: a quaternion times a number is the same rotation.
        steps = torch.tensor([0.0, 0.05, -0.05]).reshape(3, *[1] * scene[moving].ndim)
        scene = scene | {moving: scene[moving] + steps * scene[moving].std()}
        covariance = {}
    views = ("viewmats", "Ks", "backgrounds", moving)
    together = _everything(scene, 50, 40, absgrad=absgrad, **covariance)
    leaves = {name: tensor.float().requires_grad_(name != "Ks") for name, tensor in scene.items()}
    images, alphas = [], []
    for view in range(3):
        one = {
            name: leaf[view : view + 1] if name in views and name != moving else leaf for name, leaf in leaves.items()
        }
        one[moving] = leaves[moving][view]
        image, alpha, _ = rasterize(**one, width=50, height=40, backend="numba", **covariance)
        images.append(image)
        alphas.append(alpha)
    image, alpha = torch.cat(images), torch.cat(alphas)
    weights = torch.sin(torch.arange(image.numel())).reshape(image.shape)
    ((image * weights).sum() + (alpha * alpha).sum()).backward()
    assert torch.equal(image, together[0])
    assert torch.equal(alpha, together[1])
    expected = [leaf.grad for leaf in leaves.values() if leaf.grad is not None]
    for gradient, one in zip(together[2:], expected, strict=not absgrad):
        torch.testing.assert_close(gradient, one, rtol=1e-4, atol=1e-5 * one.abs().max().item())


@pytest.fixture
def dirty_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh memory holds NaN, as what is left behind by others may: whatever is read must have been written."""
    real = np.empty

    def soiled(shape, dtype=float, *args, **kwargs):
        array = real(shape, dtype, *args, **kwargs)
        array.fill(np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).max // 2)
        return array

    monkeypatch.setattr(numba_backend.np, "empty", soiled)
    torch.use_deterministic_algorithms(True)  # makes torch.empty do the same
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("channels", [3, 17])
@pytest.mark.parametrize("options", [{}, {"absgrad": True, "rasterize_mode": "antialiased"}])
def test_nothing_is_read_that_was_not_written(random_scene, request, channels: int, options: dict):
    """Gaussians behind the camera, off screen, too faint to be drawn anywhere, and behind opaque ones."""
    scene = random_scene(600, 83, 61, channels=channels, cameras=2, lost=0.3)
    scene["opacities"][::5] = 1e-4  # projected, but kept by no tile
    scene["opacities"][1::5] = 0.999
    clean = _everything(scene, 83, 61, **options)
    request.getfixturevalue("dirty_memory")
    for _ in range(2):
        dirty = _everything(scene, 83, 61, **options)
        assert all(bool(torch.isfinite(tensor).all()) for tensor in dirty)
        assert _same(clean, dirty)
