"""What a client may say of its samples: no more than it identified itself with, less what is forgotten of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from flwr.app import Message

from fed_unlearn import protocol
from fed_unlearn.audits.accuracy import ClassCounts, ForgetAccuracy
from fed_unlearn.audits.attack import MembershipAttack
from fed_unlearn.audits.counts import ClientCounts, RequestCounts
from fed_unlearn.class_names import ClassNames
from fed_unlearn.errors import ProtocolError
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, SampleScope
from fed_unlearn.strategies.clients.bounds.audited import bounded_extra, check_sides, counts_forget_set
from fed_unlearn.strategies.clients.bounds.shares import bounded_parts, scaled_counts, scaled_hits
from fed_unlearn.strategies.clients.bounds.sureness import check_sums, fewer_sums
from fed_unlearn.strategies.clients.messages.exchange import Roster

MOST_SAMPLES = 2**40
"""No client has more samples: counts of thousands of clients add up within 63 bits."""


def most_retained(roster: Roster, client: str) -> tuple[tuple[int, ...], int]:
    """At most so many retained training samples of each class, and altogether.

    Parameters
    ----------
    roster : Roster
    client : str
        Id of a client that has identified itself.
    """
    held = roster.class_samples.get(client, ())
    scopes = [request.scope for request in roster.committed]
    forgotten = {index for scope in scopes if isinstance(scope, ClassScope) for index in scope.classes}
    classes = tuple(0 if index in forgotten else count for index, count in enumerate(held))
    single = sum(
        len(scope.sample_ids) or scope.count
        for scope in scopes
        if isinstance(scope, SampleScope) and scope.client == client
    )
    return classes, max(0, sum(held) - max(sum(held) - sum(classes), single))


def most_held(roster: Roster, request: ForgetRequest, client: str) -> int:
    """At most so many samples of a request: what the client identified itself with, or has said since that it holds."""
    held = roster.class_samples.get(client, ())
    match request.scope:
        case ClassScope(classes=classes):
            most = sum(held[index] for index in classes if index < len(held))
        case SampleScope(client=named, sample_ids=ids, count=count):
            most = min(sum(held), len(ids) or count) if client == named else 0
        case ClientScope(client=named):
            most = sum(held) if client == named else 0
    said = roster.holdings.get(request.id, {}).get(client)
    return most if said is None else min(most, said)


def what_it_holds(
    message: Message, asked: Sequence[ForgetRequest]
) -> tuple[dict[str, int], dict[str, str], str | None]:
    """What a client says that it holds of requests, which of them it cannot serve, or what is wrong with its reply.

    A client speaks for itself: it cannot have a request refused that others are asked about too.

    Parameters
    ----------
    message : Message
        The client's reply to ``train.unlearn``.
    asked : sequence of ForgetRequest
        What it was asked about.
    """
    told = protocol.read_forgotten(message)
    if told is None:
        return {}, {}, "its reply does not say what it holds"
    held, refused = told
    own = {request.id for request in asked if not isinstance(request.scope, ClassScope)}
    if not set(refused) <= own:
        return {}, {}, "it refuses what it was not asked about alone"
    known = {request.id for request in asked}
    return {name: count for name, count in held.items() if name in known and count > 0}, refused, None


def credible(
    roster: Roster, client: str, asked: Sequence[ForgetRequest], held: Mapping[str, int]
) -> tuple[dict[str, int], list[str]]:
    """What a client holds of requests, at most what it identified itself with; the roster keeps it for later audits.

    Parameters
    ----------
    roster : Roster
    client : str
    asked : sequence of ForgetRequest
        What it was asked about.
    held : mapping of str to int
        What it says, by request.

    Returns
    -------
    tuple of (dict of str to int) and (list of str)
        Number of samples that the client is taken to hold, by request, for requests with at least one; and a text for
        each request of which it said that it holds more.
    """
    believed, excess = dict[str, int](), list[str]()
    for request in asked:
        said, known = held.get(request.id, 0), roster.holdings.setdefault(request.id, {})
        known.pop(client, None)
        most = most_held(roster, request, client)
        if said > most:
            excess.append(f"says that it holds {said} samples of request {request.id}, and has at most {most}")
        known[client] = min(said, most)
        if known[client]:
            believed[request.id] = known[client]
    return believed, excess


def already_forgotten(roster: Roster, request: ForgetRequest) -> int:
    """How many of the samples that a request names its client has forgotten before, by what it says that it holds.

    Samples that a client draws by itself are never among them.
    """
    scope = request.scope
    if not isinstance(scope, SampleScope) or not (scope.sample_ids or scope.queued):
        return 0
    held = roster.holdings.get(request.id, {}).get(scope.client, 0)
    return max(0, (len(scope.sample_ids) or scope.count) - held) if held else 0


def bounded_claims(roster: Roster) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """What clients identified themselves with, no claim larger than a client's share; and whose claims were larger."""
    totals = {client: sum(counts) for client, counts in roster.class_samples.items()}
    bounded = bounded_parts(totals, roster.max_share)
    claims = {
        client: counts if bounded[client] == totals[client] else scaled_counts(counts, bounded[client])
        for client, counts in roster.class_samples.items()
    }
    return claims, {client for client, total in totals.items() if bounded[client] < total}


