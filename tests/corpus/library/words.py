"""What the text models of transformers share: sizes, batches, losses and ways to write."""

from typing import Any

import torch
from torch import Tensor

from tests.corpus.library.pinned import load

WORDS = 61


#: What most configurations call their sizes.


SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def made(model: str, configuration: str, **settings: Any) -> Any:
    """A model of transformers by its public class, from a configuration alone."""
    library = load("transformers")
    return getattr(library, model)(getattr(library, configuration)(**settings))


def words(device: str, *, rows: int = 2, length: int = 16) -> Tensor:
    """Words without the special ones: (rows, length)."""
    return torch.randint(3, WORDS, (rows, length), device=device)


def next_words(model: Any, device: str) -> Tensor:
    """The loss of the next word, of rows one of which is padded on its right."""
    ids = words(device)
    mask = torch.ones_like(ids)
    mask[1, 11:] = 0
    loss: Tensor = model(
        input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)
    ).loss
    return loss


def masked_words(model: Any, device: str) -> Tensor:
    """The loss of words that are hidden."""
    ids = words(device)
    mask = torch.ones_like(ids)
    mask[1, 11:] = 0
    hidden = torch.rand(ids.shape, device=device) < 0.3
    hidden[:, 0] = True
    labels = ids.masked_fill(~hidden | (mask == 0), -100)
    loss: Tensor = model(
        input_ids=ids.masked_fill(hidden, 3), attention_mask=mask, labels=labels
    ).loss
    return loss


def translated(model: Any, device: str) -> Tensor:
    """The loss of a model with an encoder and a decoder."""
    ids = words(device)
    mask = torch.ones_like(ids)
    mask[1, 11:] = 0
    labels = words(device, length=9)
    loss: Tensor = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    return loss


def sampled(model: Any, device: str) -> Tensor:
    """Four words after a prompt, from a cache, drawn by temperature, top-k and top-p."""
    output: Tensor = model.generate(
        words(device, length=5),
        max_new_tokens=4,
        do_sample=True,
        temperature=0.8,
        top_k=20,
        top_p=0.9,
        repetition_penalty=1.2,
    )
    return output


def searched(model: Any, device: str) -> Tensor:
    """Four words after a prompt, by a search over beams."""
    output: Tensor = model.generate(
        words(device, length=5), max_new_tokens=4, num_beams=3, do_sample=False
    )
    return output


def greedy(model: Any, device: str) -> Tensor:
    """Three words after a prompt."""
    output: Tensor = model.generate(words(device, length=5), max_new_tokens=3, do_sample=False)
    return output
