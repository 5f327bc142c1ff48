"""Every exposure keeps light: its weights sum to one, and a scene of one colour stays that colour."""

import torch
from exposure_pairs import VIEW, each_pair, rendered, scene_of
from exposure_scenes import VIEWS, arguments

from dyngs_plugins.scene import Scene

COLOR = torch.tensor([0.2, 0.5, 0.8])


def paint(scene: Scene) -> None:
    """Every Gaussian in one colour at every time, whatever the field does with colours."""
    parts_at = scene.parts_at
    scene.parts_at = lambda times: [
        part.replace(colors=COLOR.expand(len(part), 3), harmonics=None) for part in parts_at(times)
    ]


@each_pair()
def test_light_is_kept(motion: str, exposure: str):
    scene = scene_of(motion, exposure)
    instants = scene.exposure.instants(*arguments(VIEW), mode="train")
    assert float(instants.weight.min()) >= 0
    torch.testing.assert_close(torch.zeros(VIEWS).index_add(0, instants.view, instants.weight), torch.ones(VIEWS))
    assert bool((instants.time >= 0).all())
    assert bool((instants.time <= 1).all())
    paint(scene)
    image = rendered(scene, background=COLOR)
    torch.testing.assert_close(image, COLOR.expand_as(image), atol=1e-5, rtol=1e-5)
