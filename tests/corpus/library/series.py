"""Models of time series, of transformers."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.corpus.library.pinned import Program, in_single
from tests.corpus.library.words import made


def _series(model: str, configuration: str, *, transformed: bool = False, **more: Any) -> nn.Module:
    """A model that predicts 4 values from 8; `transformed`: by Fourier transforms."""
    settings = {
        "prediction_length": 4,
        "context_length": 8,
        "lags_sequence": [1, 2],
        "num_time_features": 1,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "num_parallel_samples": 2,
    } | more

    def given(device: str) -> dict[str, Tensor]:
        return {
            "past_values": torch.rand(2, 10, device=device).mul(5).round(),
            "past_time_features": torch.rand(2, 10, 1, device=device),
            "past_observed_mask": torch.ones(2, 10, device=device),
            "future_time_features": torch.rand(2, 4, 1, device=device),
        }

    def step(model: Any, device: str) -> Tensor:
        loss: Tensor = model(
            **given(device), future_values=torch.rand(2, 4, device=device).mul(5).round()
        ).loss
        return loss

    def write(model: Any, device: str) -> Tensor:
        output: Tensor = model.generate(**given(device)).sequences
        return output

    chosen = in_single(step) if transformed else step
    return Program(made(model, configuration, **settings), chosen, write)


def autoformer() -> nn.Module:
    """Autoformer: series decomposed, correlated by Fourier transforms, Student's t likelihood."""
    return _series(
        "AutoformerForPrediction",
        "AutoformerConfig",
        transformed=True,
        moving_average=5,
        autocorrelation_factor=1,
        label_length=4,
    )


def series_transformer() -> nn.Module:
    """Time series transformer: negative binomial counts."""
    return _series(
        "TimeSeriesTransformerForPrediction",
        "TimeSeriesTransformerConfig",
        distribution_output="negative_binomial",
    )


def patchtst() -> nn.Module:
    """PatchTST: masked patches of series."""
    settings = {
        "num_input_channels": 2,
        "context_length": 16,
        "patch_length": 4,
        "patch_stride": 4,
        "num_hidden_layers": 1,
        "d_model": 16,
        "num_attention_heads": 2,
        "ffn_dim": 16,
    }

    def step(model: Any, device: str) -> Tensor:
        loss: Tensor = model(past_values=torch.rand(2, 16, 2, device=device)).loss
        return loss

    return Program(made("PatchTSTForPretraining", "PatchTSTConfig", **settings), step)
