"""How much features tell of a binary label: the InfoNCE bound on mutual information (van den Oord et al., 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN, EMBEDDED = 64, 16
EPOCHS, BATCH_SIZE = 15, 100
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2


class Critic(nn.Module):
    """Scores of features with each of two labels: products of an embedding and a trained vector for each label.

    Parameters
    ----------
    width : int
        Number of values of one sample.
    generator : torch.Generator
        Source of the initial weights.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        # Without the weights that layers draw from torch's own generator.
        layers = [nn.utils.skip_init(nn.Linear, *shape) for shape in ((width, HIDDEN), (HIDDEN, EMBEDDED))]
        self.embedding = nn.Sequential(layers[0], nn.ReLU(), layers[1])
        self.labels = nn.Parameter(torch.empty(2, EMBEDDED))
        for parameter in self.parameters():
            bound = 1 / math.sqrt(parameter.shape[-1]) if parameter.ndim > 1 else 0.0
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, features: Tensor) -> Tensor:
        """Scores of shape (n, 2)."""
        scores: Tensor = self.embedding(features) @ self.labels.T
        return scores


def information_by_sample(scores: Tensor, labels: Tensor) -> Tensor:
    """What each sample adds to the InfoNCE bound, in nats, where both labels are as frequent.

    Parameters
    ----------
    scores : Tensor of shape (n, 2)
        Scores that the critic gives for label 0 and for label 1.
    labels : Tensor of shape (n,), int64
        Label of each sample, 0 or 1.

    Returns
    -------
    Tensor of shape (n,), float64
        Log of the score's exponential over the mean of both labels' exponentials; at most log 2. The mean over all
        pairs of a balanced batch is log 2 minus the cross-entropy of the two scores.
    """
    return math.log(2) - functional.cross_entropy(scores.double(), labels, reduction="none")


def judged_information(
    train: tuple[Tensor, Tensor], judged: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """Train a critic on some samples, and say what it gets from each of some others.

    Parameters
    ----------
    train, judged : tuple of two Tensor of shape (n, values), float32
        Features of the samples with label 0, and with label 1. Each batch holds as many of both.
    generator : torch.Generator
        The only source of randomness, on the CPU.

    Returns
    -------
    Tensor of shape (n,), float64
        Values from :func:`information_by_sample`: those of the judged samples with label 0, then those with label 1.
        Since the critic never saw them, their mean is a lower bound but for chance.
    """
    mean, scale = torch.cat(train).mean(0), torch.cat(train).std(0)
    scale = torch.where(scale > 1e-6, scale, torch.ones_like(scale))
    sides = [(features - mean) / scale for features in train]
    critic = Critic(sides[0].shape[1], generator)
    optimizer = torch.optim.AdamW(critic.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    half = BATCH_SIZE // 2
    steps = EPOCHS * math.ceil(max(map(len, sides)) / half)
    labels = torch.arange(2).repeat_interleave(half)
    for _ in range(steps):
        drawn = [side[torch.randint(len(side), (half,), generator=generator)] for side in sides]
        loss = -information_by_sample(critic(torch.cat(drawn)), labels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        parts = [
            information_by_sample(critic((features - mean) / scale), torch.full((len(features),), label))
            for label, features in enumerate(judged)
        ]
    return torch.cat(parts).clone()
