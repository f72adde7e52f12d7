"""The counts of all clients together, and the figures and the evidence that follow from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.asked import measured_of
from fed_unlearn.audits.base import Figures
from fed_unlearn.audits.counted_figures import figures_of
from fed_unlearn.audits.counts import ClientCounts, Part, RequestCounts
from fed_unlearn.errors import ProtocolError
from fed_unlearn.evidence import Evidence
from fed_unlearn.requests import ClassScope, ForgetRequest, ScopeKind

_SERVER = ""
"""Key of the server's own counts in JSON; no client has an empty id."""


@dataclass(frozen=True)
class Audit:
    """What every client counted of one model.

    Attributes
    ----------
    replies : dict of str to ClientCounts
        Counts by client. A client that leaves has no parts: it counts for its own request alone.
    failed, silent : dict of str to str
        Why there are no counts of a client, by client: it answered wrongly, or it did not answer.
    server : ClassCounts or None
        Counts of the server's own validation samples, where the gate has some.
    """

    replies: Mapping[str, ClientCounts]
    failed: Mapping[str, str] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    server: ClassCounts | None = None

    @cached_property
    def pooled(self) -> ClientCounts:
        """The sum over all clients."""
        return sum(self.replies.values(), start=ClientCounts())

    def counts(self, part: Part, clients: Collection[str] | None = None) -> ClassCounts | None:
        """Counts of one part, summed over all or some clients; None where none of them has counted it."""
        counted = [
            reply.parts[part]
            for client, reply in self.replies.items()
            if part in reply.parts and (clients is None or client in clients)
        ]
        return sum(counted[1:], start=counted[0]) if counted else None

    def validation(
        self, clients: Collection[str] | None = None, *, by_server: bool | None = None
    ) -> ClassCounts | None:
        """Counts of the validation samples that the gate judges by: the server's own where it has some, else clients'.

        Parameters
        ----------
        clients : collection of str, optional
            Clients whose counts are summed; all if None.
        by_server : bool, optional
            Whether the server's own are asked for; by default where the audit has some.
        """
        by_server = self.server is not None if by_server is None else by_server
        return self.server if by_server else self.counts("validation", clients)

    @cached_property
    def absent_classes(self) -> frozenset[int]:
        """Classes without a retained training sample: forgotten, or not arrived yet."""
        counts = self.counts("retain")
        return frozenset(index for index, total in enumerate(counts.total) if not total) if counts else frozenset()

    def figures(
        self,
        request: ForgetRequest,
        forgotten_classes: Collection[int],
        target: Audit | None = None,
        *,
        limits: Mapping[Part, int] | None = None,
        is_oracle: bool = False,
    ) -> Figures:
        """The figures of a request.

        Parameters
        ----------
        request : ForgetRequest
        forgotten_classes : collection of int
            Classes of committed requests, and of those that are being served. They are no part of D_r and D_rt.
        target : Audit, optional
            Another audit of the same model that has the request, if this one does not have it.
        limits : mapping of part to int, optional
            Maximum number of samples that each client was asked to read, by part; 0 or none for all.
        is_oracle : bool
            Whether the model never saw D_f.
        """
        classes, measured = classes_of(request), target or self
        sampled = frozenset(part for part, limit in (limits or {}).items() if limit and self._is_sampled(part, limit))
        return figures_of(
            measured.pooled.targets.get(request.id, RequestCounts()),
            classes,
            left_out={*classes, *forgotten_classes, *self.absent_classes},
            retain=self.counts("retain"),
            test=self.counts("test"),
            class_test=measured.counts("test"),
            sampled=sampled,
            is_oracle=is_oracle,
        )

    def _is_sampled(self, part: Part, limit: int) -> bool:
        """Whether a client may have read a part of its samples alone."""
        return any(sum(reply.parts[part].total) >= limit for reply in self.replies.values() if part in reply.parts)

    def without(self, clients: Collection[str]) -> Audit:
        """The audit without the counts of some clients."""
        kept = {client: reply for client, reply in self.replies.items() if client not in clients}
        return replace(self, replies=kept)

    def witnesses(self, request: ForgetRequest) -> int:
        """Number of clients that counted forget samples of a request."""
        counted = [reply.targets.get(request.id) for reply in self.replies.values()]
        return sum(counts is not None and counts.hits.total > 0 for counts in counted)

    def without_targets(self) -> Audit:
        """The audit without counts of requests, to compare later audits with."""
        replies = {client: replace(reply, targets={}) for client, reply in self.replies.items() if reply.parts}
        return Audit(replies, server=self.server)

    def to_json(self) -> dict[str, object]:
        """As JSON; :meth:`from_json` reads it back."""
        server = {} if self.server is None else {_SERVER: ClientCounts({"validation": self.server}).to_json()}
        return {**{client: reply.to_json() for client, reply in self.replies.items()}, **server}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Audit:
        """Read what :meth:`to_json` wrote."""
        replies = {client: ClientCounts.from_numbers(**reply) for client, reply in body.items()}
        server = replies.pop(_SERVER, None)
        return cls(replies, server=server.parts["validation"] if server is not None else None)