def check_audit(
    reply: ClientCounts, roster: Roster, client: str, requests: Collection[ForgetRequest], retain_limit: int
) -> tuple[ClientCounts, list[str]]:
    """Hold what a client counts against what it holds.

    Parameters
    ----------
    reply : ClientCounts
    roster : Roster
    client : str
    requests : collection of ForgetRequest
        Requests that the client was asked about.
    retain_limit : int
        Maximum number of retained samples that the client was asked to read; 0 for all.

    Returns
    -------
    tuple of ClientCounts and (list of str)
        The counts, without those of requests of which the client holds nothing; and the ids of these requests.

    Raises
    ------
    ProtocolError
        If the client counts more than it can have, or numbers that do not add up.
    """
    _check_parts(reply, roster, client, retain_limit)
    test, validation = reply.parts.get("test"), reply.parts.get("validation")
    outsiders, unseen = sum(test.total) if test else 0, sum(validation.total) if validation else 0
    foreign: list[str] = []
    for request in requests:
        counts = reply.targets.get(request.id)
        if counts is None:
            continue
        if not most_held(roster, request, client) and _speaks(counts, request):
            foreign.append(request.id)
            continue
        _check_target(counts, request, roster, client)
        check_sums(counts.confidence, reply, counts.hits.class_totals, request.id)
        member = counts.membership
        if sum(member.outsider_histogram) > outsiders or sum(member.unseen_histogram) > unseen:
            raise ProtocolError(f"it compares request {request.id} with more unseen samples than it has")
        check_sides(counts, reply, request)
    kept = {name: counts for name, counts in reply.targets.items() if name not in foreign}
    return (replace(reply, targets=kept) if foreign else reply), foreign


def _check_parts(reply: ClientCounts, roster: Roster, client: str, retain_limit: int) -> None:
    classes, most = most_retained(roster, client)
    for part, counts in reply.parts.items():
        if sum(counts.total) > MOST_SAMPLES:
            raise ProtocolError(f"it counts {sum(counts.total)} {part} samples, which no client has")
    retain = reply.parts.get("retain")
    if retain is None:
        return
    most = min(most, retain_limit + len(classes)) if retain_limit else most  # and one of each class
    for index, (count, largest) in enumerate(zip(retain.total, classes, strict=True)):
        if count > largest:
            shown = ClassNames(roster.class_names.get(client, ())).shown(index)
            raise ProtocolError(f"it counts {count} retained samples of class {shown}, and has at most {largest}")
    if sum(retain.total) > most:
        raise ProtocolError(f"it counts {sum(retain.total)} retained samples, and has at most {most}")


def _speaks(counts: RequestCounts, request: ForgetRequest) -> bool:
    """Whether counts say anything that only a holder can: others count unseen samples of the classes that are named."""
    member = counts.membership
    told = counts.hits.total or any(counts.hits.class_totals) or any(member.member_histogram)
    told = told or any(counts.confidence.own_total) or counts_forget_set(counts)
    if isinstance(request.scope, ClassScope):
        return bool(told)
    return bool(told) or any(member.outsider_histogram) or any(member.unseen_histogram)


