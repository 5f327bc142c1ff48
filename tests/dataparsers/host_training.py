"""A few steps of a host's method on a dataparser of ours, on the CPU and without a network."""

from __future__ import annotations

import random
from copy import deepcopy
from unittest import mock

import torch
from torch import nn


def host_losses(method: str, dataparser, steps: int = 5, rays: int = 64) -> list[float]:
    """Train a host's ray-based method and render a row of an evaluation image; the loss of each step."""
    from nerfstudio.configs.method_configs import method_configs
    from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig

    config = deepcopy(method_configs[method].pipeline)
    config.datamanager = VanillaDataManagerConfig(
        dataparser=dataparser, train_num_rays_per_batch=rays, eval_num_rays_per_batch=rays
    )
    # LPIPS would be downloaded when the model is made.
    lpips = "torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity"
    with mock.patch(lpips, return_value=nn.Identity()):
        return pipeline_losses(config, steps)


def pipeline_losses(config, steps: int) -> list[float]:
    """The loss of each step of a pipeline; finite colours of an evaluation image at the end."""
    torch.manual_seed(0)
    random.seed(0)  # the host draws pixels with it
    pipeline = config.setup(device="cpu", test_mode="val")
    parameters = [p for group in pipeline.get_param_groups().values() for p in group]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        _, terms, _ = pipeline.get_train_loss_dict(step)
        loss = sum(terms.values())
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    camera, _ = pipeline.datamanager.next_eval_image(0)
    camera.rescale_output_resolution(8 / int(camera.width[0]))
    outputs = pipeline.model.get_outputs_for_camera(camera)
    rgb = outputs["rgb"] if "rgb" in outputs else outputs["rgb_fine"]
    assert torch.isfinite(rgb).all()
    assert rgb.std() > 0
    return losses
