"""What the server tells clients: one instruction a message, and when their samples arrive."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import torch
from flwr.app import ConfigRecord, Message
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from fed_unlearn.data.images import ClientData
from fed_unlearn.errors import InvalidParameterError, ProtocolError
from fed_unlearn.protocol.identity import RequestAttempt, RequestName, asked_digest
from fed_unlearn.requests import ClassScope, ForgetRequest, ParameterValue, SampleScope, ScopeKind
from fed_unlearn.scopes import refuse_pairs

INSTRUCTION_KEY = "instruction"


class Instruction(BaseModel):
    """What the server asks of a client, in addition to arrays and the training configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_record(self) -> ConfigRecord:
        """The record that carries the instruction."""
        return ConfigRecord({INSTRUCTION_KEY: self.model_dump_json()})

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Read the instruction of a message.

        Raises
        ------
        ProtocolError
            If the message has none, or another one.
        """
        record = message.content.get(INSTRUCTION_KEY)
        if not isinstance(record, ConfigRecord):
            raise ProtocolError(f"a {message.metadata.message_type} message without an instruction")
        try:
            return cls.model_validate_json(str(record[INSTRUCTION_KEY]))
        except (ValidationError, KeyError) as error:
            raise ProtocolError(f"a {message.metadata.message_type} message with a malformed instruction") from error


class Target(RequestAttempt):
    """The samples that one request asks for, and the number of the attempt.

    Scope ``"class"`` has ``classes``. Scope ``"sample"`` has ``sample_ids``, or ``sample_count`` and perhaps
    ``sample_class``; with ``queued`` these are the samples of a request that the client's owner has queued there.
    Scope ``"client"`` asks for everything that the client holds.
    """

    scope: ScopeKind
    classes: tuple[int, ...] = ()
    sample_ids: tuple[str, ...] = ()
    sample_count: int = 0
    sample_class: int | None = None
    queued: str = ""

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out ``queued`` where it is empty: clients of older versions take no field that they do not know."""
        body: dict[str, object] = serialize(self)
        if not self.queued:
            del body["queued"]
        return body

    @classmethod
    def of(cls, request: ForgetRequest, attempt: int = 0) -> Target:
        """What a request asks a client for."""
        scope = request.scope
        refuse_pairs(scope)
        named = cls(request_id=request.id, digest=asked_digest(request), attempt=attempt, scope=scope.kind)
        match scope:
            case ClassScope(classes=classes):
                return named.model_copy(update={"classes": classes})
            case SampleScope(sample_ids=ids, count=count, of_class=of_class, queued=queued):
                asked = {"sample_ids": ids, "sample_count": count, "sample_class": of_class, "queued": queued}
                return named.model_copy(update=asked)
        return named


class UnlearnInstruction(Instruction):
    """``train.unlearn``: take these samples out of training, and unlearn them together by this method.

    ``step`` counts the holder's turns within one attempt: repair and unlearning alternate for sample requests.
    ``stronger`` says how often the method's setting is made stronger. Without a method the samples are quarantined and
    nothing is unlearned. With ``only_if_recognised`` a client returns the model unchanged if the model recognises none
    of its samples.
    """

    targets: tuple[Target, ...]
    step: int
    method: str | None
    parameters: Mapping[str, ParameterValue] = {}
    stronger: int = 0
    excluded_classes: tuple[int, ...] = ()
    only_if_recognised: bool = False
    seed: int
    arrived: int = 0
    """Training experiences whose samples have arrived; 0 for all."""


class RepairInstruction(Instruction):
    """``train.repair``: train on retained data; holders keep to the labels that these attempts taught.

    ``frozen`` names the arrays that stay as they are.
    """

    guarded: tuple[RequestAttempt, ...]
    guard_weight: int
    guard_margin: float
    seed: int
    round: int
    arrived: int = 0
    frozen: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out ``frozen`` where nothing is: clients of older versions take no field that they do not know."""
        body: dict[str, object] = serialize(self)
        if not self.frozen:
            del body["frozen"]
        return body


class SettleInstruction(Instruction):
    """``train.confirm`` and ``train.discard``: attempts were committed, or rolled back.

    ``release`` lifts the quarantine: the requests were rejected or withdrawn. ``others`` are attempts that ask nothing
    of this client, and that it took part in: their repair may have changed what it keeps for itself. Of the ``lasting``
    requests the client keeps what it taught their samples, as long as it may read them.
    """

    targets: tuple[Target, ...]
    retention_days: float = 0.0
    release: bool = False
    others: tuple[RequestAttempt, ...] = ()
    lasting: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out what is empty and came later: clients of older versions take no field that they do not know."""
        body: dict[str, object] = serialize(self)
        for name in ("others", "lasting"):
            if not getattr(self, name):
                del body[name]
        return body


