"""Language models of transformers with a state that is carried from word to word."""

from torch import nn

from tests.corpus.library.pinned import Program
from tests.corpus.library.words import SMALL, WORDS, greedy, made, next_words


def mamba() -> nn.Module:
    """Mamba: a selective state space, scanned step by step."""
    settings = {
        "vocab_size": WORDS,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "state_size": 4,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return Program(made("MambaForCausalLM", "MambaConfig", **settings), next_words, greedy)


def mamba2() -> nn.Module:
    """Mamba 2: a state space in chunks."""
    settings = {
        "vocab_size": WORDS,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "state_size": 8,
        "num_heads": 4,
        "head_dim": 8,
        "n_groups": 2,
        "chunk_size": 8,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return Program(made("Mamba2ForCausalLM", "Mamba2Config", **settings), next_words, greedy)


def qwen3_next() -> nn.Module:
    """Qwen3-Next: gated delta rule beside attention."""
    settings = SMALL | {
        "num_key_value_heads": 2,
        "head_dim": 8,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "layer_types": ["linear_attention", "full_attention"],
        "experts_implementation": "eager",
    }
    return Program(made("Qwen3NextForCausalLM", "Qwen3NextConfig", **settings), next_words, greedy)


def rwkv() -> nn.Module:
    """RWKV: recurrent attention."""
    settings = {
        "vocab_size": WORDS,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "attention_hidden_size": 16,
        "intermediate_size": 32,
        "context_length": 32,
    }
    return Program(made("RwkvForCausalLM", "RwkvConfig", **settings), next_words)


def recurrent_gemma() -> nn.Module:
    """RecurrentGemma: gated linear recurrences."""
    settings = SMALL | {
        "num_hidden_layers": 3,
        "lru_width": 32,
        "attention_window_size": 8,
        "conv1d_width": 4,
        "num_key_value_heads": 1,
    }
    return Program(
        made("RecurrentGemmaForCausalLM", "RecurrentGemmaConfig", **settings), next_words
    )
