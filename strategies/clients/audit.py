"""Audits of one model over all clients, pooled exactly from counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flwr.app import ArrayRecord, Message

from fed_unlearn import protocol
from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.figures import Figures
from fed_unlearn.audits.membership import BIN_COUNT, membership_auc
from fed_unlearn.errors import ProtocolError
from fed_unlearn.protocol import AuditReply, Part, RequestCounts
from fed_unlearn.requests import ClassScope, ForgetRequest
from fed_unlearn.strategies.clients.grid import EligibleGrid, NobodyAnsweredError


@dataclass(frozen=True)
class Audit:
    """What every client counted of one model.

    Attributes
    ----------
    replies : dict of str to AuditReply
        By client. Parts are those of clients that stay; a client that leaves counts for its own request alone.
    failed, silent : dict of str to str
        Clients that answered otherwise than they should, and those that did not answer, and why.
    """

    replies: Mapping[str, AuditReply]
    failed: Mapping[str, str] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def pooled(self) -> AuditReply:
        """The sum over all clients."""
        return pool(list(self.replies.values()))

    def counts(self, part: Part, clients: Collection[str] | None = None) -> ClassCounts | None:
        """Counts of one part, summed over all or some clients; None where none of them has counted it."""
        counted = [
            reply.parts[part]
            for client, reply in self.replies.items()
            if part in reply.parts and (clients is None or client in clients)
        ]
        return sum(counted[1:], start=counted[0]) if counted else None

    @cached_property
    def absent_classes(self) -> frozenset[int]:
        """Classes without a retained training sample: forgotten, or not arrived yet."""
        counts = self.counts("retain")
        return frozenset(index for index, total in enumerate(counts.total) if not total) if counts else frozenset()

    def without_targets(self) -> Audit:
        """The parts alone, to be compared with later."""
        return Audit(
            {client: reply.model_copy(update={"targets": {}}) for client, reply in self.replies.items() if reply.parts}
        )

    def to_json(self) -> dict[str, object]:
        """As JSON; :meth:`from_json` reads it back."""
        return {client: reply.model_dump(mode="json") for client, reply in self.replies.items()}

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> Audit:
        """Read what :meth:`to_json` wrote."""
        return cls({client: AuditReply.model_validate(reply) for client, reply in body.items()})


@dataclass(frozen=True)
class Auditor:
    """Asks all clients what a model gets right, and pools their counts.

    Attributes
    ----------
    grid : EligibleGrid
    timeout : float
        Seconds.
    retain_limit : int
        At most so many retained training samples of each client are read; 0 for all.
    seed : int
    """

    grid: EligibleGrid
    timeout: float
    retain_limit: int
    seed: int

    def audit(
        self,
        arrays: ArrayRecord,
        requests: Sequence[ForgetRequest] = (),
        parts: tuple[Part, ...] = protocol.ALL_PARTS,
        *,
        arrived: int = 0,
    ) -> Audit:
        """Counts of a model.

        Parameters
        ----------
        arrays : ArrayRecord
        requests : sequence of ForgetRequest
            Those whose forget sets are to be measured too.
        parts : tuple of str
            Which of ``"retain"``, ``"validation"`` and ``"test"``.
        arrived : int
            Training experiences whose samples are there already; 0 for all.

        Raises
        ------
        NobodyAnsweredError
            If no client answers.
        """
        instruction = protocol.AuditInstruction(
            parts=parts,
            targets=tuple(protocol.Target.of(request) for request in requests),
            retain_limit=self.retain_limit,
            seed=self.seed,
            arrived=arrived,
        )
        content = protocol.content(instruction, arrays)
        answers = self.grid.ask(protocol.AUDIT, content, self.timeout)
        replies, failed = self._read(answers.replies, instruction)
        failed.update({**answers.failed, **answers.refused})
        if not replies:
            raise NobodyAnsweredError("no client answered evaluate.audit; their logs say why")
        leaving = self.grid.reachable_leavers()
        if requests and leaving:
            of_leaving = self.grid.ask(protocol.AUDIT, content, self.timeout, leaving)
            for client, reply in self._read(of_leaving.replies, instruction)[0].items():
                replies[client] = reply.model_copy(update={"parts": {}})
        return Audit(replies, failed, answers.silent)

    def _read(
        self, messages: Mapping[str, Message], instruction: protocol.AuditInstruction
    ) -> tuple[dict[str, AuditReply], dict[str, str]]:
        """Counts by client, and the clients whose counts cannot be used."""
        replies: dict[str, AuditReply] = {}
        failed: dict[str, str] = {}
        for client, message in messages.items():
            try:
                reply = AuditReply.from_message(message)
                _check_counts(reply, instruction, self.grid.roster.class_count)
                replies[client] = reply
            except ProtocolError as error:
                self.grid.leave_out(client, str(error))
                failed[client] = f"client {client}: {error}"
        return replies, failed


def _check_counts(reply: AuditReply, instruction: protocol.AuditInstruction, class_count: int) -> None:
    """Refuse counts that nobody asked for, that cannot be, or that cannot be added to those of others.

    Raises
    ------
    ProtocolError
        If they are such.
    """
    asked = {target.request_id for target in instruction.targets}
    are_asked = set(reply.parts) == set(instruction.parts) and set(reply.targets) <= asked
    lists = [
        (values, length)
        for counts in reply.targets.values()
        for values, length in (
            (counts.member_histogram, BIN_COUNT),
            (counts.outsider_histogram, BIN_COUNT),
            (counts.unseen_histogram, BIN_COUNT),
            (counts.class_totals, class_count),
        )
    ]
    pairs = [(counts.correct, counts.total) for counts in reply.targets.values()]
    for part in reply.parts.values():
        pairs += zip(part.correct, part.total, strict=False)
        lists += [(list(part.correct), class_count), (list(part.total), class_count)]
        are_asked = are_asked and len(part.correct) == len(part.total) == class_count
    fits = all(len(values) in (0, length) and all(value >= 0 for value in values) for values, length in lists)
    if not (are_asked and fits and all(0 <= correct <= total for correct, total in pairs)):
        raise ProtocolError("an evaluate.audit reply whose counts are malformed")


def pool(replies: Sequence[AuditReply]) -> AuditReply:
    """Sum of several clients' counts."""
    parts: dict[Part, ClassCounts] = {}
    targets: dict[str, RequestCounts] = {}
    for reply in replies:
        for part, counts in reply.parts.items():
            parts[part] = parts[part] + counts if part in parts else counts
        for request_id, counted in reply.targets.items():
            targets[request_id] = _add_counts(targets[request_id], counted) if request_id in targets else counted
    return AuditReply(parts=parts, targets=targets, forward_passes=sum(reply.forward_passes for reply in replies))


