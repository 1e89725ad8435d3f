"""Models of text, speech and clicks, of public architectures, tiny and with random weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional as f

WORDS = 61


class Recurrent(nn.Module):
    """A language model of two recurrent layers (Zaremba et al. 2014, arXiv:1409.2329)."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 24, padding_idx=0)
        self.layers = kind(24, 32, 2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(32, WORDS)

    def loss(self, device: str) -> Tensor:
        """Cross entropy of the next word over packed sequences."""
        words = torch.randint(1, WORDS, (3, 12), device=device)
        lengths = torch.tensor([12, 9, 5])
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(words), lengths, batch_first=True)
        output, _ = nn.utils.rnn.pad_packed_sequence(self.layers(packed)[0], batch_first=True)
        logits = self.head(output)[:, :-1].reshape(-1, WORDS)
        return f.cross_entropy(logits, words[:, 1:].reshape(-1), ignore_index=0)


def lstm() -> nn.Module:
    """The model with LSTM layers."""
    return Recurrent(nn.LSTM)


def gru() -> nn.Module:
    """The model with GRU layers."""
    return Recurrent(nn.GRU)


def rotated(x: Tensor, start: int) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864) of (B, heads, T, D) from `start` on."""
    half = x.shape[-1] // 2
    rates = 10000 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = torch.outer(torch.arange(start, start + x.shape[-2], device=x.device).float(), rates)
    sin, cos = angles.sin().to(x.dtype), angles.cos().to(x.dtype)
    left, right = x.chunk(2, -1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


class RootMeanSquare(nn.Module):
    """RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467), written out as models do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * (
            self.weight
        )


class DecoderLayer(nn.Module):
    """A layer of LLaMA (Touvron et al. 2023, arXiv:2302.13971): 4 query heads on 2 of keys."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([RootMeanSquare(32), RootMeanSquare(32)])
        self.query, self.keys = nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False)
        self.output = nn.Linear(32, 32, bias=False)
        self.gate, self.up = nn.Linear(32, 64, bias=False), nn.Linear(32, 64, bias=False)
        self.down = nn.Linear(64, 32, bias=False)

    def forward(
        self, x: Tensor, cache: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, T, 32) and the keys and values so far -> the same, and with the new ones."""
        size, length, _ = x.shape
        start = 0 if cache is None else cache[0].shape[2]
        y = self.norms[0](x)
        q = rotated(self.query(y).view(size, length, 4, 8).transpose(1, 2), start)
        k, v = self.keys(y).view(size, length, 2, 2, 8).unbind(2)
        k, v = rotated(k.transpose(1, 2), start), v.transpose(1, 2)
        if cache is not None:
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        keys, values = (each.repeat_interleave(2, 1) for each in (k, v))
        answer = f.scaled_dot_product_attention(q, keys, values, is_causal=cache is None)
        x = x + self.output(answer.transpose(1, 2).reshape(size, length, 32))
        y = self.norms[1](x)
        return x + self.down(f.silu(self.gate(y)) * self.up(y)), (k, v)


class Decoder(nn.Module):
    """A decoder with tied embeddings; it also writes three words with its cache."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 32)
        self.layers = nn.ModuleList([DecoderLayer(), DecoderLayer()])

    def loss(self, device: str) -> Tensor:
        """Cross entropy of the next word."""
        words = torch.randint(0, WORDS, (2, 20), device=device)
        x = self.embedding(words)
        for layer in self.layers:
            x, _ = layer(x)
        logits = f.linear(x, self.embedding.weight)
        return f.cross_entropy(logits[:, :-1].flatten(0, 1).float(), words[:, 1:].flatten())

    @torch.no_grad()
    def write(self, device: str) -> Tensor:
        """Three words, drawn from the most likely ones: (1, 3)."""
        words, caches = torch.tensor([[1, 2, 3]], device=device), [None, None]
        written: list[Tensor] = []
        for _ in range(3):
            x = self.embedding(words)
            for place, layer in enumerate(self.layers):
                x, caches[place] = layer(x, caches[place])
            best, index = f.linear(x[:, -1], self.embedding.weight).float().topk(5)
            words = index.gather(1, torch.multinomial(best.softmax(-1), 1))
            written.append(words)
        return torch.cat(written, 1)


class Encoder(nn.Module):
    """BERT (Devlin et al. 2018, arXiv:1810.04805): masked words, attention with a padding mask."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 32), nn.Embedding(16, 32)
        self.attention = nn.MultiheadAttention(32, 4, dropout=0.1, batch_first=True)
        self.norms = nn.ModuleList([nn.LayerNorm(32), nn.LayerNorm(32)])
        self.wide, self.narrow = nn.Linear(32, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, WORDS)

    def loss(self, device: str) -> Tensor:
        """Cross entropy of the masked words, and of the pooled first one."""
        words = torch.randint(1, WORDS, (2, 16), device=device)
        padding = torch.arange(16, device=device)[None] >= torch.tensor([[16], [11]], device=device)
        hidden = torch.rand(2, 16, device=device) < 0.3
        hidden[:, 0] = True
        given = words.masked_fill(hidden, 0)
        x = self.norms[0](self.words(given) + self.places(torch.arange(16, device=device)))
        x = x + self.attention(x, x, x, key_padding_mask=padding, need_weights=False)[0]
        x = self.norms[1](x + self.narrow(f.gelu(self.wide(x), approximate="tanh")))
        target = torch.where(hidden & ~padding, words, -100)
        pooled = x[:, 0].tanh()
        output: Tensor = (
            f.cross_entropy(self.head(x).flatten(0, 1), target.flatten()) + pooled.square().mean()
        )
        return output


