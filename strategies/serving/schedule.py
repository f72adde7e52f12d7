"""Which requests are served next, which share their rounds, and which have to wait."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import LedgerEntry
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, SampleScope
from fed_unlearn.strategies.clients.claims import bounded_claims
from fed_unlearn.strategies.clients.messages.exchange import client_order
from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.methods_by_name import shares_rounds
from fed_unlearn.strategies.serving.asked import Asked
from fed_unlearn.strategies.serving.attempts.allowance import RequestBudget


class Placement(Enum):
    """What can be done about a pending request now."""

    READY = "ready"
    WAITS = "waits"
    HELD = "held"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True)
class PlacedRequest:
    """A pending request, what can be done about it, and why where that is nothing."""

    entry: LedgerEntry
    placement: Placement
    reason: str | None = None


@dataclass(frozen=True)
class Batch:
    """Requests that are served together.

    Attributes
    ----------
    entries : tuple of LedgerEntry
        The requests, as the ledger has them.
    number : int
        Number of the attempt.
    method : str
        Name of the method.
    stronger : int
        Number of times that the method's setting is made stronger.
    """

    entries: tuple[LedgerEntry, ...]
    number: int
    method: str
    stronger: int

    @property
    def requests(self) -> tuple[ForgetRequest, ...]:
        """Their requests."""
        return tuple(entry.request for entry in self.entries)


@dataclass(frozen=True)
class Scheduler:
    """Looks at what is pending, in order of priority, deadline and arrival; made anew for every look.

    Attributes
    ----------
    context : CallContext
        What the call works with.
    """

    context: CallContext

    def place(self, entry: LedgerEntry, connected: Collection[str]) -> PlacedRequest:
        """What can be done about a request now; those before it, in their order, are to be placed first.

        Parameters
        ----------
        entry : LedgerEntry
        connected : collection of str
            Clients that can be reached.
        """
        request = entry.request
        if not connected:
            return PlacedRequest(entry, Placement.WAITS, "no client is reachable")
        reason = self._impossible(entry)
        if reason is not None:
            return PlacedRequest(entry, Placement.IMPOSSIBLE, reason)
        if isinstance(request.scope, SampleScope | ClientScope) and request.scope.client not in self._met:
            reason = f"no client {request.scope.client} has been seen yet; it is served when there is one"
            return PlacedRequest(entry, Placement.WAITS, f"{reason}, withdraw it where the name is wrong")
        if not entry.approved and entry.attempt == 0:
            share = self._share_over_its_bound(request)
            if share is not None:
                return PlacedRequest(entry, Placement.HELD, f"{share}; approve or withdraw it")
        if entry.attempt == 0:
            self._asked.add(request)
        if isinstance(request.scope, SampleScope) and request.scope.client not in connected:
            return PlacedRequest(entry, Placement.WAITS, f"client {request.scope.client} is not reachable")
        if isinstance(request.scope, SampleScope) and entry.attempt:  # the holder has taken its samples out of training
            needed = self.context.state.progress(entry.id).needs
            budget = RequestBudget(self.context.ledger, self.context.plan.request_bound)
            if (shortage := budget.shortage(request.scope.client, needed)) is not None:
                return PlacedRequest(entry, Placement.WAITS, shortage)
        if isinstance(request.scope, ClassScope) and not self._is_held(request.scope.classes, connected):
            absent = sorted(
                self.context.grid.roster.known - self.context.grid.roster.leaving - set(connected), key=client_order
            )
            if absent:
                reason = f"no reachable client holds a sample of {self.context.words(request)}"
                return PlacedRequest(entry, Placement.WAITS, f"{reason}; clients {', '.join(absent)} may")
        return PlacedRequest(entry, Placement.READY)

    def batch(self, ready: list[LedgerEntry]) -> Batch:
        """The first of the requests that can be served, and all that are served alike.

        Parameters
        ----------
        ready : list of LedgerEntry
            Requests that can be served, in order; at least one.
        """
        first, *others = ready
        method, stronger = self.method_of(first)
        chosen = [first]
        if self._may_share(first, method):
            key = self._key(first)
            taken, leaving = set(_classes(first)), _leaving(first)
            for entry in others:
                fits = self._may_share(entry, method) and self._key(entry) == key
                fits = fits and not taken & set(_classes(entry)) and self._leaves_enough(taken, _classes(entry))
                if fits and self._some_stay(leaving, _leaving(entry)):
                    chosen.append(entry)
                    taken |= set(_classes(entry))
                    leaving |= _leaving(entry)
        return Batch(tuple(chosen), first.attempt + 1, method, stronger)

    def method_of(self, entry: LedgerEntry) -> tuple[str, int]:
        """The method that a request is tried by next, and how often its setting is made stronger."""
        progress = self.context.state.progress(entry.id)
        methods = self.context.plan.methods_of(entry.request)
        index = min(progress.method_index, len(methods) - 1)  # the plan may have become shorter
        return methods[index], progress.tries

    def methods_left(self, entry: LedgerEntry) -> int:
        """How many methods may still be tried after the one in use."""
        index = self.context.state.progress(entry.id).method_index
        return max(0, len(self.context.plan.methods_of(entry.request)) - 1 - index)

    def _may_share(self, entry: LedgerEntry, method: str) -> bool:
        alone = self.context.state.progress(entry.id).alone
        return self.context.plan.share_rounds and not alone and shares_rounds(method)

    def _key(self, entry: LedgerEntry) -> tuple[object, ...]:
        method, stronger = self.method_of(entry)
        if self.context.plan.resets(entry.request.scope.kind, method):
            return entry.request.scope.kind, "deep", stronger, entry.attempt
        parameters = json.dumps(self.context.plan.parameters_of(entry.request, method), sort_keys=True, default=str)
        return entry.request.scope.kind, method, parameters, stronger, entry.attempt

    def _impossible(self, entry: LedgerEntry) -> str | None:
        request = entry.request
        forgotten = self.context.ledger.forgotten_classes() if not entry.ever_committed else frozenset[int]()
        classes, names = self.context.grid.roster.class_count, self.context.ledger.class_names()
        match request.scope:
            case ClassScope(classes=asked):
                if absent := [item for item in asked if item >= classes]:
                    return f"class {absent[0]} is not a class of the data (0..{classes - 1})"
                if again := sorted(forgotten & set(asked)):
                    return f"class {names.shown(again[0])} is forgotten already"
                if not self._leaves_enough(forgotten, asked):
                    return f"it would leave fewer than 2 of {classes} classes"
            case SampleScope(client=client) | ClientScope(client=client):
                if client in self._forgotten_clients(request):
                    return f"client {client} is forgotten already"
                others = self._met - self.context.grid.roster.leaving - {client}
                if isinstance(request.scope, ClientScope) and not others:
                    return f"client {client} is the last one that is left"
        try:
            for method in self.context.plan.methods_of(request):
                self.context.plan.parameters_of(request, method)
        except FedUnlearnError as error:
            return str(error)
        return None

    def _leaves_enough(self, taken: Collection[int], asked: Collection[int]) -> bool:
        """Whether two classes are left at least, when these and those go and all that are forgotten already."""
        gone = {*self.context.ledger.forgotten_classes(), *taken, *asked}
        return not asked or self.context.grid.roster.class_count - len(gone) >= 2

    def _some_stay(self, leaving: set[str], asked: set[str]) -> bool:
        """Whether some clients are left when these and that one leave; no client leaves twice."""
        return not asked or (
            not asked & leaving and bool(self._met - self.context.grid.roster.leaving - leaving - asked)
        )

    def _is_held(self, classes: Collection[int], clients: Collection[str]) -> bool:
        held = self.context.grid.roster.class_samples
        return any(held[client][item] for client in clients if client in held for item in classes)

    @cached_property
    def _met(self) -> set[str]:
        """Clients that were ever seen; what others hold is not known."""
        return {*self.context.grid.roster.clients.values(), *self.context.ledger.known_clients()}

    @cached_property
    def _tried(self) -> list[LedgerEntry]:
        """Requests whose samples are in quarantine, or forgotten."""
        over = (Status.REJECTED, Status.WITHDRAWN)
        return [entry for entry in self.context.ledger.entries() if entry.attempt > 0 and entry.status not in over]

    @cached_property
    def _asked(self) -> Asked:
        asked = Asked()
        for entry in self._tried:
            asked.add(entry.request)
        return asked

    def _forgotten_clients(self, request: ForgetRequest) -> set[str]:
        over = (Status.FAILED,) if isinstance(request.scope, ClientScope) else ()  # can be asked for once more
        scopes = [item.request.scope for item in self._tried if item.id != request.id and item.status not in over]
        return {scope.client for scope in scopes if isinstance(scope, ClientScope)}

    def _share_over_its_bound(self, request: ForgetRequest) -> str | None:
        """Why a request waits for approval. A claim above a client's share must not make others' requests look small.

        Where there is such a claim, the shares are taken of what all hold with the claim bounded, and of what the
        others hold; the larger ones count.
        """
        claims, excessive = bounded_claims(self.context.grid.roster)
        shares = self._shares(request, claims)
        if excessive:
            of_others = self._shares(request, {name: claims[name] for name in claims if name not in excessive})
            shares = (max(shares[0], of_others[0]), max(shares[1], of_others[1]), shares[2])
        holds = self.context.plan.holds
        for name, share, bound in zip(
            ("all data, with what was forgotten before,", "a class", "a client"),
            shares,
            (holds.data, holds.of_class, holds.of_client),
            strict=True,
        ):
            if bound is not None and share > bound:
                return f"it asks for {share:.0%} of {name} and more than {bound:.0%} needs approval"
        return None

    def _shares(self, request: ForgetRequest, held: Mapping[str, Sequence[int]]) -> tuple[float, float, float]:
        """Which share a request asks for of all data, of a class and of a client, by what each client holds."""
        total = sum(map(sum, held.values()))
        of_class, of_client = 0.0, 0.0
        match request.scope:
            case ClassScope():
                of_class = 1.0
            case SampleScope(client=client, sample_ids=ids, count=count, of_class=drawn_class):
                asked = len(ids) or count
                of_client = asked / max(1, sum(held.get(client, ())))
                if drawn_class is not None and drawn_class < self.context.grid.roster.class_count:
                    of_class = asked / max(1, sum(counts[drawn_class] for counts in held.values()))
            case ClientScope():
                of_client = 1.0
        together = Asked(set(self._asked.classes), set(self._asked.clients), Counter(self._asked.samples))
        together.add(request)
        excluded = self.context.grid.roster.excluded_samples
        forgotten = max(together.count(held), sum(min(excluded.get(name, 0), sum(held[name])) for name in held))
        return forgotten / max(1, total), of_class, of_client


def _leaving(entry: LedgerEntry) -> set[str]:
    scope = entry.request.scope
    return {scope.client} if isinstance(scope, ClientScope) else set()


def _classes(entry: LedgerEntry) -> tuple[int, ...]:
    scope = entry.request.scope
    return scope.classes if isinstance(scope, ClassScope) else ()
