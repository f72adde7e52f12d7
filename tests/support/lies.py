"""Lies that one client of :mod:`hostile` tells, by name: about models, weights, audits, identity and requests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.app import ConfigRecord, Context, Message
from hostile import MODEL_MESSAGES, Honest, Lie, Metrics, both, claims, on_audits, on_models, with_metrics, with_model

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, unpack


def biased(sent: Arrays) -> Arrays:
    """A model that says class 0 whatever it sees."""
    last = list(sent)[-1]
    bias = sent[last].copy()
    bias[0] += 60
    return {**sent, last: bias}


def noisy(sent: Arrays) -> Arrays:
    """A model five standard normal deviates away in every weight."""
    drawn = np.random.default_rng(0)
    return {name: np.asarray(value - 5 * drawn.normal(size=value.shape), value.dtype) for name, value in sent.items()}


def on_weights(weight: float) -> Lie:
    """Another weight in the replies to every message about models."""

    def lie(message: Message, context: Context, honest: Honest) -> Message:
        reply = honest()
        if message.metadata.message_type not in MODEL_MESSAGES:
            return reply
        return with_metrics(reply, lambda metrics: {**metrics, "num-examples": weight})

    return lie


def times_its_change(factor: float) -> Lie:
    """So many times its own change; below 0 the other way."""

    def lie(message: Message, context: Context, honest: Honest) -> Message:
        reply = honest()
        if message.metadata.message_type not in MODEL_MESSAGES or "arrays" not in message.content:
            return reply
        sent = unpack(message.content.array_records["arrays"])
        return with_model(
            reply,
            lambda made: {
                name: np.asarray(sent[name] + factor * (value - sent[name]), value.dtype)
                for name, value in made.items()
            },
        )

    return lie


def in_turn(message: Message, context: Context, honest: Honest) -> Message:
    """Everything right of models that serve, and everything wrong of those that are judged."""
    reply = honest()
    if message.metadata.message_type != protocol.AUDIT:
        return reply
    return with_metrics(reply, claims(not protocol.AuditInstruction.from_message(message).targets))


def nothing_forgotten(metrics: Metrics) -> Metrics:
    """Every sample of every request right."""
    totals = {name.removeprefix("target/total/"): value for name, value in metrics.items() if "target/total/" in name}
    return {**metrics, **{f"target/correct/{name}": value for name, value in totals.items()}}


def about_a_request_of_another(metrics: Metrics) -> Metrics:
    """Figures for every request that others report figures of, whether it holds samples of it or not."""
    return {**metrics, "target/correct/r1": 10**12, "target/total/r1": 10**12}


def no_retained_samples(metrics: Metrics) -> Metrics:
    """No retained sample of any class."""
    return {name: [0] * 10 if name.startswith("retain/") else value for name, value in metrics.items()}


def on(kind: str, answer: Callable[[Message, Message], Message]) -> Lie:
    """Another reply to one kind of message; ``answer`` is given the message and the honest reply."""

    def lie(message: Message, context: Context, honest: Honest) -> Message:
        reply = honest()
        return answer(message, reply) if message.metadata.message_type == kind else reply

    return lie


def refusing(message: Message, reply: Message) -> Message:
    """The request cannot be served, it says."""
    return protocol.refuse(message, protocol.Refusal(reason="no", invalid_request=True))


def claiming(samples: int) -> Lie:
    """So many samples of class 9 when it is identified."""

    def answer(message: Message, reply: Message) -> Message:
        return with_metrics(reply, lambda metrics: {**metrics, "class-samples": [0] * 9 + [samples]})

    return on(protocol.IDENTIFY, answer)


def with_counts(text: str) -> Lie:
    """Other counts of what it holds of the requests."""

    def answer(message: Message, reply: Message) -> Message:
        if reply.has_content():
            reply.content["forgotten"] = ConfigRecord({"counts": text, "refused": "{}"})
        return reply

    return on(protocol.UNLEARN, answer)


def failing(*kinds: str) -> Lie:
    """An error in place of every answer to some messages."""

    def lie(message: Message, context: Context, honest: Honest) -> Message:
        if message.metadata.message_type in kinds:
            raise ValueError("no")
        return honest()

    return lie


RIGHT = on_audits(claims(True))
LIES: dict[str, Lie] = {
    "everything right": RIGHT,
    "10^9 right": on_audits(claims(True, total=10**9)),
    "everything wrong": on_audits(claims(False)),
    "10^9 wrong": on_audits(claims(False, total=10**9)),
    "right, then wrong": in_turn,
    "nothing forgotten": on_audits(nothing_forgotten),
    "of another's request": on_audits(about_a_request_of_another),
    "no retained samples": on_audits(no_retained_samples),
    "a bias": on_models(biased),
    "a bias, 10^12 samples, all right": both(
        both(on_models(biased), on_weights(1e12)), on_audits(claims(True, total=10**9))
    ),
    "noise": on_models(noisy),
    "noise, 10^12 samples, all right": both(
        both(on_models(noisy), on_weights(1e12)), on_audits(claims(True, total=10**9))
    ),
    "no weights at all": on_models(lambda sent: {name: np.zeros_like(value) for name, value in sent.items()}),
    "not finite": on_models(lambda sent: {name: np.full_like(value, np.nan) for name, value in sent.items()}),
    "unchanged": on_models(lambda sent: sent),
    "flipped": times_its_change(-10),
    "flipped, of its own length": times_its_change(-1),
    "fifty times its change": times_its_change(50),
    "units in another order": on_models(
        lambda sent: {name: np.ascontiguousarray(value[::-1]) for name, value in sent.items()}
    ),
    "10^12 samples": on_weights(1e12),
    "flipped, 10^12 samples": both(times_its_change(-10), on_weights(1e12)),
    "no request can be served": on(protocol.UNLEARN, refusing),
    "10^9 samples of a class": claiming(10**9),
    "10^9 samples of the request": with_counts('{"r1": 1000000000}'),
    "none of the request": with_counts("{}"),
    "no audit": failing(protocol.AUDIT),
    "no confirmation": failing(protocol.CONFIRM),
    "no training": failing(protocol.TRAIN, protocol.REPAIR, protocol.UNLEARN),
}
"""By what is said."""
