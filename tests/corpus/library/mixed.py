"""Models of images with texts, of transformers."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.corpus.library.pinned import Program
from tests.corpus.library.words import SMALL, WORDS, made, words


def clip() -> nn.Module:
    """CLIP: images and texts told apart by a contrast."""
    settings = {
        "text_config": SMALL | {"projection_dim": 16},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "image_size": 16,
            "patch_size": 8,
            "projection_dim": 16,
        },
        "projection_dim": 16,
    }

    def step(model: Any, device: str) -> Tensor:
        ids = words(device, rows=3, length=8)
        ids[:, -1] = 2
        loss: Tensor = model(
            input_ids=ids, pixel_values=torch.rand(3, 3, 16, 16, device=device), return_loss=True
        ).loss
        return loss

    return Program(made("CLIPModel", "CLIPConfig", **settings), step)


def qwen_vl() -> nn.Module:
    """Qwen2-VL: images among words, positions in three directions."""
    settings = {
        "text_config": SMALL
        | {
            "num_key_value_heads": 2,
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1], "rope_type": "default"},
        },
        "vision_config": {
            "depth": 1,
            "embed_dim": 16,
            "num_heads": 2,
            "hidden_size": 32,
            "patch_size": 4,
            "mlp_ratio": 2,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        "image_token_id": 5,
        "vision_start_token_id": 6,
        "video_token_id": 7,
    }

    def step(model: Any, device: str) -> Tensor:
        ids = torch.randint(8, WORDS, (1, 14), device=device)
        ids[:, 2] = 6
        ids[:, 3:7] = 5
        grid = torch.tensor([[1, 4, 4]], device=device)
        pixels = torch.randn(16, 3 * 2 * 4 * 4, device=device)
        loss: Tensor = model(
            input_ids=ids,
            pixel_values=pixels,
            image_grid_thw=grid,
            labels=ids,
            mm_token_type_ids=(ids == 5).long(),
        ).loss
        return loss

    return Program(made("Qwen2VLForConditionalGeneration", "Qwen2VLConfig", **settings), step)
