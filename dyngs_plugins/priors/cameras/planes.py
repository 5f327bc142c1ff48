"""Whether still tracks lie on one plane, in which case focal length and relief are weakly determined."""

from __future__ import annotations

import numpy as np

from dyngs_plugins.priors.cameras.moving import MIN_SHARED, transfer_error
from dyngs_plugins.priors.cameras.observations import Observations
from dyngs_plugins.priors.two_views import homography


def plane_share(observations: Observations, noise: float = 1.0, pairs: int = 8) -> float:
    """Share of the tracks that one homography explains between frames far apart, in the median over pairs of frames.

    Args:
        noise: pixels within which a track is explained.
    """
    shares = []
    for i in np.linspace(0, observations.num_frames - 2, pairs).astype(int):
        # The frame furthest away that still shares tracks shows most parallax.
        shared = (observations.shared(int(i), j) for j in range(observations.num_frames - 1, int(i), -1))
        pair = next((pair for pair in shared if len(pair[0]) >= MIN_SHARED), None)
        if pair is None:
            continue
        source, target = (observations.xy[places] for places in pair)
        plane = homography(source, target, noise)
        if plane is not None:
            shares.append(float((transfer_error(plane[0], source, target) < 1.5 * noise).mean()))
    return float(np.median(shares)) if shares else 0.0