class IdentifyInstruction(Instruction):
    """``query.identify`` with a question: what is the tombstone digest without the tombstones of these requests?"""

    without: tuple[RequestName, ...] = ()
    confirmed: str = ""
    """The digest that the client confirmed. A store of version 1 whose tombstones have it belongs to this ledger."""


ARRIVALS_KEY = "arrivals"
NEVER = 2**63 - 1
"""Experience number of samples that never arrive: above every number that a message can name."""

_IDS = "sample-ids"


def arrivals_record(experiences: Mapping[int, Sequence[str]]) -> ConfigRecord:
    """The record that tells one client which of its training samples arrive in which experience.

    Make it once for each client, and send it with every message.

    Parameters
    ----------
    experiences : mapping of int to sequence of str
        Sample ids by the number of the experience, from 1. Experiences without samples of this client may be left out.

    Raises
    ------
    InvalidParameterError
        If a number is below 1, or a sample is named twice.
    """
    if any(number < 1 for number in experiences):
        raise InvalidParameterError(f"arrivals: experience {min(experiences)} was given; expected numbers from 1")
    ids = [list(experiences.get(number, ())) for number in range(1, max(experiences, default=0) + 1)]
    twice = _repeated(ids)
    if twice is not None:
        raise InvalidParameterError(f"arrivals: sample {twice!r} was given twice; expected each in one experience")
    return ConfigRecord({_IDS: json.dumps(ids, separators=(",", ":"))})


def arrivals_of(message: Message) -> tuple[tuple[str, ...], ...] | None:
    """The sample ids of each experience, in order; None if the message has no record of :func:`arrivals_record`.

    Raises
    ------
    ProtocolError
        If the record is malformed.
    """
    record = message.content.get(ARRIVALS_KEY)
    if record is None:
        return None
    try:
        if not isinstance(record, ConfigRecord) or set(record) != {_IDS}:
            raise ValueError
        ids = json.loads(str(record[_IDS]))
        if not isinstance(ids, list) or not all(isinstance(part, list) for part in ids):
            raise ValueError
        if not all(isinstance(sample_id, str) for part in ids for sample_id in part) or _repeated(ids) is not None:
            raise ValueError
    except ValueError as error:
        raise ProtocolError(f"a {message.metadata.message_type} message with malformed arrivals") from error
    return tuple(tuple(part) for part in ids)


def arrived_of(config: ConfigRecord) -> int:
    """How many experiences have arrived, by a training configuration; 0 for all."""
    value = config.get("arrived", 0)
    return value if isinstance(value, int) else 0


def arriving(data: ClientData, experiences: Sequence[Sequence[str]]) -> ClientData:
    """A client's data with its training samples in experiences.

    Parameters
    ----------
    data : ClientData
    experiences : sequence of sequences of str
        Ids of its training samples, by experience. Samples that are not named never arrive (:data:`NEVER`).

    Raises
    ------
    ProtocolError
        If a sample is not one of the client's training samples: server and client have different data.
    """
    numbers = {sample_id: number for number, part in enumerate(experiences, start=1) for sample_id in part}
    own = [numbers.get(sample_id, NEVER) for sample_id in data.train.ids]
    unknown = len(numbers) - sum(number != NEVER for number in own)
    if unknown:
        raise ProtocolError(f"{unknown} of the {len(numbers)} samples of its arrivals are no training samples here")
    return replace(data, experiences=torch.tensor(own, dtype=torch.int64))


def _repeated(parts: Sequence[Sequence[str]]) -> str | None:
    """A sample that is named in two experiences, or twice in one; None if there is none."""
    seen: set[str] = set()
    for part in parts:
        before = len(seen)
        seen.update(part)
        if len(seen) < before + len(part):
            others = set[str]().union(*(other for other in parts if other is not part))
            return next(name for name in part if name in others or list(part).count(name) > 1)
    return None