class Speech(nn.Module):
    """A CTC model (Graves et al. 2006) over a spectrum: convolution, recurrent layer, CTC loss."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(9, 16, 3, 2, 1)
        self.norm = nn.BatchNorm1d(16)
        self.layers = nn.LSTM(16, 12, bidirectional=True, batch_first=True)
        self.head = nn.Linear(24, 7)

    def loss(self, device: str) -> Tensor:
        """The CTC loss of random waves."""
        wave = torch.rand(2, 128, device=device) - 0.5
        window = torch.hann_window(16, device=device)
        spectrum = torch.stft(wave, 16, 4, window=window, return_complex=True).abs().clamp(min=1e-5)
        x = f.hardtanh(self.norm(self.convolution(spectrum.log())), 0, 20)  # (B, 16, 17)
        logits = self.head(self.layers(x.transpose(1, 2))[0]).float()
        targets = torch.randint(1, 7, (2, 5), device=device)
        chances = logits.log_softmax(-1).transpose(0, 1)
        lengths, words = (17, 14), (5, 3)  # numbers: tensors would have to be on some devices alone
        return f.ctc_loss(chances, targets, lengths, words)  # type: ignore[arg-type]


class Mixture(nn.Module):
    """A mixture of experts (Shazeer et al. 2017, arXiv:1701.06538): two of four for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.gate = nn.Linear(16, 4, bias=False)
        self.experts = nn.Parameter(torch.randn(4, 16, 16) / 4)
        self.head = nn.Linear(16, WORDS)

    def loss(self, device: str) -> Tensor:
        """Cross entropy, and the loss that balances the experts."""
        words = torch.randint(0, WORDS, (24,), device=device)
        x = self.embedding(words)
        chances = self.gate(x).float().softmax(-1)
        weight, chosen = chances.topk(2, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        output = torch.zeros_like(x)
        for expert in range(4):
            rows, slot = torch.where(chosen == expert)
            answer = f.relu(x[rows] @ self.experts[expert]).square()
            part = answer * weight[rows, slot, None].to(answer.dtype)
            output = output.index_add(0, rows, part.to(output.dtype))
        share = f.one_hot(chosen, 4).sum(1).float().mean(0)
        balance = (share * chances.mean(0)).sum() * 4
        logits = self.head(x + output)
        loss: Tensor = f.cross_entropy(logits.float(), words.roll(-1)) + 0.01 * balance
        return loss


class Recommender(nn.Module):
    """DLRM (Naumov et al. 2019, arXiv:1906.00091): embedding bags and their products."""

    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.ModuleList([nn.EmbeddingBag(40, 8, mode=mode) for mode in ("sum", "mean")])
        self.dense = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(11, 16), nn.PReLU(), nn.Linear(16, 1))

    def loss(self, device: str) -> Tensor:
        """Binary cross entropy of clicks."""
        clicks = torch.randint(0, 40, (10,), device=device)
        offsets = torch.tensor([0, 3, 3, 7], device=device)
        dense = self.dense(torch.rand(4, 6, device=device))
        rows = torch.stack([dense, *(bag(clicks, offsets).to(dense.dtype) for bag in self.bags)], 1)
        products = torch.bmm(rows, rows.transpose(1, 2))  # (4, 3, 3)
        below = torch.tril_indices(3, 3, -1, device=device)
        x = torch.cat([dense, products[:, below[0], below[1]]], 1)
        target = torch.tensor([0.0, 1.0, 1.0, 0.0], device=device)
        return f.binary_cross_entropy_with_logits(self.top(x).squeeze(1).float(), target)
