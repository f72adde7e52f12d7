"""Lines on the clients of training: how many trained, who failed and why, and who never trained."""

from __future__ import annotations

from collections import Counter

from fed_unlearn.simulations.run.results import RunResults

_MOST_LINES = 10


def client_lines(results: RunResults) -> list[str]:
    """A line for each client and reason that some round went without, and one for each client that never trained.

    Empty if every client that was asked trained in every round.
    """
    training = results.training
    failures = Counter((client, reason) for item in training.clients for client, reason in item.failed.items())
    rounds = len(training.clients)
    lines = [f"client {name} failed in {count} of {rounds} rounds: {why}" for (name, why), count in failures.items()]
    if lines:
        least = min(item.trained for item in training.clients)
        most = max(item.trained for item in training.clients)
        lines.insert(0, f"clients that trained in a round: {least if least == most else f'{least} to {most}'}")
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more; results.json has them all"]
    return lines + [f"client {client} never trained: {reason}" for client, reason in training.never_trained.items()]
