"""Models of torchvision that segment images, detect objects or follow motion."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as f

from tests.corpus.library.pinned import Program, load
from tests.corpus.library.vision import small_mobilenet


def segmented(model: Any, device: str) -> Tensor:
    """Cross entropy of every pixel, some of which have no class."""
    target = torch.randint(0, 4, (2, 32, 32), device=device)
    target[:, :2] = 255
    output = model(torch.rand(2, 3, 32, 32, device=device))
    losses = [f.cross_entropy(each, target, ignore_index=255) for each in output.values()]
    return losses[0] + 0.5 * losses[-1]


def deeplab() -> nn.Module:
    """DeepLabV3: dilated convolutions and interpolation, with an auxiliary head."""
    head = load("torchvision.models.segmentation.deeplabv3")
    layers = {"1": "aux", "3": "out"}
    backbone = load("torchvision.models._utils").IntermediateLayerGetter(
        small_mobilenet().features, layers
    )
    model = head.DeepLabV3(
        backbone,
        nn.Sequential(head.ASPP(16, [2, 4], 16), nn.Conv2d(16, 4, 1)),
        load("torchvision.models.segmentation.fcn").FCNHead(8, 4),
    )
    return Program(model, segmented)


def detected(model: Any, device: str) -> Tensor:
    """The losses of two images with three boxes each; a detector has them in training alone."""
    model.train()
    corners = torch.rand(2, 3, 2, device=device) * 16
    boxes = torch.cat([corners, corners + 6 + torch.rand(2, 3, 2, device=device) * 8], -1)
    labels = torch.tensor([1, 3, 2], device=device)
    targets = [{"boxes": each, "labels": labels} for each in boxes]
    images = list(torch.rand(2, 3, 32, 32, device=device))
    loss: Tensor = sum(model(images, targets).values())
    return loss


def _pyramid() -> Any:
    """A backbone with features of three sizes; FCOS norms their 32 channels in 32 groups."""
    utils = load("torchvision.models.detection.backbone_utils")
    return utils.BackboneWithFPN(small_mobilenet().features, {"1": "0", "3": "1"}, [8, 16], 32)


def _anchors(*ratios: float) -> Any:
    """Anchors of one size for each feature, in these ratios."""
    generator = load("torchvision.models.detection.anchor_utils").AnchorGenerator
    return generator(((8,), (16,), (32,)), (ratios,) * 3)


def retinanet() -> nn.Module:
    """RetinaNet: anchors matched to boxes, focal loss."""
    model = load("torchvision.models.detection").RetinaNet(
        _pyramid(), 4, min_size=24, max_size=32, anchor_generator=_anchors(0.5, 1.0, 2.0)
    )
    return Program(model, detected)


def fcos() -> nn.Module:
    """FCOS: boxes regressed from points, generalized IoU, group norm."""
    model = load("torchvision.models.detection").FCOS(
        _pyramid(), 4, min_size=24, max_size=32, anchor_generator=_anchors(1.0)
    )
    return Program(model, detected)


def ssd() -> nn.Module:
    """SSD: default boxes, hard negatives."""
    boxes = load("torchvision.models.detection.anchor_utils").DefaultBoxGenerator([[2], [2, 3]])
    backbone = load("torchvision.models._utils").IntermediateLayerGetter(
        small_mobilenet().features, {"1": "0", "3": "1"}
    )
    return Program(
        load("torchvision.models.detection.ssd").SSD(backbone, boxes, (32, 32), 4), detected
    )


def raft() -> nn.Module:
    """RAFT: optical flow from correlations that are sampled at moved points."""
    raft = load("torchvision.models.optical_flow.raft")
    encoder = {"layers": (8, 8, 16, 24, 32), "block": raft.ResidualBlock}
    corr_block = raft.CorrBlock(num_levels=2, radius=2)
    motion = raft.MotionEncoder(
        in_channels_corr=corr_block.out_channels,
        corr_layers=(16,),
        flow_layers=(16, 8),
        out_channels=16,
    )
    recurrent = raft.RecurrentBlock(
        input_size=motion.out_channels + 16, hidden_size=16, kernel_size=(3,), padding=(1,)
    )
    model = raft.RAFT(
        feature_encoder=raft.FeatureEncoder(norm_layer=nn.InstanceNorm2d, **encoder),
        context_encoder=raft.FeatureEncoder(norm_layer=nn.BatchNorm2d, **encoder),
        corr_block=corr_block,
        update_block=raft.UpdateBlock(
            motion_encoder=motion,
            recurrent_block=recurrent,
            flow_head=raft.FlowHead(in_channels=16, hidden_size=16),
        ),
        mask_predictor=raft.MaskPredictor(in_channels=16, hidden_size=16),
    )

    def step(model: Any, device: str) -> Tensor:
        first, second = torch.rand(2, 1, 3, 64, 64, device=device)
        flows = model(first, second, num_flow_updates=2)
        return torch.stack([flow.abs().mean() for flow in flows]).sum()

    return Program(model, step)
