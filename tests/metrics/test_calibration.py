"""The image metrics on a public run: 4DGS's renders of D-NeRF's bouncingballs, whose PSNR others have measured too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dyngs_plugins.metrics.image import psnr

BALLS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bouncingballs-4dgs"


def read(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).float() / 255.0


@pytest.mark.skipif(not BALLS.is_dir(), reason="the bouncingballs renders are not here")
def test_psnr_of_a_public_run():
    """The mean of per-image PSNR is what papers print; the PSNR of the pooled error is half a dB lower."""
    names = sorted(path.name for path in (BALLS / "gt").glob("*.png"))
    assert len(names) == 20
    values, squared = [], []
    for name in names:
        truth, render = read(BALLS / "gt" / name), read(BALLS / "renders" / name)
        values.append(float(psnr(render, truth)))
        squared.append(float((render.double() - truth.double()).square().mean()))
    assert np.mean(values) == pytest.approx(40.755, abs=0.0006)
    assert -10.0 * np.log10(np.mean(squared)) == pytest.approx(40.20, abs=0.006)
