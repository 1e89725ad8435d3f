"""Autoencoders of diffusers, tiny and with random weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as f

from tests.corpus.library.pinned import Program, load


def autoencoder() -> nn.Module:
    """The autoencoder of Stable Diffusion: a drawn latent, its divergence."""
    model = load("diffusers").AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )

    def step(model: Any, device: str) -> Tensor:
        images = torch.rand(2, 3, 16, 16, device=device)
        latent = model.encode(images).latent_dist
        output = model.decode(latent.sample())
        loss: Tensor = f.l1_loss(output.sample, images) + 1e-4 * latent.kl().mean()
        return loss

    return Program(model, step)


def quantized() -> nn.Module:
    """VQ-VAE: latents put to the nearest code word."""
    model = load("diffusers").VQModel(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        sample_size=16,
        num_vq_embeddings=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )

    def step(model: Any, device: str) -> Tensor:
        images = torch.rand(2, 3, 16, 16, device=device)
        output = model(images)
        loss: Tensor = f.mse_loss(output.sample, images) + output.commit_loss.mean()
        return loss

    return Program(model, step)


def video_autoencoder() -> nn.Module:
    """The autoencoder of Wan: causal convolutions over video."""
    model = load("diffusers").AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[True],
    )

    def step(model: Any, device: str) -> Tensor:
        video = torch.rand(1, 3, 5, 8, 8, device=device)
        return f.mse_loss(model(video).sample, video)

    return Program(model, step)
