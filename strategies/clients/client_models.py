"""The models that clients made in one round, and how far they moved."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import Message

from fed_unlearn.arrays import Arrays, difference, norm


@dataclass(frozen=True)
class ClientModels:
    """The models that clients made in one round, checked.

    Attributes
    ----------
    models : dict of str to dict of ndarray
        Model by client, sorted; only of clients that trained on at least one sample.
    weights : dict of str to float
        Number of samples by client.
    messages : dict of str to Message
        Reply by client.
    counts : dict of str to dict of str to int
        Number of samples that each client holds of a request, by request and client.
    refused : dict of str to str
        Why a request cannot be served as it was put, by request.
    failed, silent : dict of str to str
        Why a client did not do its part, and which clients did not answer, by client.
    """

    models: dict[str, Arrays]
    weights: dict[str, float]
    messages: dict[str, Message]
    counts: dict[str, dict[str, int]]
    refused: dict[str, str]
    failed: dict[str, str]
    silent: dict[str, str]


def norms_of(trained: ClientModels, base: Arrays) -> list[float]:
    """How far each client moved from a model."""
    return [norm(difference(model, base)) for model in trained.models.values()]
