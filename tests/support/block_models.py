"""Models whose blocks are known, and two that hide them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Branching(nn.Module):
    """Its forward branches on values, so that no graph can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, rows: Tensor) -> Tensor:
        hidden = self.first(rows).relu()
        if float(hidden.sum()) > -1:
            hidden = self.norm(self.second(hidden)).relu()
        logits: Tensor = self.head(self.third(hidden).relu())
        return logits


class Tied(nn.Module):
    """The head's weight is the embedding's, so that no point divides them."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 8)
        self.middle = nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.middle(self.words(tokens).mean(1)).relu())
        return logits


class Encoder(nn.Module):
    """Embedded tokens, and torch's own encoder of several layers."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(16, 4)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden = self.encoder(self.words(tokens))
        if mask is not None:
            hidden = hidden * mask
        logits: Tensor = self.head(hidden.mean(1))
        return logits


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def rows(count: int = 3) -> Tensor:
    return torch.rand(count, 6, generator=torch.Generator().manual_seed(0))


def tokens(words: int, count: int = 3) -> Tensor:
    return torch.randint(words, (count, 7), generator=torch.Generator().manual_seed(0))
