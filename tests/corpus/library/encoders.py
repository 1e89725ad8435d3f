"""Models of transformers that read a text as a whole, and translate it."""

from typing import Any

from torch import Tensor, nn

from tests.corpus.library.pinned import Program, in_single
from tests.corpus.library.words import SMALL, WORDS, greedy, made, masked_words, translated, words


def bert() -> nn.Module:
    """BERT: masked words."""
    return Program(made("BertForMaskedLM", "BertConfig", **SMALL), masked_words)


def deberta() -> nn.Module:
    """DeBERTa V2: attention that tells contents and positions apart."""
    settings = SMALL | {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "type_vocab_size": 0,
        "position_biased_input": False,
    }
    return Program(made("DebertaV2ForMaskedLM", "DebertaV2Config", **settings), masked_words)


def longformer() -> nn.Module:
    """Longformer: attention in overlapping windows."""
    settings = SMALL | {"attention_window": 4}
    return Program(made("LongformerForMaskedLM", "LongformerConfig", **settings), masked_words)


def fnet() -> nn.Module:
    """FNet: words mixed by Fourier transforms."""

    def step(model: Any, device: str) -> Tensor:
        ids = words(device)
        loss: Tensor = model(input_ids=ids, labels=ids).loss
        return loss

    return Program(made("FNetForMaskedLM", "FNetConfig", **SMALL), in_single(step))


def xlnet() -> nn.Module:
    """XLNet: relative positions by a shift, two streams."""
    settings = {"vocab_size": WORDS, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}

    def step(model: Any, device: str) -> Tensor:
        ids = words(device)
        loss: Tensor = model(input_ids=ids, labels=ids).loss
        return loss

    return Program(made("XLNetLMHeadModel", "XLNetConfig", **settings), step)


def t5() -> nn.Module:
    """T5: encoder and decoder, buckets of relative positions."""
    settings = {
        "vocab_size": WORDS,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 2,
    }
    return Program(made("T5ForConditionalGeneration", "T5Config", **settings), translated, greedy)
