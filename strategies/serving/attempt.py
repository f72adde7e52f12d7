"""One try at requests that are served together: what the holders and the repair rounds make of the served model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from flwr.app import ConfigRecord

from fed_unlearn.arrays import Arrays
from fed_unlearn.requests import ForgetRequest, ParameterValue
from fed_unlearn.strategies.clients.rounds import LocalModels, Rounds, UnlearnOrder, client_of, norms_of
from fed_unlearn.strategies.inner.aggregation import AggregationFailedError, TooFewRepliesError
from fed_unlearn.strategies.state import ServedModel


class RequestRejectedError(Exception):
    """A request that cannot be served as it was put; the text says why."""


class AttemptFailedError(Exception):
    """An attempt that came to no accepted model; the text says why. The request's samples stay in quarantine."""


class HoldersAwayError(AttemptFailedError):
    """Holders did not answer: the requests that name them wait until they are back.

    Attributes
    ----------
    requests : tuple of str
        Their ids.
    """

    def __init__(self, reason: str, requests: tuple[str, ...]) -> None:
        super().__init__(reason)
        self.requests = requests


class HoldersFailedError(AttemptFailedError):
    """Some holders did not do their part: the requests that name them failed, and not those that shared the attempt.

    Attributes
    ----------
    requests : tuple of str
        Their ids.
    """

    def __init__(self, reason: str, requests: tuple[str, ...]) -> None:
        super().__init__(reason)
        self.requests = requests