def forget_accuracy(audit: Audit, request: ForgetRequest) -> float | None:
    """Accuracy on D_f; None if no holder may read it."""
    counts = audit.pooled.targets.get(request.id)
    return counts.hits.value if counts is not None else None


def classes_of(request: ForgetRequest) -> tuple[int, ...]:
    """The classes that a request names; empty for other scopes."""
    return request.scope.classes if isinstance(request.scope, ClassScope) else ()


def check_counts(
    reply: ClientCounts,
    *,
    parts: Collection[Part],
    requests: Collection[str],
    audits: Collection[str],
    class_count: int,
) -> None:
    """Refuse counts that nobody asked for, that cannot be, or that cannot be added to those of others.

    Parameters
    ----------
    reply : ClientCounts
    parts, requests, audits : collection of str
        What was asked for. ``audits`` names audits of other packages.
    class_count : int

    Raises
    ------
    ProtocolError
        If the counts are refused.
    """
    are_asked = set(reply.parts) == set(parts) and set(reply.targets) <= set(requests)
    are_asked = are_asked and all(set(counts.extra) <= set(audits) for counts in reply.targets.values())
    fit = all(counts.fits(class_count) for counts in reply.parts.values())
    if not (are_asked and fit and all(counts.fits(class_count) for counts in reply.targets.values())):
        raise ProtocolError("an evaluate.audit reply whose counts are malformed")


def evidence_of(
    kept: Evidence,
    scope: ScopeKind,
    counts: RequestCounts,
    validation: ClassCounts | None,
    methods_left: int = 0,
) -> Evidence:
    """What a candidate has forgotten of one request, beside what it has kept.

    Parameters
    ----------
    kept : Evidence
        Evidence of the candidate as a whole: retained accuracies, attempt and repair rounds.
    scope : str
        Scope of the request.
    counts : RequestCounts
        Counts of the request's forget set, summed over all holders.
    validation : ClassCounts or None
        Counts of the validation samples of all classes.
    methods_left : int
        Methods that may still be tried for it.
    """
    staying, attack = counts.confidence.staying, counts.membership.against_unseen
    return replace(
        kept,
        forget_accuracy=counts.hits.value,
        unseen_accuracy=_expected(counts.hits.class_totals, validation) if scope == "client" else None,
        membership_auc=attack.value,
        membership_interval=attack.interval,
        methods_left=methods_left,
        confidence=counts.confidence.own,
        staying_confidence=staying.value if staying is not None else None,
        forget_samples=counts.hits.total,
        figures=measured_of(counts.extra, for_gate=True),
    )


def _expected(class_totals: Sequence[int], validation: ClassCounts | None) -> float | None:
    """Accuracy that samples of these classes would have if each class were recognised as unseen ones of it are."""
    if validation is None or not any(class_totals):
        return None
    known = [
        (count, validation.correct[index] / validation.total[index])
        for index, count in enumerate(class_totals)
        if count and validation.total[index]
    ]
    total = sum(count for count, _ in known)
    return sum(count * accuracy for count, accuracy in known) / total if total else None