@dataclass(frozen=True)
class Measured:
    """One model's audit, and which classes count as retained in it.

    Attributes
    ----------
    audit : Audit
        With all parts, and the requests that figures are wanted of.
    forgotten_classes : collection of int
        Classes of committed requests, and of those that are being served: no part of D_r and D_rt.
    """

    audit: Audit
    forgotten_classes: Collection[int] = field(default_factory=frozenset)

    def figures(self, request: ForgetRequest, target: Audit | None = None) -> Figures:
        """The five figures of a request.

        Parameters
        ----------
        request : ForgetRequest
        target : Audit, optional
            Where the request is among the targets, if another audit of the same model has the parts.
        """
        classes = classes_of(request)
        measured = target or self.audit
        counts = measured.pooled.targets.get(request.id, RequestCounts())
        test = measured.counts("test") or self.audit.counts("test")
        comparable = sum(counts.member_histogram) > 0 and sum(counts.outsider_histogram) > 0
        return Figures(
            forget_accuracy=forget_accuracy(measured, request),
            retain_accuracy=self._accuracy("retain", classes),
            test_forget_accuracy=test.accuracy(only=classes) if classes and test is not None else None,
            test_retain_accuracy=self._accuracy("test", classes),
            membership_auc=membership_auc(counts.member_histogram, counts.outsider_histogram) if comparable else None,
        )

    def _accuracy(self, part: Part, classes: Collection[int]) -> float | None:
        counts = self.audit.counts(part)
        left_out = {*classes, *self.forgotten_classes, *self.audit.absent_classes}
        return counts.accuracy(without=left_out) if counts is not None else None


def forget_accuracy(audit: Audit, request: ForgetRequest) -> float | None:
    """Accuracy on D_f; None where no holder may read it."""
    counts = audit.pooled.targets.get(request.id)
    return counts.correct / counts.total if counts is not None and counts.total else None


def classes_of(request: ForgetRequest) -> tuple[int, ...]:
    """The classes that a request asks for; none for other scopes."""
    return request.scope.classes if isinstance(request.scope, ClassScope) else ()


def _add_counts(first: RequestCounts, second: RequestCounts) -> RequestCounts:
    summed = {
        name: _add_lists(getattr(first, name), getattr(second, name))
        for name in ("member_histogram", "outsider_histogram", "unseen_histogram", "class_totals")
    }
    return RequestCounts(correct=first.correct + second.correct, total=first.total + second.total, **summed)


def _add_lists(first: Sequence[int], second: Sequence[int]) -> list[int]:
    if not first or not second:
        return list(first or second)
    return [left + right for left, right in zip(first, second, strict=True)]
