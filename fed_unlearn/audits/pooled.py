"""Counts of all clients of one model, pooled exactly, and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.counts import ClientCounts, Part, RequestCounts
from fed_unlearn.audits.figures import Figures
from fed_unlearn.audits.membership import BIN_COUNT, membership_auc
from fed_unlearn.errors import ProtocolError
from fed_unlearn.requests import ClassScope, ForgetRequest


@dataclass(frozen=True)
class Audit:
    """What every client counted of one model.

    Attributes
    ----------
    replies : dict of str to ClientCounts
        By client. Parts are those of clients that stay; a client that leaves counts for its own request alone.
    failed, silent : dict of str to str
        Clients that answered otherwise than they should, and those that did not answer, and why.
    """

    replies: Mapping[str, ClientCounts]
    failed: Mapping[str, str] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def pooled(self) -> ClientCounts:
        """The sum over all clients."""
        replies = self.replies.values()
        return sum(replies, start=ClientCounts(parts={}, targets={}, forward_passes=0))

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
        return cls({client: ClientCounts.model_validate(reply) for client, reply in body.items()})


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


def check_counts(reply: ClientCounts, parts: Collection[Part], requests: Collection[str], class_count: int) -> None:
    """Refuse counts that nobody asked for, that cannot be, or that cannot be added to those of others.

    Raises
    ------
    ProtocolError
        If they are such.
    """
    are_asked = set(reply.parts) == set(parts) and set(reply.targets) <= set(requests)
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
