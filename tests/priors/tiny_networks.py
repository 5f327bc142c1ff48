"""Published architectures shrunk to a few layers with random weights, saved to disk as their real weights are."""

from __future__ import annotations

import json
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


def sam2(folder: Path) -> Path:
    """SAM 2 for videos of 128 pixels, with five blocks and one layer of memory."""
    from transformers import (
        Sam2HieraDetConfig,
        Sam2ImageProcessor,
        Sam2VideoConfig,
        Sam2VideoModel,
        Sam2VideoProcessor,
        Sam2VideoVideoProcessor,
        Sam2VisionConfig,
    )

    torch.manual_seed(0)
    size, dim = 128, 128
    backbone = Sam2HieraDetConfig(
        hidden_size=8, image_size=[size, size], patch_kernel_size=[7, 7], patch_stride=[4, 4], patch_padding=[3, 3],
        query_stride=[2, 2], window_positional_embedding_background_size=[4, 4], num_query_pool_stages=3,
        blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 1, 2, 4],
        window_size_per_stage=[4, 4, 4, 4], global_attention_blocks=[3],
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=dim,
        backbone_feature_sizes=[[size // 4] * 2, [size // 8] * 2, [size // 16] * 2], fpn_top_down_levels=[2, 3],
        num_feature_levels=3,
    )  # fmt: skip
    config = Sam2VideoConfig(
        vision_config=vision, image_size=size, memory_attention_rope_feat_sizes=[size // 16] * 2, **_tracker(dim, size, 16)
    )  # fmt: skip
    Sam2VideoModel(config).save_pretrained(folder)
    square = {"height": size, "width": size}
    small = {"height": size // 4, "width": size // 4}
    processor = Sam2VideoProcessor(
        Sam2ImageProcessor(size=square, mask_size=small), Sam2VideoVideoProcessor(size=square)
    )
    processor.save_pretrained(folder)
    return folder


def sam3(folder: Path) -> Path:
    """SAM 3 for videos of 56 pixels: detector, text encoder and tracker of one or two layers, letters as vocabulary."""
    from transformers import (
        CLIPTokenizer,
        Sam2VideoVideoProcessor,
        Sam3ImageProcessor,
        Sam3VideoConfig,
        Sam3VideoModel,
        Sam3VideoProcessor,
    )

    torch.manual_seed(0)
    size, patch, dim = 56, 14, 128
    vit = {
        "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": size, "patch_size": patch, "window_size": 2, "global_attn_indexes": [1],
        "pretrain_image_size": size,
    }  # fmt: skip
    vision = {
        "model_type": "sam3_vision_model", "backbone_config": vit, "fpn_hidden_size": dim,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    text = {
        "model_type": "clip_text_model", "vocab_size": 60, "hidden_size": 32, "intermediate_size": 32,
        "projection_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32,
        "hidden_act": "gelu", "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    layers = {"hidden_size": dim, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    detector = {
        "model_type": "sam3", "vision_config": vision, "text_config": text, "geometry_encoder_config": layers,
        "detr_encoder_config": layers, "detr_decoder_config": {**layers, "num_queries": 5},
        "mask_decoder_config": {"hidden_size": dim, "num_attention_heads": 2, "num_upsampling_stages": 2},
    }  # fmt: skip
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "image_size": size,
        **_tracker(dim, size, patch),
    }
    config = Sam3VideoConfig(
        detector_config=detector, tracker_config=tracker, low_res_mask_size=16, score_threshold_detection=0.0,
        new_det_thresh=0.0, hotstart_delay=2, hotstart_unmatch_thresh=2, hotstart_dup_thresh=2,
    )  # fmt: skip
    Sam3VideoModel(config).save_pretrained(folder)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    square = {"height": size, "width": size}
    images = Sam3ImageProcessor(size=square, mask_size={"height": 16, "width": 16})
    Sam3VideoProcessor(images, Sam2VideoVideoProcessor(size=square), tokenizer).save_pretrained(folder)
    return folder


def _tracker(dim: int, size: int, patch: int) -> dict[str, object]:
    """What the trackers of SAM 2 and SAM 3 have in common."""
    return {
        "prompt_encoder_config": {"hidden_size": dim, "image_size": size, "patch_size": patch, "mask_input_channels": 4},
        "mask_decoder_config": {
            "hidden_size": dim, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32,
        },
        "memory_attention_hidden_size": dim, "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 32, "memory_encoder_hidden_size": dim,
        "memory_encoder_output_channels": 64, "mask_downsampler_embed_dim": dim, "memory_fuser_embed_dim": dim,
        "memory_fuser_intermediate_dim": 32, "memory_fuser_num_layers": 1, "num_maskmem": 4,
    }  # fmt: skip
