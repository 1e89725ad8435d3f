"""Models of sound, of transformers."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.corpus.library.pinned import Program
from tests.corpus.library.words import SMALL, WORDS, made, words


def whisper() -> nn.Module:
    """Whisper: a spectrum to words."""
    settings = {
        "vocab_size": WORDS,
        "num_mel_bins": 8,
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_source_positions": 16,
        "max_target_positions": 16,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    }

    def step(model: Any, device: str) -> Tensor:
        spectrum = torch.randn(2, 8, 32, device=device)
        loss: Tensor = model(input_features=spectrum, labels=words(device, length=9)).loss
        return loss

    def write(model: Any, device: str) -> Tensor:
        output: Tensor = model.generate(torch.randn(1, 8, 32, device=device), max_new_tokens=3)
        return output

    return Program(
        made("WhisperForConditionalGeneration", "WhisperConfig", **settings), step, write
    )


#: What the models over waves call their sizes.
WAVES = SMALL | {
    "conv_dim": (8, 8),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "apply_spec_augment": False,
    "num_codevector_groups": 2,
    "num_codevectors_per_group": 4,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
    "num_negatives": 3,
    "layerdrop": 0.0,
    "ctc_loss_reduction": "mean",
    "ctc_zero_infinity": True,
}


def spoken(model: Any, device: str) -> Tensor:
    """CTC loss of waves."""
    labels = words(device, length=5)
    labels[1, 3:] = -100
    mask = torch.ones(2, 320, dtype=torch.long, device=device)
    mask[1, 250:] = 0
    loss: Tensor = model(
        torch.randn(2, 320, device=device), attention_mask=mask, labels=labels
    ).loss
    return loss


def wav2vec() -> nn.Module:
    """Wav2Vec2: convolutions over waves, weight norm, CTC."""
    return Program(made("Wav2Vec2ForCTC", "Wav2Vec2Config", **WAVES), spoken)


def conformer() -> nn.Module:
    """Wav2Vec2-Conformer: gated and depthwise convolutions, relative positions, CTC."""
    settings = WAVES | {"position_embeddings_type": "relative", "conv_depthwise_kernel_size": 5}
    return Program(made("Wav2Vec2ConformerForCTC", "Wav2Vec2ConformerConfig", **settings), spoken)


def wav2vec_pretraining() -> nn.Module:
    """Wav2Vec2's pretraining: Gumbel softmax over code words, contrastive loss."""

    def step(model: Any, device: str) -> Tensor:
        waves = torch.randn(2, 320, device=device)
        length = int(model._get_feat_extract_output_lengths(320))
        hidden = torch.zeros(2, length, dtype=torch.bool, device=device)
        hidden[:, 3:12] = True
        wrong = torch.randint(0, 2 * length, (2, length, 3), device=device)
        loss: Tensor = model(waves, mask_time_indices=hidden, sampled_negative_indices=wrong).loss
        return loss / 20

    return Program(made("Wav2Vec2ForPreTraining", "Wav2Vec2Config", **WAVES), step)


def encodec() -> nn.Module:
    """EnCodec: sound through code words and back."""
    settings = {
        "num_filters": 4,
        "num_residual_layers": 1,
        "upsampling_ratios": [4, 2],
        "hidden_size": 8,
        "codebook_size": 16,
        "codebook_dim": 8,
        "num_lstm_layers": 1,
        "target_bandwidths": [24.0],
        "kernel_size": 3,
        "last_kernel_size": 3,
        "audio_channels": 1,
    }

    def step(model: Any, device: str) -> Tensor:
        waves = torch.rand(1, 1, 128, device=device) - 0.5
        loss: Tensor = (model(waves).audio_values - waves).abs().mean()
        return loss

    return Program(made("EncodecModel", "EncodecConfig", **settings), step)
