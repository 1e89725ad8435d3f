"""The programs of the corpus, and the ways in which each of them trains."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.corpus import language, libraries, vision

STEPS: Final = 3

#: Program -> its model. Each has `loss(device)`, one forward pass over a random batch, and may
#: have `write(device)`, which is called once it has trained.
PROGRAMS: Final[dict[str, Callable[[], nn.Module]]] = {
    "convolutional classifier": vision.ResNet,
    "U-Net": vision.UNet,
    "vision transformer": vision.VisionTransformer,
    "diffusion step": vision.Denoiser,
    "LSTM language model": language.lstm,
    "GRU language model": language.gru,
    "decoder transformer": language.Decoder,
    "BERT-like encoder": language.Encoder,
    "CTC speech model": language.Speech,
    "mixture of experts": language.Mixture,
    "recommender": language.Recommender,
    **libraries.programs(),
}

Optimizer = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]

#: Way -> its optimizer. `mixed`: autocast to that type; `rebuilt`: activations computed again.
WAYS: Final[dict[str, dict[str, Any]]] = {
    "eager": {"optimizer": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.01)},
    "eager, SGD": {
        "optimizer": lambda p: torch.optim.SGD(
            p, 0.01, momentum=0.9, weight_decay=1e-4, nesterov=True
        )
    },
    "eager, fused": {"optimizer": lambda p: torch.optim.Adam(p, 1e-3, fused=True)},
    "autocast bfloat16": {
        "optimizer": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9, foreach=True),
        "mixed": torch.bfloat16,
    },
    "autocast float16": {
        "optimizer": lambda p: torch.optim.Adam(p, 1e-3, amsgrad=True, foreach=True),
        "mixed": torch.float16,
    },
    "checkpointing": {"optimizer": lambda p: torch.optim.Adagrad(p, 1e-2), "rebuilt": True},
}


def train(program: str, way: str, device: str) -> list[float]:
    """Train a program in one way; returns the losses of its steps, then it is evaluated once."""
    asked = WAYS[way]
    torch.manual_seed(0)
    model = PROGRAMS[program]().to(device).train()
    optimizer = asked["optimizer"](model.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    mixed = asked.get("mixed")
    scaler = torch.amp.GradScaler(torch.device(device).type, 1024.0, enabled=mixed is torch.float16)
    losses: list[float] = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast(torch.device(device).type, mixed) if mixed else nullcontext():
            loss = _loss(model, device, rebuilt=asked.get("rebuilt", False))
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scale = scaler.get_scale()
        scaler.update()
        if scaler.get_scale() >= scale:  # else the step was left out
            scheduler.step()
        losses.append(float(loss.detach()))
    model.eval()
    with torch.no_grad():
        losses.append(float(model.loss(device)))  # type: ignore[operator]
        if hasattr(model, "write"):
            model.write(device)  # type: ignore[operator]
    return losses


def _loss(model: nn.Module, device: str, *, rebuilt: bool) -> Tensor:
    call: Callable[[str], Tensor] = model.loss  # type: ignore[assignment]
    if not rebuilt:
        return call(device)
    # The random state is kept, and the same batch drawn again, for devices of operands alone.
    anchor = torch.zeros((), device=device)
    loss: Tensor = checkpoint(lambda _anchor: call(device), anchor, use_reentrant=False)
    return loss
