"""Language models of transformers by attention."""

from torch import nn

from tests.corpus.library.pinned import Program
from tests.corpus.library.words import SMALL, WORDS, greedy, made, next_words, sampled, searched


def llama() -> nn.Module:
    """LLaMA: RMSNorm, rotary positions, grouped queries; sampling from a cache."""
    settings = SMALL | {"num_key_value_heads": 2}
    return Program(made("LlamaForCausalLM", "LlamaConfig", **settings), next_words, sampled)


def gemma() -> nn.Module:
    """Gemma 2: capped logits, sliding windows, attention written out."""
    settings = SMALL | {
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 8,
        "attn_implementation": "eager",
        "query_pre_attn_scalar": 8,
    }
    return Program(made("Gemma2ForCausalLM", "Gemma2Config", **settings), next_words, greedy)


def mixtral() -> nn.Module:
    """Mixtral: a mixture of experts, and the loss that balances them."""
    settings = SMALL | {
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "output_router_logits": True,
        "experts_implementation": "eager",
    }
    return Program(made("MixtralForCausalLM", "MixtralConfig", **settings), next_words, greedy)


def qwen_moe() -> nn.Module:
    """Qwen3 MoE: norms of queries and keys, experts by grouped products."""
    settings = SMALL | {
        "num_key_value_heads": 2,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "head_dim": 8,
        "moe_intermediate_size": 16,
        "experts_implementation": "grouped_mm",
    }
    return Program(made("Qwen3MoeForCausalLM", "Qwen3MoeConfig", **settings), next_words, greedy)


def deepseek() -> nn.Module:
    """DeepSeek V3: attention over compressed keys, experts chosen by groups."""
    settings = SMALL | {
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "n_routed_experts": 8,
        "n_group": 4,
        "topk_group": 2,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "experts_implementation": "eager",
    }
    return Program(
        made("DeepseekV3ForCausalLM", "DeepseekV3Config", **settings), next_words, greedy
    )


def gpt2() -> nn.Module:
    """GPT-2: products with a bias, tanh's GELU, attention written out; search over beams."""
    settings = {
        "vocab_size": WORDS,
        "n_positions": 64,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "attn_implementation": "eager",
    }
    return Program(made("GPT2LMHeadModel", "GPT2Config", **settings), next_words, searched)


def bloom() -> nn.Module:
    """BLOOM: positions by slopes (ALiBi)."""
    settings = {
        "vocab_size": WORDS,
        "hidden_size": 32,
        "n_layer": 2,
        "n_head": 4,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return Program(made("BloomForCausalLM", "BloomConfig", **settings), next_words, greedy)
