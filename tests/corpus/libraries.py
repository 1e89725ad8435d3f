"""The programs of public model libraries, where those are installed."""

from collections.abc import Callable
from typing import Final

from torch import nn

from tests.corpus.library import (
    autoencoders,
    decoders,
    dense,
    diffusion,
    encoders,
    mixed,
    pictures,
    recurrent,
    series,
    speech,
    vision,
)
from tests.corpus.library.pinned import VERSIONS, installed

#: Library -> what it needs to be imported at all.
_NEEDS: Final = {"timm": ("torchvision",)}

#: Library -> its programs: the public architecture, and what makes its model.
ALL: Final[dict[str, dict[str, Callable[[], nn.Module]]]] = {
    "torchvision": {
        "MobileNetV3": vision.mobilenet,
        "EfficientNet": vision.efficientnet,
        "ConvNeXt": vision.convnext,
        "Swin V2": vision.swin,
        "MViT V2": vision.mvit,
        "DeepLabV3": dense.deeplab,
        "RetinaNet": dense.retinanet,
        "FCOS": dense.fcos,
        "SSD": dense.ssd,
        "RAFT": dense.raft,
    },
    "timm": {
        "ResNet with blurred pooling": vision.resnet,
        "ConvNeXt V2": vision.convnext_v2,
        "EVA-02": vision.eva,
        "XCiT": vision.xcit,
    },
    "transformers": {
        "LLaMA": decoders.llama,
        "Gemma 2": decoders.gemma,
        "Mixtral": decoders.mixtral,
        "Qwen3 MoE": decoders.qwen_moe,
        "DeepSeek V3": decoders.deepseek,
        "GPT-2": decoders.gpt2,
        "BLOOM": decoders.bloom,
        "Mamba": recurrent.mamba,
        "Mamba 2": recurrent.mamba2,
        "Qwen3-Next": recurrent.qwen3_next,
        "RWKV": recurrent.rwkv,
        "RecurrentGemma": recurrent.recurrent_gemma,
        "BERT": encoders.bert,
        "DeBERTa V2": encoders.deberta,
        "Longformer": encoders.longformer,
        "FNet": encoders.fnet,
        "XLNet": encoders.xlnet,
        "T5": encoders.t5,
        "Whisper": speech.whisper,
        "Wav2Vec2 with CTC": speech.wav2vec,
        "Wav2Vec2-Conformer": speech.conformer,
        "Wav2Vec2's pretraining": speech.wav2vec_pretraining,
        "EnCodec": speech.encodec,
        "CLIP": mixed.clip,
        "ViT": pictures.vit,
        "ViTMAE": pictures.vit_mae,
        "SegFormer": pictures.segformer,
        "DPT": pictures.dpt,
        "Swin2SR": pictures.super_resolution,
        "Qwen2-VL": mixed.qwen_vl,
        "Autoformer": series.autoformer,
        "Time series transformer": series.series_transformer,
        "PatchTST": series.patchtst,
    },
    "diffusers": {
        "U-Net of DDPM": diffusion.unet,
        "U-Net of Stable Diffusion": diffusion.conditioned,
        "DiT": diffusion.dit,
        "FLUX": diffusion.flux,
        "Wan": diffusion.wan,
        "AutoencoderKL": autoencoders.autoencoder,
        "VQ-VAE": autoencoders.quantized,
        "autoencoder of Wan": autoencoders.video_autoencoder,
    },
}


def missing() -> list[str]:
    """The libraries whose programs are left out, each with the version that it must have."""
    return [
        f"{library}=={VERSIONS[library]}"
        for library in ALL
        if not all(installed(each) for each in (library, *_NEEDS.get(library, ())))
    ]


def programs() -> dict[str, Callable[[], nn.Module]]:
    """The programs whose library is here: "transformers: BERT" -> what makes its model."""
    absent = {each.partition("==")[0] for each in missing()}
    return {
        f"{library}: {name}": make
        for library, own in ALL.items()
        if library not in absent
        for name, make in own.items()
    }