class CommitFailedError(AttemptFailedError):
    """A commit that some holder did not confirm; others have their tombstones, so that there is no further attempt."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is tried: written down before it is, so that a crash cannot change it.

    Attributes
    ----------
    requests : tuple of ForgetRequest
        All of one scope, served by one method.
    number : int
        Of the attempt, from 1; of all of them.
    method : str
    parameters : mapping of str to value
    stronger : int
        How often the method's setting is made stronger.
    excluded_classes : tuple of int
        What no forget sample may be taught to be: classes forgotten before, those of the requests, and those that have
        not arrived yet.
    """

    requests: tuple[ForgetRequest, ...]
    number: int
    method: str
    parameters: dict[str, ParameterValue]
    stronger: int
    excluded_classes: tuple[int, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the requests."""
        return tuple(request.id for request in self.requests)

    @property
    def scope(self) -> str:
        """Scope of all of them."""
        return self.requests[0].scope.kind


@dataclass
class Attempt(ABC):
    """One try; ``candidate`` is its model so far.

    Attributes
    ----------
    order : Order
    rounds : Rounds
    served : ServedModel
    candidate : dict of ndarray
    on_step : callable
        Told in words what was done.
    step, repair_rounds : int
        Turns of the holders, and repair rounds so far.
    holders : dict of str to set of str
        By request, the clients that hold samples of it.
    refused : dict of str to str
        Requests that cannot be served as they were put, and why.
    away : dict of str to str
        Clients that did not answer, and so may hold samples of a class request; they are in no round until they have
        heard of it, or it has ended.
    """

    repairs_by_plan: ClassVar[bool] = True
    """Whether the planned repair rounds follow before the gate looks; some methods repair by themselves."""

    order: Order
    rounds: Rounds
    served: ServedModel
    candidate: Arrays
    on_step: Callable[[str], None]
    step: int = 0
    repair_rounds: int = 0
    holders: dict[str, set[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)

    @abstractmethod
    def unlearn(self) -> None:
        """Take the forget samples out of the candidate.

        Raises
        ------
        RequestRejectedError
            If no client holds a sample of any request, or none can be served as it was put.
        AttemptFailedError
            If it could not be done: what some client holds would stay in the model.
        HoldersAwayError
            If holders did not answer, and what can be done without them is nothing.
        """

    def check_audited(self, answered: Collection[str], failed: Mapping[str, str], silent: Mapping[str, str]) -> None:
        """Refuse an audit in which no holder of a request tells how well its samples are forgotten.

        Raises
        ------
        HoldersAwayError
            If some of the holders did not answer.
        HoldersFailedError
            If all of them answered, and not as they should.
        """
        unread = {
            request.id: holders
            for request in self.requests
            if self.order.scope != "client" and (holders := self.holders.get(request.id, set()))
            if not holders & set(answered)
        }
        away = {name: reason for name, reason in silent.items() if name in set().union(*unread.values(), set())}
        if away:
            waiting = tuple(name for name, holders in unread.items() if holders & set(away))
            raise HoldersAwayError("; ".join(away.values()), waiting)
        if unread:
            holders = set().union(*unread.values())
            reason = "; ".join(reason for name, reason in failed.items() if name in holders)
            raise HoldersFailedError(reason, tuple(unread))

    def repair(self) -> None:
        """One repair round, guarded at the holders."""
        self.repair_rounds += 1
        guarded = tuple((request_id, self.order.number) for request_id in self.holders)
        self.candidate = self._repaired(self.candidate, guarded)[0]
        self.on_step(f"repair round {self.repair_rounds}")

    @property
    def requests(self) -> tuple[ForgetRequest, ...]:
        """Those that are still tried: some may have turned out not to be served as they were put."""
        return tuple(request for request in self.order.requests if request.id not in self.refused)

    def _ask_holders(
        self, method: str | None, clients: Sequence[str] | None = None, *, only_if_recognised: bool = False
    ) -> LocalModels:
        order = UnlearnOrder(
            method=method,
            parameters=self.order.parameters,
            stronger=self.order.stronger,
            attempt=self.order.number,
            step=self.step,
            excluded_classes=self.order.excluded_classes,
            only_if_recognised=only_if_recognised,
            arrived=self.served.arrived,
        )
        local = self.rounds.unlearn(self.requests, self.candidate, order, clients)
        self.step += 1
        if self.order.number == 1 and self.step == 1:
            self.refused.update(local.refused)
        elif local.refused:  # what was served before cannot be impossible: some client says what is not so
            raise HoldersFailedError("; ".join(local.refused.values()), tuple(local.refused))
        for request_id, counts in local.counts.items():
            self.holders.setdefault(request_id, set()).update(counts)
        self._check_answers(local)
        if clients is None:
            self._check_holders()
        return local

    def _check_answers(self, local: LocalModels) -> None:
        failed = {client: reason for client, reason in local.failed.items() if self._may_hold(client)}
        if failed:
            named = tuple(request.id for request in self.requests if client_of(request) in (None, *failed))
            raise HoldersFailedError("; ".join(failed.values()), named)
        if not local.silent:
            return
        named = tuple(request.id for request in self.requests if client_of(request) in local.silent)
        if named and self.order.scope == "sample":
            raise HoldersAwayError("; ".join(local.silent.values()), named)
        away = {client: reason for client, reason in local.silent.items() if self._may_hold(client)}
        if set(away) & set().union(*self.holders.values(), set()):
            raise AttemptFailedError("; ".join(away.values()))
        self.away.update(away)
        for client in away:
            self.rounds.grid.bar(client, "it has not taken the samples that are to be forgotten out of its training")

    def _may_hold(self, client: str) -> bool:
        """Whether a client that fails may hold a sample: it has said of which classes it has any."""
        counts = self.rounds.grid.roster.class_samples.get(client)
        classes = [item for request in self.requests for item in getattr(request.scope, "classes", ())]
        return counts is None or not classes or any(counts[item] for item in classes)

    def _check_holders(self) -> None:
        without = [request for request in self.requests if not self.holders.get(request.id)]
        roster = self.rounds.grid.roster
        away = set(self.away) | roster.known - roster.leaving - self.rounds.grid.connected()
        if without and away and self.order.scope == "class":
            reason = (
                f"no reachable client holds a sample of {without[0].target()}; clients {', '.join(sorted(away))} may"
            )
            raise HoldersAwayError(reason, tuple(request.id for request in without))
        for request in without:
            self.refused[request.id] = f"no reachable client holds a sample of {request.target()}"
        if not self.requests:
            raise RequestRejectedError("; ".join(dict.fromkeys(self.refused.values())))

    def max_update_norm(self) -> float:
        """The bound on a holder's change; where nothing was trained here yet, one repair round tells it."""
        bound = self.rounds.plan.max_update_norm or self.served.update_norm
        if bound is None:
            # Holders may know of the request from before a crash: in both cases they train without its samples.
            self._ask_holders(None)
            self.step -= 1
            norms = self._repaired(self.served.arrays, ())[1]
            if not norms:
                raise AttemptFailedError("no client trained, so nothing bounds the holder's change")
            bound = self.served.update_norm = median(norms)
        return bound

    def _widest_norm(self) -> float | None:
        """The bound on any other change, where training has told what is usual."""
        usual = self.served.update_norm
        factor = self.rounds.plan.max_norm_factor if self.rounds.trusts_clients else 1.0
        return None if usual is None else usual * factor

    def _repaired(self, base: Arrays, guarded: tuple[tuple[str, int], ...]) -> tuple[Arrays, list[float]]:
        self.served.repair_rounds += 1
        number = self.served.repair_rounds
        config = ConfigRecord({**self.served.train_config, **self.rounds.plan.repair_config})
        local = self.rounds.repair(base, guarded, config, number, self.served.arrived)
        return self._aggregated(base, local, "repair", number), norms_of(local, base)

    def _aggregated(self, base: Arrays, local: LocalModels, purpose: str, number: int) -> Arrays:
        try:
            return self.rounds.aggregate(base, local, purpose, number, self._widest_norm())
        except (TooFewRepliesError, AggregationFailedError) as error:
            raise AttemptFailedError(str(error)) from error


def median(values: Sequence[float]) -> float:
    """Middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
