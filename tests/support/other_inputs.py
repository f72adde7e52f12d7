"""Samples that are no images, with a model for each: texts of an invented language, and a table of measurements."""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_breast_cancer, load_wine
from torch import Tensor, nn

from fed_unlearn.data.images import ClientData
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.data.tensors import TensorSet
from fed_unlearn.seeding import isolated_random, seeded_generator

TOPICS, WORDS, LENGTH = 5, 40, 12
_TEXTS_OF_A_TOPIC = 240
_OWN_WORDS = 0.35  # share of the words of a text that only its topic uses often


@cache
def texts() -> TensorSet:
    """Texts of five topics: words of a topic follow each other in its own order, between words that all topics use."""
    generator = seeded_generator("invented language")
    labels = torch.arange(TOPICS).repeat(_TEXTS_OF_A_TOPIC)
    own = 4  # words of a topic; the others are common
    starts = torch.randint(own, (len(labels), 1), generator=generator)
    in_order = (starts + torch.arange(LENGTH)) % own + labels[:, None] * own
    common = torch.randint(TOPICS * own, WORDS, (len(labels), LENGTH), generator=generator)
    is_own = torch.rand(len(labels), LENGTH, generator=generator) < _OWN_WORDS
    order = torch.randperm(len(labels), generator=generator)
    return TensorSet(torch.where(is_own, in_order, common)[order], labels[order])


class Transformer(nn.Module):
    """A text classifier: embedded words and places, one layer of attention, and the mean of what comes out."""

    def __init__(self, words: int = WORDS, length: int = LENGTH, classes: int = TOPICS, width: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Parameter(torch.zeros(length, width))
        self.attention = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.attention(self.words(tokens) + self.places).mean(1))
        return logits


def text_model() -> nn.Module:
    """Always with the same weights."""
    with isolated_random(0):
        return Transformer()


@cache
def table() -> TensorSet:
    """The 178 wines of scikit-learn: 13 standardised measurements, three growers."""
    bunch = load_wine()
    rows = torch.tensor(bunch.data, dtype=torch.float32)
    order = torch.randperm(len(rows), generator=seeded_generator("wine"))
    return TensorSet(((rows - rows.mean(0)) / rows.std(0))[order], torch.tensor(bunch.target)[order])


@cache
def binary_table() -> TensorSet:
    """The 569 biopsies of scikit-learn: 30 standardised measurements, two classes."""
    bunch = load_breast_cancer()
    rows = torch.tensor(bunch.data, dtype=torch.float32)
    return TensorSet((rows - rows.mean(0)) / rows.std(0), torch.tensor(bunch.target))


def table_model() -> nn.Module:
    """One hidden layer, always with the same weights."""
    with isolated_random(0):
        return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))


def share_of(samples: SampleSet, client: int, clients: int, name: str) -> ClientData:
    """A client's part: six tenths to train on, two to validate and two to test."""
    held = samples.subset(torch.arange(client, len(samples), clients))
    ends = [len(held) * 6 // 10, len(held) * 8 // 10]
    train, validation, test = (held.subset(part) for part in torch.arange(len(held)).tensor_split(ends))
    return ClientData(train, validation, test, int(samples.labels.max()) + 1, name)
