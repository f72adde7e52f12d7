"""What the server asks of clients: one instruction a message, as JSON in a ConfigRecord beside the arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from flwr.app import ConfigRecord, Message
from pydantic import BaseModel, ConfigDict, ValidationError

from fed_unlearn.audits.counts import Part
from fed_unlearn.errors import ProtocolError
from fed_unlearn.requests import ClassScope, ForgetRequest, ParameterValue, SampleScope, ScopeKind

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


class Target(BaseModel):
    """The samples that one request asks for, and the number of the attempt.

    Scope ``"class"`` has ``classes``. Scope ``"sample"`` has ``sample_ids``, or ``sample_count`` and perhaps
    ``sample_class``. Scope ``"client"`` asks for everything that the client holds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: str
    attempt: int
    scope: ScopeKind
    classes: tuple[int, ...] = ()
    sample_ids: tuple[str, ...] = ()
    sample_count: int = 0
    sample_class: int | None = None

    @classmethod
    def of(cls, request: ForgetRequest, attempt: int = 0) -> Target:
        """What a request asks a client for."""
        scope = request.scope
        named = cls(request_id=request.id, attempt=attempt, scope=scope.kind)
        match scope:
            case ClassScope(classes=classes):
                return named.model_copy(update={"classes": classes})
            case SampleScope(sample_ids=ids, count=count, of_class=of_class):
                return named.model_copy(update={"sample_ids": ids, "sample_count": count, "sample_class": of_class})
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
    """``train.repair``: train on retained data; holders keep to the labels that these attempts taught."""

    guarded: tuple[tuple[str, int], ...]
    guard_weight: int
    guard_margin: float
    seed: int
    round: int
    arrived: int = 0


class SettleInstruction(Instruction):
    """``train.confirm`` and ``train.discard``: attempts were committed, or rolled back.

    ``release`` lifts the quarantine: the requests were rejected or withdrawn.
    """

    targets: tuple[Target, ...]
    retention_days: float = 0.0
    release: bool = False


class IdentifyInstruction(Instruction):
    """``query.identify`` with a question: what is the tombstone digest without the tombstones of these requests?"""

    without: tuple[str, ...]


class AuditInstruction(Instruction):
    """``evaluate.audit``: count what this model gets right, on these parts and for these requests."""

    parts: tuple[Part, ...]
    targets: tuple[Target, ...]
    retain_limit: int
    """At most so many retained training samples of a client are read; 0 for all."""
    seed: int
    arrived: int = 0
    audits: tuple[str, ...] = ()
    """Audits of other packages that are to be counted for the requests, by name."""

    def to_record(self) -> ConfigRecord:
        """The record that carries the instruction; without ``audits`` where there are none."""
        return ConfigRecord({INSTRUCTION_KEY: self.model_dump_json(exclude=None if self.audits else {"audits"})})
