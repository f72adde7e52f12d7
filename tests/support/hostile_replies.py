"""Lies that one client tells in its replies, by what is wrong with them: each stands for a kind of fault."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from hostile import Honest, Lie, Metrics, with_metrics, with_records

from fed_unlearn import protocol

ESCAPES = "\x1b[31m[red]evil[/red]\r2026 INFO client 1 confirmed\x07‮"
WORKING = (protocol.TRAIN, protocol.UNLEARN, protocol.REPAIR, protocol.CONFIRM, protocol.AUDIT)
TRAINING = (protocol.TRAIN, protocol.UNLEARN, protocol.REPAIR)
Value = int | float | list[int] | list[float]


def on(kinds: tuple[str, ...], change: Callable[[Message], Message]) -> Lie:
    """Another reply to some messages."""

    def lie(message: Message, context: Context, honest: Honest) -> Message:
        return change(honest()) if message.metadata.message_type in kinds else honest()

    return lie


def metrics(kinds: tuple[str, ...], **values: Value) -> Lie:
    """Other numbers under some names."""
    named = {name.replace("_", "-"): value for name, value in values.items()}
    return on(kinds, lambda reply: with_metrics(reply, lambda known: {**known, **named}))


def counts(name: str, change: Callable[[Value], Value]) -> Lie:
    """Other numbers in an audit, wherever a part of their name says so."""

    def changed(known: Metrics) -> Metrics:
        return {key: change(value) if name in key else value for key, value in known.items()}

    return on((protocol.AUDIT,), lambda reply: with_metrics(reply, changed))


def all_of(number: float) -> Callable[[Value], Value]:
    """The same number in every place."""
    return lambda value: [number] * len(value) if isinstance(value, list) else number  # type: ignore[return-value]


def stamp(**values: str | bytes | bool | int) -> Lie:
    """Another stamp; on all replies but the first one where it is about what comes later."""

    def change(reply: Message) -> Message:
        if not reply.has_content() or protocol.STAMP_KEY not in reply.content:
            return reply
        told = {**reply.content.config_records[protocol.STAMP_KEY], **values}
        return with_records(reply, **{protocol.STAMP_KEY: ConfigRecord(told)})

    return on((*WORKING, protocol.IDENTIFY), change)


def forgotten(counted: str, refused: str = "{}") -> Lie:
    """Other texts on what the client holds of requests."""
    record = ConfigRecord({"counts": counted, "refused": refused})
    return on((protocol.UNLEARN,), lambda reply: with_records(reply, forgotten=record))


def refusal(reason: str, *, invalid: bool, kinds: tuple[str, ...] = WORKING) -> Lie:
    """The client refuses what it is asked."""

    def lie(message: Message, context: Context, honest: Honest) -> Message:
        if message.metadata.message_type not in kinds:
            return honest()
        honest()
        record = ConfigRecord({"reason": reason, "invalid_request": invalid})
        return Message(RecordDict({"refused": record}), reply_to=message)

    return lie


def raising(error: Exception) -> Lie:
    """The client's app raises, but for saying who it is."""

    def lie(message: Message, context: Context, honest: Honest) -> Message:
        if message.metadata.message_type == protocol.IDENTIFY:
            return honest()
        raise error

    return lie


def bare(reply: Message) -> Message:
    """A reply that carries nothing but its stamp."""
    reply.content = RecordDict({protocol.STAMP_KEY: reply.content[protocol.STAMP_KEY]})
    return reply


def uncounted(text: str) -> Lie:
    """Other audits that the client says it cannot count."""
    record = ConfigRecord({"audits": text})
    return on((protocol.AUDIT,), lambda reply: with_records(reply, uncounted=record))


def earlier(value: str | bytes | int) -> Lie:
    """Another digest from before a confirmation."""
    return on((protocol.CONFIRM,), lambda reply: with_records(reply, earlier=ConfigRecord({"tombstones": value})))


def array(change: Callable[[Array], Array]) -> Lie:
    """Another first array in a model, its description and its bytes."""

    def changed(reply: Message) -> Message:
        if not reply.has_content() or not reply.content.array_records.get("arrays"):
            return reply
        arrays = dict(reply.content.array_records["arrays"])
        name = next(iter(arrays))
        return with_records(reply, arrays=ArrayRecord({**arrays, name: change(arrays[name])}))

    return on(TRAINING, changed)


