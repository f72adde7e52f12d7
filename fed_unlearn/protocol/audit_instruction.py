"""What the server tells clients to audit, and how many samples they read for it at most."""

from __future__ import annotations

import json
from typing import Self

from flwr.app import ConfigRecord, Message

from fed_unlearn.audits.counts import Part
from fed_unlearn.errors import ProtocolError
from fed_unlearn.protocol.instructions import INSTRUCTION_KEY, Instruction, Target

_BESIDE_KEY, _BESIDE = "beside", {"audited", "left_out"}
_ROWS_KEY, _ROWS = "rows", {"rows_set", "rows_of"}
_LIMITS_KEY, _LIMITS = "limits", {"validation_limit", "test_limit", "earlier_limit"}


class AuditInstruction(Instruction):
    """``evaluate.audit``: count what this model gets right, on these parts and for these requests."""

    parts: tuple[Part, ...]
    targets: tuple[Target, ...]
    retain_limit: int
    """Maximum number of retained training samples of a client that are read; 0 for all."""
    seed: int
    arrived: int = 0
    audits: tuple[str, ...] = ()
    """Audits without a field of their own that are to be counted for the requests, by name."""
    audited: tuple[str, ...] | None = None
    """Ids of the requests that ``audits`` are counted for; None for all."""
    left_out: tuple[int, ...] = ()
    """Classes that do not stay, beside those that the requests name: forgotten before, or not there yet."""
    validation_limit: int = 0
    test_limit: int = 0
    """Maximum numbers of validation and of test samples of a client that are read; 0 for all."""
    earlier_limit: int = 0
    """Maximum number of samples that are read of each request not in ``audited``; 0 for all."""

    rows_set: tuple[int, ...] = ()
    """Classes whose output rows alone were set since the last audit, to the mean of the rows of ``rows_of``."""
    rows_of: tuple[int, ...] = ()

    def to_record(self) -> ConfigRecord:
        """The record that carries the instruction; without ``audits`` where there are none.

        What clients of older versions do not know, and can do without, stands beside the instruction, where they do not
        look: they count ``audits`` for all requests.
        """
        older = self.model_dump_json(exclude={*_BESIDE, *_LIMITS, *_ROWS, *(() if self.audits else ("audits",))})
        beside = {_BESIDE_KEY: self.model_dump_json(include=_BESIDE)} if self.audits or self.earlier_limit else {}
        if any(getattr(self, name) for name in _LIMITS):
            beside[_LIMITS_KEY] = self.model_dump_json(include=_LIMITS)
        if self.rows_set:
            beside[_ROWS_KEY] = self.model_dump_json(include=_ROWS)
        return ConfigRecord({INSTRUCTION_KEY: older, **beside})

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """As :meth:`Instruction.from_message`, with what stands beside."""
        instruction, record = super().from_message(message), message.content[INSTRUCTION_KEY]
        told: dict[str, object] = {}
        try:
            for key, names in ((_BESIDE_KEY, _BESIDE), (_LIMITS_KEY, _LIMITS), (_ROWS_KEY, _ROWS)):
                beside = record.get(key) if isinstance(record, ConfigRecord) else None
                if beside is not None:
                    body = json.loads(str(beside))
                    told.update({name: body[name] for name in names})
            return cls.model_validate({**instruction.model_dump(), **told}) if told else instruction
        except (ValueError, KeyError, TypeError) as error:
            raise ProtocolError(f"a {message.metadata.message_type} message with a malformed instruction") from error

    def limit_of(self, part: Part) -> int:
        """How many samples of a part are read at most; 0 for all."""
        limits = {"retain": self.retain_limit, "validation": self.validation_limit, "test": self.test_limit}
        return limits[part]

    def limit_beside(self, target: Target) -> int:
        """How many samples of a request are read at most: all of those that are being served; 0 for all."""
        is_served = self.audited is None or target.request_id in self.audited
        return 0 if is_served else self.earlier_limit

    def audits_of(self, target: Target) -> tuple[str, ...]:
        """The audits that are counted for one request."""
        return self.audits if self.audited is None or target.request_id in self.audited else ()

    def left_out_beside(self, target: Target) -> frozenset[int]:
        """The classes that neither stay nor are those of a request, which other requests name, too."""
        named = {index for other in self.targets if other.scope == "class" for index in other.classes}
        return frozenset({*self.left_out, *named} - set(target.classes))
