"""Vision models of public architectures, in tiny sizes and with random weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional as f


class Block(nn.Module):
    """The basic block of ResNet-18 (He et al. 2015, arXiv:1512.03385)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)])
        self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        y = f.relu(self.norms[0](self.first(x)), inplace=True)
        return f.relu(self.norms[1](self.second(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """An image classifier: stem, two blocks, global pooling, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 2, 3)
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, 5)."""
        y = self.blocks(f.max_pool2d(f.relu(self.stem(x)), 3, 2, 1))
        output: Tensor = self.head(
            f.dropout(f.adaptive_avg_pool2d(y, 1).flatten(1), 0.1, self.training)
        )
        return output

    def loss(self, device: str) -> Tensor:
        """Cross entropy with label smoothing of a random batch."""
        x = torch.rand(4, 3, 32, 32, device=device)
        return f.cross_entropy(
            self(x), torch.tensor([0, 1, 4, 2], device=device), label_smoothing=0.1
        )


class UNet(nn.Module):
    """A segmentation model (Ronneberger et al. 2015, arXiv:1505.04597) that interpolates up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)])
        self.norms = nn.ModuleList([nn.InstanceNorm2d(8, affine=True), nn.GroupNorm(4, 16)])
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.last = nn.Conv2d(24, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) -> logits (B, 2, H, W)."""
        first = f.leaky_relu(self.norms[0](self.down[0](x)), 0.1)
        second = f.silu(self.norms[1](self.down[1](f.avg_pool2d(first, 2))))
        smooth = f.interpolate(second, scale_factor=2, mode="bilinear", align_corners=False)
        sharp = f.interpolate(self.up(second), size=x.shape[-2:], mode="nearest")
        output: Tensor = self.last(torch.cat([first + sharp, smooth], 1))
        return output

    def loss(self, device: str) -> Tensor:
        """Binary cross entropy and Dice of a random batch."""
        logits = self(torch.rand(2, 1, 16, 16, device=device))
        target = (torch.rand(2, 2, 16, 16, device=device) > 0.5).to(logits.dtype)
        chance = logits.sigmoid()
        dice = 1 - (2 * (chance * target).sum() + 1) / (chance.sum() + target.sum() + 1)
        output: Tensor = f.binary_cross_entropy_with_logits(logits, target) + dice
        return output


class VisionTransformer(nn.Module):
    """ViT (Dosovitskiy et al. 2020, arXiv:2010.11929) of two of torch's encoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, 32))
        self.places = nn.Parameter(torch.randn(1, 17, 32) * 0.02)
        layer = nn.TransformerEncoderLayer(
            32, 4, 64, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> logits (B, 5)."""
        y = self.patches(x).flatten(2).transpose(1, 2)  # (B, 16, 32)
        y = torch.cat([self.token.expand(len(y), -1, -1), y], 1) + self.places
        output: Tensor = self.head(f.layer_norm(self.encoder(y)[:, 0], (32,)))
        return output

    def loss(self, device: str) -> Tensor:
        """Cross entropy of a random batch, mixed with a second target."""
        logits = self(torch.rand(3, 3, 32, 32, device=device))
        mixed = f.one_hot(torch.tensor([0, 2, 4], device=device), 5) * 0.9 + 0.02
        return -(mixed * f.log_softmax(logits, -1)).sum(-1).mean()


class Denoiser(nn.Module):
    """A diffusion step (Ho et al. 2020, arXiv:2006.11239): noise is added and predicted."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 16))
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)]
        )
        self.norm = nn.GroupNorm(4, 16)
        self.register_buffer("kept", torch.linspace(0.99, 0.1, 50))

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """Images (B, 3, H, W) and steps (B,) -> noise (B, 3, H, W)."""
        rates = torch.exp(torch.arange(8, device=x.device) * -1.15)
        angles = step[:, None].to(x.dtype) * rates
        scale = self.time(torch.cat([angles.sin(), angles.cos()], -1))[:, :, None, None]
        output: Tensor = self.convolutions[1](
            f.silu(self.norm(self.convolutions[0](x)) * (1 + scale))
        )
        return output

    def loss(self, device: str) -> Tensor:
        """Mean squared error of the predicted noise."""
        x, step = torch.rand(2, 3, 16, 16, device=device), torch.randint(0, 50, (2,), device=device)
        noise = torch.randn_like(x)
        kept = self.get_buffer("kept")[step][:, None, None, None]
        return f.mse_loss(self(kept.sqrt() * x + (1 - kept).sqrt() * noise, step), noise)