def _check_target(counts: RequestCounts, request: ForgetRequest, roster: Roster, client: str) -> None:
    hits, member, most = counts.hits, counts.membership, most_held(roster, request, client)
    if hits.total > most:
        raise ProtocolError(f"it counts {hits.total} samples of request {request.id}, and holds at most {most}")
    held = roster.class_samples.get(client, ())
    if hits.class_totals and (
        sum(hits.class_totals) != hits.total
        or any(count > largest for count, largest in zip(hits.class_totals, held, strict=True))
    ):
        raise ProtocolError(f"its samples of request {request.id} by class do not add up to what it holds")
    if member.member_histogram and sum(member.member_histogram) != hits.total:
        raise ProtocolError(f"its histogram of request {request.id} does not add up to its {hits.total} samples")


def bounded_replies(replies: Mapping[str, ClientCounts], share: float) -> tuple[dict[str, ClientCounts], set[str]]:
    """Counts of which no client's part is larger than its share; those of a client that exceeds it are scaled down.

    Parameters
    ----------
    replies : mapping of str to ClientCounts
        Counts by client.
    share : float
        Largest share of one client, as in :func:`fed_unlearn.strategies.clients.bounds.shares.bounded_parts`.

    Returns
    -------
    tuple of (dict of str to ClientCounts) and (set of str)
        The counts, and the clients some of whose counts were scaled down.
    """
    bounded = dict(replies)
    for part in {part for reply in replies.values() for part in reply.parts}:
        totals = {client: sum(reply.parts[part].total) for client, reply in replies.items() if part in reply.parts}
        for client, total in bounded_parts(totals, share).items():
            if total < totals[client]:
                parts = {**bounded[client].parts, part: _fewer(replies[client].parts[part], total)}
                bounded[client] = replace(bounded[client], parts=parts)
    for name in {name for reply in replies.values() for name in reply.targets}:
        targets = {client: reply.targets[name] for client, reply in replies.items() if name in reply.targets}
        for client, counts in _bounded_targets(targets, share).items():
            if counts is not targets[client]:
                bounded[client] = replace(bounded[client], targets={**bounded[client].targets, name: counts})
    return bounded, {client for client, reply in bounded.items() if reply is not replies[client]}


def _fewer(counts: ClassCounts, total: int) -> ClassCounts:
    totals = scaled_counts(counts.total, total)
    columns = zip(counts.correct, counts.total, totals, strict=True)
    return ClassCounts(tuple(scaled_hits(*column) for column in columns), totals)


def _bounded_targets(targets: Mapping[str, RequestCounts], share: float) -> dict[str, RequestCounts]:
    held = bounded_parts({client: counts.hits.total for client, counts in targets.items()}, share)
    outsiders = bounded_parts({c: sum(counts.membership.outsider_histogram) for c, counts in targets.items()}, share)
    unseen = bounded_parts({c: sum(counts.membership.unseen_histogram) for c, counts in targets.items()}, share)
    sure_unseen = bounded_parts({c: sum(counts.confidence.unseen_total) for c, counts in targets.items()}, share)
    staying = bounded_parts({c: sum(counts.confidence.staying_total) for c, counts in targets.items()}, share)
    bounded: dict[str, RequestCounts] = {}
    for client, counts in targets.items():
        hits, member = counts.hits, counts.membership
        fewer = replace(
            counts,
            hits=ForgetAccuracy(
                scaled_hits(hits.correct, hits.total, held[client]),
                held[client],
                scaled_counts(hits.class_totals, held[client]),
            ),
            membership=MembershipAttack(
                scaled_counts(member.member_histogram, held[client]),
                scaled_counts(member.outsider_histogram, outsiders[client]),
                scaled_counts(member.unseen_histogram, unseen[client]),
            ),
        )
        fewer = replace(fewer, confidence=fewer_sums(counts.confidence, sure_unseen[client], staying[client]))
        bounded[client] = counts if fewer == counts else fewer
    extra = bounded_extra(targets, share, {client: bounded[client] is not targets[client] for client in targets})
    return {
        client: counts if extra[client] == counts.extra else replace(counts, extra=extra[client])
        for client, counts in bounded.items()
    }
