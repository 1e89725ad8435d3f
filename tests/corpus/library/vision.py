"""Classifiers of images and videos, of torchvision and timm."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as f

from tests.corpus.library.pinned import Program, load


def classified(*shape: int, smoothing: float = 0.1) -> Callable[[Any, str], Tensor]:
    """The step of a classifier of five classes: cross entropy of a batch of that shape."""

    def step(model: Any, device: str) -> Tensor:
        target = torch.randint(0, 5, shape[:1], device=device)
        logits = model(torch.rand(shape, device=device))
        return f.cross_entropy(logits, target, label_smoothing=smoothing)

    return step


def small_mobilenet() -> Any:
    """MobileNetV3 of three blocks; its features 1 and 3 have 8 and 16 channels."""
    v3 = load("torchvision.models.mobilenetv3")
    setting = partial(v3.InvertedResidualConfig, dilation=1, width_mult=1)
    blocks = [
        setting(8, 3, 8, 8, use_se=True, activation="RE", stride=2),
        setting(8, 5, 24, 16, use_se=True, activation="HS", stride=2),
        setting(16, 5, 32, 16, use_se=False, activation="HS", stride=1),
    ]
    return v3.MobileNetV3(blocks, 32, num_classes=5)


def mobilenet() -> nn.Module:
    """MobileNetV3: depthwise convolutions, hard swish, squeeze and excitation."""
    return Program(small_mobilenet(), classified(3, 3, 32, 32))


def efficientnet() -> nn.Module:
    """EfficientNet's inverted bottlenecks with stochastic depth."""
    efficient = load("torchvision.models.efficientnet")
    setting = [
        efficient.MBConvConfig(1, 3, 1, 8, 8, 1),
        efficient.MBConvConfig(4, 5, 2, 8, 16, 2),
        efficient.FusedMBConvConfig(4, 3, 2, 16, 16, 1),
    ]
    model = efficient.EfficientNet(setting, 0.2, num_classes=5, last_channel=32)
    return Program(model, classified(3, 3, 32, 32))


def convnext() -> nn.Module:
    """ConvNeXt, layer norms over permuted channels."""
    convnext = load("torchvision.models.convnext")
    setting = [convnext.CNBlockConfig(16, 32, 1), convnext.CNBlockConfig(32, None, 1)]
    model = convnext.ConvNeXt(setting, stochastic_depth_prob=0.1, num_classes=5)
    return Program(model, classified(3, 3, 32, 32))


def swin() -> nn.Module:
    """Swin V2, attention in shifted windows."""
    swin = load("torchvision.models.swin_transformer")
    model = swin.SwinTransformer(
        [4, 4],
        16,
        [2, 2],
        [2, 4],
        [4, 4],
        num_classes=5,
        block=swin.SwinTransformerBlockV2,
        downsample_layer=swin.PatchMergingV2,
    )
    return Program(model, classified(2, 3, 32, 32))


def mvit() -> nn.Module:
    """MViT V2, attention over pooled video."""
    mvit = load("torchvision.models.video.mvit")
    block = partial(mvit.MSBlockConfig, kernel_q=[3, 3, 3], kernel_kv=[3, 3, 3])
    model = mvit.MViT(
        (32, 32),
        4,
        [
            block(1, 16, 32, stride_q=[1, 1, 1], stride_kv=[1, 2, 2]),
            block(2, 32, 32, stride_q=[1, 2, 2], stride_kv=[1, 1, 1]),
        ],
        True,
        True,
        True,
        True,
        num_classes=5,
        stochastic_depth_prob=0.1,
    )
    return Program(model, classified(1, 3, 4, 32, 32))


def _timm(name: str, *shape: int, **settings: Any) -> nn.Module:
    """A classifier of timm by its public name, made smaller by its settings."""
    model = load("timm").create_model(name, pretrained=False, num_classes=5, **settings)
    return Program(model, classified(*shape))


def resnet() -> nn.Module:
    """ResNet-18 with blurred pooling (timm's resnetblur18)."""
    return _timm("resnetblur18", 3, 3, 32, 32, channels=(8, 8, 16, 16))


def convnext_v2() -> nn.Module:
    """ConvNeXt V2: response normalization."""
    return _timm("convnextv2_atto", 2, 3, 32, 32, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))


def eva() -> nn.Module:
    """EVA-02: rotary positions in two directions, SwiGLU."""
    return _timm(
        "eva02_tiny_patch14_224", 2, 3, 28, 28, img_size=28, embed_dim=24, depth=2, num_heads=3
    )


def xcit() -> nn.Module:
    """XCiT: attention over channels."""
    return _timm("xcit_nano_12_p16_224", 2, 3, 32, 32, embed_dim=24, depth=2, num_heads=2)
