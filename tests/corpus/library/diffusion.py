"""Diffusion models of diffusers, tiny and with random weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as f

from tests.corpus.library.pinned import Program, load

#: Of the noise schedules.
STEPS = 20


def denoised(
    shape: tuple[int, ...], scheduler: Any, given: Callable[[str], dict[str, Tensor]]
) -> tuple[Callable[[Any, str], Tensor], Callable[[Any, str], Tensor]]:
    """The loss of the predicted noise, and one step of the scheduler back from noise."""

    def step(model: Any, device: str) -> Tensor:
        clean = torch.rand(shape, device=device)
        noise = torch.randn_like(clean)
        times = torch.randint(0, STEPS, shape[:1], device=device)
        noisy = scheduler.add_noise(clean, noise, times)
        return f.mse_loss(
            model(noisy, timestep=times, **given(device)).sample.float()[:, : shape[1]], noise
        )

    def write(model: Any, device: str) -> Tensor:
        scheduler.set_timesteps(4, device=device)
        noise = torch.randn(shape, device=device)
        time = scheduler.timesteps[1]
        times = time.expand(shape[0])
        output = model(noise, timestep=times, **given(device)).sample[:, : shape[1]]
        previous: Tensor = scheduler.step(output, time, noise).prev_sample
        return previous

    return step, write


def unet() -> nn.Module:
    """U-Net of DDPM: residual blocks in time, attention, one step of DDPM."""
    model = load("diffusers").UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        attention_head_dim=8,
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    scheduler = load("diffusers").DDPMScheduler(STEPS, clip_sample=True)
    return Program(model, *denoised((2, 3, 16, 16), scheduler, lambda device: {}))


def conditioned() -> nn.Module:
    """U-Net of Stable Diffusion: attention to a text, gated GELU, one step of DDIM."""
    model = load("diffusers").UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=16,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
    )
    scheduler = load("diffusers").DDIMScheduler(STEPS, beta_schedule="squaredcos_cap_v2")
    return Program(
        model,
        *denoised(
            (2, 4, 8, 8),
            scheduler,
            lambda device: {"encoder_hidden_states": torch.randn(2, 5, 16, device=device)},
        ),
    )


def dit() -> nn.Module:
    """DiT: a transformer over patches, scaled and shifted by class and time."""
    model = load("diffusers").DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=10,
        norm_num_groups=4,
    )
    scheduler = load("diffusers").DPMSolverMultistepScheduler(STEPS)
    return Program(
        model,
        *denoised(
            (2, 4, 8, 8),
            scheduler,
            lambda device: {"class_labels": torch.randint(0, 10, (2,), device=device)},
        ),
    )


def flux() -> nn.Module:
    """FLUX: image and text in one attention, rotary positions, flow matching, a step of Euler."""
    model = load("diffusers").FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 6, 6),
        guidance_embeds=True,
    )
    scheduler = load("diffusers").FlowMatchEulerDiscreteScheduler(STEPS)

    def given(device: str) -> dict[str, Tensor]:
        places = torch.zeros(16, 3, device=device)
        places[:, 1] = torch.arange(16, device=device) // 4
        places[:, 2] = torch.arange(16, device=device) % 4
        return {
            "encoder_hidden_states": torch.randn(2, 5, 16, device=device),
            "pooled_projections": torch.randn(2, 8, device=device),
            "txt_ids": torch.zeros(5, 3, device=device),
            "img_ids": places,
            "guidance": torch.full((2,), 3.5, device=device),
        }

    def step(model: Any, device: str) -> Tensor:
        clean, noise = torch.randn(2, 2, 16, 4, device=device)
        share = torch.randn(2, device=device).sigmoid()
        noisy = (1 - share[:, None, None]) * clean + share[:, None, None] * noise
        output = model(hidden_states=noisy, timestep=share, **given(device)).sample
        return f.mse_loss(output.float(), noise - clean)

    def write(model: Any, device: str) -> Tensor:
        scheduler.set_timesteps(4, device=device)
        noise = torch.randn(2, 16, 4, device=device)
        time = scheduler.timesteps[0]
        output = model(hidden_states=noise, timestep=time.expand(2) / 1000, **given(device)).sample
        previous: Tensor = scheduler.step(output, time, noise).prev_sample
        return previous

    return Program(model, step, write)


def wan() -> nn.Module:
    """Wan: a transformer over video, complex rotary positions."""
    model = load("diffusers").WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=16,
        ffn_dim=32,
        num_layers=1,
        rope_max_seq_len=16,
    )

    def step(model: Any, device: str) -> Tensor:
        video = torch.randn(1, 4, 2, 8, 8, device=device)
        output = model(
            hidden_states=video,
            timestep=torch.randint(0, STEPS, (1,), device=device),
            encoder_hidden_states=torch.randn(1, 5, 8, device=device),
        ).sample
        return f.mse_loss(output.float(), torch.randn_like(video))

    return Program(model, step)
