"""Models of images, of transformers."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.corpus.library.pinned import Program
from tests.corpus.library.words import made

#: What the models over patches call their sizes.
PATCHES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 5,
}


def vit() -> nn.Module:
    """ViT on images of another size than that of its positions."""

    def step(model: Any, device: str) -> Tensor:
        images = torch.rand(2, 3, 40, 40, device=device)
        labels = torch.randint(0, 5, (2,), device=device)
        loss: Tensor = model(images, labels=labels, interpolate_pos_encoding=True).loss
        return loss

    return Program(made("ViTForImageClassification", "ViTConfig", **PATCHES), step)


def vit_mae() -> nn.Module:
    """Masked autoencoder."""
    settings = PATCHES | {
        "decoder_hidden_size": 16,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 24,
    }

    def step(model: Any, device: str) -> Tensor:
        loss: Tensor = model(torch.rand(2, 3, 32, 32, device=device)).loss
        return loss

    return Program(made("ViTMAEForPreTraining", "ViTMAEConfig", **settings), step)


def segformer() -> nn.Module:
    """SegFormer: attention over shortened keys, features interpolated to one size."""
    settings = {
        "num_encoder_blocks": 2,
        "depths": [1, 1],
        "sr_ratios": [2, 1],
        "hidden_sizes": [16, 32],
        "patch_sizes": [7, 3],
        "strides": [4, 2],
        "num_attention_heads": [1, 2],
        "mlp_ratios": [2, 2],
        "decoder_hidden_size": 16,
        "num_labels": 4,
    }

    def step(model: Any, device: str) -> Tensor:
        target = torch.randint(0, 4, (2, 32, 32), device=device)
        loss: Tensor = model(torch.rand(2, 3, 32, 32, device=device), labels=target).loss
        return loss

    return Program(made("SegformerForSemanticSegmentation", "SegformerConfig", **settings), step)


def dpt() -> nn.Module:
    """DPT: depth from a transformer's features."""
    settings = PATCHES | {
        "num_hidden_layers": 4,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [8, 8, 16, 16],
        "fusion_hidden_size": 8,
        "is_hybrid": False,
        "reassemble_factors": [4, 2, 1, 0.5],
    }

    def step(model: Any, device: str) -> Tensor:
        depth = model(torch.rand(2, 3, 32, 32, device=device)).predicted_depth
        return nn.functional.smooth_l1_loss(depth, torch.rand_like(depth))

    return Program(made("DPTForDepthEstimation", "DPTConfig", **settings), step)


def super_resolution() -> nn.Module:
    """Swin2SR: an image made larger by a shuffle of pixels."""
    settings = {
        "image_size": 16,
        "patch_size": 1,
        "embed_dim": 16,
        "depths": [2],
        "num_heads": [2],
        "window_size": 4,
        "upscale": 2,
        "upsampler": "pixelshuffle",
    }

    def step(model: Any, device: str) -> Tensor:
        large = torch.rand(1, 3, 32, 32, device=device)
        small = nn.functional.interpolate(large, scale_factor=0.5, mode="area")
        return nn.functional.l1_loss(model(small).reconstruction, large)

    return Program(made("Swin2SRForImageSuperResolution", "Swin2SRConfig", **settings), step)
