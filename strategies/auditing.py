"""Audits of one model over all clients, pooled exactly from counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord

from fed_unlearn import protocol
from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.figures import Figures
from fed_unlearn.audits.membership import membership_auc
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.protocol import AuditReply, AuditTarget, Part, RequestCounts
from fed_unlearn.requests import ClassScope, ForgetRequest
from fed_unlearn.strategies.grid import EligibleGrid


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
    ) -> AuditReply:
        """Pooled counts of a model.

        Parameters
        ----------
        arrays : ArrayRecord
        requests : sequence of ForgetRequest
            Those whose forget sets are to be measured too.
        parts : tuple of str
            Which of ``"retain"``, ``"validation"`` and ``"test"``.

        Raises
        ------
        FedUnlearnError
            If no client answers.
        """
        instruction = protocol.AuditInstruction(
            parts=parts,
            targets=tuple(AuditTarget(request_id=_id(request), classes=classes_of(request)) for request in requests),
            retain_limit=self.retain_limit,
            seed=self.seed,
        )
        answers = self.grid.ask(protocol.AUDIT, protocol.content(instruction, arrays), self.timeout)
        replies = [AuditReply.from_message(message) for message in answers.replies.values()]
        if not replies:
            raise FedUnlearnError("no client answered evaluate.audit; its logs say why")
        return pool(replies)


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


def figures(
    request: ForgetRequest, target: AuditReply, parts: AuditReply, forgotten_classes: Collection[int]
) -> Figures:
    """The five figures of a request.

    Parameters
    ----------
    request : ForgetRequest
    target : AuditReply
        With the request among its targets.
    parts : AuditReply
        With all parts, of the same model; may be the same reply.
    forgotten_classes : collection of int
        Classes of committed requests: no part of D_r and D_rt.
    """
    classes = classes_of(request)
    left_out = {*classes, *forgotten_classes}
    counts = target.targets[_id(request)]
    unlearned = sum(counts.member_histogram) > 0 and sum(counts.outsider_histogram) > 0
    return Figures(
        forget_accuracy=forget_accuracy(target, request),
        retain_accuracy=parts.parts["retain"].accuracy(without=left_out),
        test_forget_accuracy=parts.parts["test"].accuracy(only=classes) if classes else None,
        test_retain_accuracy=parts.parts["test"].accuracy(without=left_out),
        membership_auc=membership_auc(counts.member_histogram, counts.outsider_histogram) if unlearned else None,
    )


def forget_accuracy(reply: AuditReply, request: ForgetRequest) -> float | None:
    """Accuracy on D_f; None where no holder may read it."""
    counts = reply.targets.get(_id(request))
    return counts.correct / counts.total if counts is not None and counts.total else None


def classes_of(request: ForgetRequest) -> tuple[int, ...]:
    """The classes that a request asks for; none for other scopes."""
    return request.scope.classes if isinstance(request.scope, ClassScope) else ()


def _id(request: ForgetRequest) -> str:
    if request.id is None:
        raise FedUnlearnError("a request without an id cannot be audited; submit it first")
    return request.id


def _add_counts(first: RequestCounts, second: RequestCounts) -> RequestCounts:
    return RequestCounts(
        correct=first.correct + second.correct,
        total=first.total + second.total,
        member_histogram=_add_lists(first.member_histogram, second.member_histogram),
        outsider_histogram=_add_lists(first.outsider_histogram, second.outsider_histogram),
    )


def _add_lists(first: Sequence[int], second: Sequence[int]) -> list[int]:
    if not first or not second:
        return list(first or second)
    return [left + right for left, right in zip(first, second, strict=True)]
