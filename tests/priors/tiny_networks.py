"""Published architectures shrunk to a few layers with random weights, saved to disk as their real weights are."""

from __future__ import annotations

from pathlib import Path

import torch


def depth_anything(folder: Path, kind: str = "relative") -> Path:
    """Depth Anything with a Dinov2 of four layers, for images of 42 pixels."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(0)
    backbone = Dinov2Config(
        image_size=42, patch_size=14, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=2,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8, head_hidden_size=8, depth_estimation_type=kind, max_depth=10,
    )  # fmt: skip
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    processor = DPTImageProcessor(
        do_resize=True, size={"height": 42, "width": 42}, keep_aspect_ratio=True, ensure_multiple_of=14
    )
    processor.save_pretrained(folder)
    return folder


def depth_pro(folder: Path) -> Path:
    """Depth Pro with three encoders of three layers, for images of 128 pixels."""
    from transformers import DepthProConfig, DepthProForDepthEstimation, DepthProImageProcessor, Dinov2Config

    torch.manual_seed(0)

    def encoder() -> Dinov2Config:
        return Dinov2Config(
            image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, mlp_ratio=2
        )

    config = DepthProConfig(
        fusion_hidden_size=16, patch_size=32, intermediate_hook_ids=[2, 0], intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.25, 0.5, 1.0], scaled_images_overlap_ratios=[0.0, 0.5, 0.25],
        scaled_images_feature_dims=[8, 8, 8], merge_padding_value=1, use_fov_model=True, num_fov_head_layers=1,
        image_model_config=encoder(), patch_model_config=encoder(), fov_model_config=encoder(),
    )  # fmt: skip
    DepthProForDepthEstimation(config).save_pretrained(folder)
    DepthProImageProcessor(size={"height": 128, "width": 128}).save_pretrained(folder)
    return folder