def saved(dtype: str) -> Callable[[Array], Array]:
    """Its numbers as those of another type, which the description does not say."""

    def change(known: Array) -> Array:
        buffer = io.BytesIO()
        np.save(buffer, known.numpy().astype(dtype), allow_pickle=True)
        return Array(dtype=known.dtype, shape=known.shape, stype=known.stype, data=buffer.getvalue())

    return change


def _weights() -> dict[str, Lie]:
    values: dict[str, Value] = {
        "below zero": -5, "zero": 0, "no number": float("nan"), "infinite": float("inf"), "of a galaxy": 1e300,
        "of 63 bits": 2**63, "of 64 bits": 2**64 - 1, "tiny": 1e-300, "a list": [3], "an empty list": [],
        "a fraction": 5.5, "a million million": 1e12, "of 400 digits": 10**400,
    }  # fmt: skip
    return {f"a weight {name}": metrics(TRAINING, num_examples=value) for name, value in values.items()}


REPLIES: Mapping[str, Lie] = {
    **_weights(),
    "an array of objects": array(saved("object")),
    "an array of another type": array(saved("float64")),
    "an array without bytes": array(lambda known: replace(known, data=b"")),
    "an array that is cut short": array(lambda known: replace(known, data=known.data[:-3])),
    "an array of a galaxy": array(lambda known: replace(known, shape=(2**62, 2**62))),
    "an array of less than nothing": array(lambda known: replace(known, shape=(-1,))),
    "counts that stand twice": forgotten('{"c":1,"c":99999,"h":2,"h":-1}'),
    "no metrics": on(WORKING, lambda reply: with_records(reply, metrics=ConfigRecord({"num-examples": "7"}))),
    "nothing at all": on(WORKING, bare),
    "another record of metrics": on(
        TRAINING, lambda reply: with_records(reply, a=MetricRecord({"num-examples": 1e12}))
    ),
    "another metric": metrics(TRAINING, x=1.0),
    "a metric with escapes in its name": metrics(TRAINING, **{ESCAPES: 1.0}),
    "a metric that is no number": metrics(TRAINING, forward_passes=float("nan")),
    "passes without end": metrics(WORKING, forward_passes=1e300, backward_passes=2**64 - 1),
    "passes that are a list": metrics(WORKING, forward_passes=float("inf"), backward_passes=[1]),
    "an id that is empty": stamp(client_id=""),
    "an id of 5,000 digits": stamp(client_id="9" * 5000),
    "an id with escapes": stamp(client_id=ESCAPES),
    "an id of 2 MB": stamp(client_id="x" * 2_000_000),
    "an id that is a number": stamp(client_id=2),
    "an id that is bytes": stamp(client_id=b"\xff\xfe"),
    "retained as a text": stamp(retained="yes"),
    "a digest of 1 MB": stamp(tombstones="f" * 1_000_000),
    "a digest with escapes": stamp(tombstones=ESCAPES),
    "a version with escapes": stamp(version=ESCAPES),
    "a device of 100 kB": stamp(device="x" * 100_000),
    "an answer to something else": stamp(answers="0" * 16),
    "an answer of 1 MB": stamp(answers=ESCAPES * 50_000),
    "a further field in the stamp": stamp(more=1),
    "an error with escapes": raising(ValueError(f"secret {ESCAPES}")),
    "an error of 3 MB": raising(ValueError("secret " * 400_000)),
    "an error without a text": raising(RecursionError()),
    "counts that are a list": forgotten("[1,2]"),
    "counts below zero": forgotten('{"c":-5,"s":-5}'),
    "counts of a galaxy": forgotten('{"c":1e308,"s":99999999999999999999}'),
    "counts without end": forgotten('{"c":Infinity}'),
    "counts that are no number": forgotten('{"c":NaN}'),
    "counts of 100,000 brackets": forgotten("[" * 100_000),
    "counts of 100,000 objects": forgotten('{"a":' * 100_000),
    "counts that are true": forgotten('{"c":true}'),
    "counts that are text": forgotten('{"c":"7"}'),
    "counts of 5,000 digits": forgotten('{"c":' + "9" * 5000 + "}"),
    "counts of more than it has": forgotten('{"c":4000000000}'),
    "counts of 2 MB": forgotten('{"' + "c" * 2_000_000 + '":1}'),
    "counts that are no JSON": forgotten("x", "y"),
    "a surrogate in the counts": forgotten('{"\\ud800":1}'),
    "refuses for others": forgotten("{}", '{"c":"no"}'),
    "refuses with a list": forgotten("{}", "[]"),
    "refuses with a deep reason": forgotten("{}", '{"h":' + "[" * 500 + "]" * 500 + "}"),
    "more right than there are": counts("correct", all_of(10**6)),
    "totals below zero": counts("total", all_of(-3)),
    "totals of 63 bits": counts("total", all_of(2**63 - 1)),
    "totals of 64 bits": counts("", all_of(2**64 - 1)),
    "totals of 400 digits": counts("total", all_of(10**400)),
    "totals that are fractions": counts("total", all_of(0.5)),
    "histograms of 63 bits": counts("histogram", all_of(2**63 - 1)),
    "histograms of 64 bits": counts("histogram", all_of(2**64 - 1)),
    "histograms that are no numbers": counts("histogram", all_of(float("nan"))),
    "histograms with a bin too many": counts("histogram", lambda value: [*value, 1]),  # type: ignore[misc]
    "histograms of other samples": counts("member_histogram", all_of(1)),
    "unseen samples out of nowhere": counts("outsider_histogram", all_of(10**9)),
    "an audit of another request": metrics((protocol.AUDIT,), **{"target/correct/zzz": 1}),
    "an audit of its own": metrics((protocol.AUDIT,), **{"audit/evil/x/c": 1}),
    "a part of its own": metrics((protocol.AUDIT,), **{"foo/correct": [1]}),
    "a field with escapes": metrics((protocol.AUDIT,), **{f"retain/{ESCAPES}": [1]}),
    "no counts": on((protocol.AUDIT,), lambda reply: with_records(reply, metrics=MetricRecord())),
    "300 further counts": metrics((protocol.AUDIT,), **{f"target/total/{index}": 1 for index in range(300)}),
    "classes without end": metrics((protocol.IDENTIFY,), class_count=10**9),
    "no classes": metrics((protocol.IDENTIFY,), class_count=0),
    "samples below zero": metrics((protocol.IDENTIFY,), class_samples=[-1] * 10),
    "samples of no class": metrics((protocol.IDENTIFY,), class_samples=[]),
    "samples that are no numbers": metrics((protocol.IDENTIFY,), class_samples=[float("nan")] * 10),
    "samples of 64 bits": metrics((protocol.IDENTIFY,), class_samples=[2**64 - 1] * 10),
    "half samples": metrics((protocol.IDENTIFY,), class_samples=[0.5] * 10),
    "more samples than there are": metrics((protocol.IDENTIFY,), class_samples=[2**45] * 10),
    "samples of 100,000 classes": metrics((protocol.IDENTIFY,), class_count=100_000, class_samples=[1] * 100_000),
    "refuses": refusal(f"no {ESCAPES}", invalid=False),
    "refuses as impossible": refusal("no", invalid=True),
    "refuses in another's name": refusal("client 1: has lost its store", invalid=False),
    "refuses in 3 MB": refusal("A" * 3_000_000, invalid=False),
    "refuses to unlearn": refusal("\x1b[2J[bold]", invalid=True, kinds=(protocol.UNLEARN,)),
    "an earlier digest in bytes": earlier(b"\xff"),
    "an earlier digest of 1 MB": earlier(ESCAPES * 30_000),
    "uncounted audits of 100,000 brackets": uncounted("[" * 100_000),
    "uncounted audits that are a number": uncounted("7"),
    "uncounted audits with escapes": uncounted('["\\u001b[31m"]'),
}

HARMLESS = frozenset({
    "a weight tiny", "a weight a fraction", "a digest with escapes", "a version with escapes", "a device of 100 kB",
    "passes without end", "uncounted audits of 100,000 brackets", "uncounted audits that are a number",
    "uncounted audits with escapes", "an earlier digest in bytes", "an earlier digest of 1 MB", "unseen samples",
})  # fmt: skip
"""Lies that change nothing of what is used: the client need not be named."""
