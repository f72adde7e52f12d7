"""How requests are served where they do not say so themselves."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.serverapp.strategy import Strategy

from fed_unlearn.errors import InvalidParameterError, problems_of
from fed_unlearn.plan import FederatedPlan, History, HolderTurn, Holds, OwnerLimits, Repair, RequestBound, Retry
from fed_unlearn.requests import SCOPES, ForgetRequest, ParameterValue
from fed_unlearn.settings import takes_flat_keywords
from fed_unlearn.strategies.methods_by_name import (
    check_serves,
    check_suits,
    is_server_method,
    needs_history,
    new_method,
)

__all__ = ["History", "HolderTurn", "Holds", "OwnerLimits", "Repair", "RequestBound", "Retry", "UnlearningPlan"]


@takes_flat_keywords
@dataclass(frozen=True, kw_only=True)
class UnlearningPlan(FederatedPlan):
    """How requests are served in a federation where they do not say so themselves.

    The fields of a group may be given by their flat names too: ``repair_rounds=2`` for ``repair=Repair(rounds=2)``.

    Attributes
    ----------
    class_method, sample_method, client_method : str
        Method of requests that name none, by scope.
    escalation : mapping of str to tuple of str
        Methods that are tried after the request's own has failed, in order, by scope (``"class"``, ``"sample"``,
        ``"client"``); ``"retrain"`` may be the last.
    parameters : mapping of str to mapping
        Hyper-parameters by method name; a request's own win.
    repair : Repair
        Rounds of training after unlearning.
    holder_turn : HolderTurn
        What the holder of a sample request does in one turn.
    max_norm_factor : float
        Bound on a client's change in any other round of a request, as a multiple of the median update norm of the last
        training round; at least 1. Longer changes are scaled down to it.
    request_bound : RequestBound
        How far the sample requests of one client may move the model: each, and all between two trainings.
    max_client_share : float
        One client's weight, and its part of what audits count, are at most this share of those of all clients; above
        0, and 1 for any. Of two clients the larger one may have 0.9, and a client that is alone has all.
    require_measured : tuple of str
        Scopes whose requests are committed only where the forgetting is ``measured``: the audits showed the samples
        before, and do not after. A model that was retrained without them does not do by itself.
    share_rounds : bool
        Whether requests that are served alike share their rounds.
    depth : str
        ``"deep"``: requests for classes are served by a reset of the model's last blocks, which are trained anew on
        retained samples, in place of their method and of guarded repair. The parameters are those of
        ``"reset-and-relearn"`` in ``parameters``. ``"shallow"``: by their method and guarded repair.
    holds : Holds
        Which requests wait for approval.
    owners : OwnerLimits
        How much the owner of one client's data may ask for through its node.
    reopen_relapsed : bool
        Whether a request that has relapsed is tried again, once after every training, while its samples are retained.
    history : History
        Training rounds that are kept for methods that replay them; by default none.
    retry : Retry
        How clients that answered with an error are asked again.
    durable_seconds : float
        Seconds since the last write after which training is written to disk again, at the end of a round. What was
        trained since is repeated after a crash.
    retention_days : float
        How long holders may read D_f after the commit, for audits only; 0 for not at all.
    retain_limit, test_limit : int
        Maximum number of retained training samples, and of test samples, of each client that an audit reads; 0 for all.
        One more retained sample is read of each class that is not among them. The figures are then estimates, given
        with their interval and number of samples. Validation samples and those of the request, by which the gate
        judges, are all read.
    relapse_limit : int
        Maximum number of samples of each client that are read of each earlier request to see whether it has relapsed; 0
        for all.
    unlearned_limit : int
        Maximum number of samples of each client and part that are read between unlearning and the planned repair: no
        verdict depends on these figures. 0 for as many as otherwise.

    Raises
    ------
    InvalidParameterError
        Naming every value that is out of bounds, and every method in ``parameters`` or ``escalation`` that is unknown,
        does not take its parameters or does not serve its scope.
    """

    def __post_init__(self) -> None:
        if problems := self._problems():
            raise InvalidParameterError(*problems)

    def validate(self) -> list[str]:
        """Everything that is wrong with the plan, one line each; empty where it can serve requests of every scope."""
        problems, replaying = self._problems(), set[str]()
        for scope in SCOPES:
            own = self.default_method(scope)
            problems += problems_of(check_serves, own, scope)
            replaying |= {name for name in (own, *self.escalation.get(scope, ())) if needs_history(name)}
        if replaying and self.history.every == 0:
            names = " and ".join(sorted(replaying))
            problems.append(f"unlearning: history.every = 0; expected a whole number from 1 for {names}")
        return problems

    def _problems(self) -> list[str]:
        problems = self._out_of_bounds()
        for method, parameters in self.parameters.items():
            problems += problems_of(new_method, method, parameters)
        for scope, methods in self.escalation.items():
            for method in methods:
                problems += problems_of(check_serves, method, scope)
        return problems

    def problems_beside(self, strategy: type[Strategy]) -> list[str]:
        """Methods of the plan that can serve no request where such a strategy trains, one line each.

        Parameters
        ----------
        strategy : type
            Class of the inner strategy.
        """
        names = [*map(self.default_method, SCOPES), *(name for each in self.escalation.values() for name in each)]
        return [problem for name in dict.fromkeys(names) for problem in problems_of(check_suits, name, strategy)]

    def methods_of(self, request: ForgetRequest) -> tuple[str, ...]:
        """Names of the methods that serve a request, each tried when those before it have failed.

        Methods in whose place the last blocks are reset all do the same: only the first of them is named.
        """
        scope = request.scope.kind
        names = dict.fromkeys((request.method or self.default_method(scope), *self.escalation.get(scope, ())))
        replaced = [name for name in names if self.resets(scope, name)]
        return tuple(name for name in names if name not in replaced[1:])

    def resets(self, scope: str, method: str) -> bool:
        """Whether the last blocks are reset and trained anew in place of a method's own step.

        Parameters
        ----------
        scope : str
            Scope of the request.
        method : str
            Name of the method.
        """
        return scope == "class" and self.depth == "deep" and not is_server_method(method)

    def method_of(self, request: ForgetRequest) -> str:
        """Name of the method that serves a request first."""
        return self.methods_of(request)[0]

    def parameters_of(self, request: ForgetRequest, method: str | None = None) -> dict[str, ParameterValue]:
        """Hyper-parameters of a method for a request; the request's own are those of its own method.

        Raises
        ------
        InvalidParameterError
            If the method or one of them is unknown or out of range, or the method does not serve the request's scope.
        """
        first = self.method_of(request)
        method = method or first
        check_serves(method, request.scope.kind)
        parameters = {**self.parameters.get(method, {}), **(request.parameters if method == first else {})}
        if getattr(new_method(method, parameters), "lasting", False) and not self.retention_days:
            raise InvalidParameterError(
                f"{method}: lasting = True was given, and the plan's retention_days is 0: nobody may read the samples"
                " after the commit, to serve the request again; give the plan retention_days"
            )
        return parameters

    def is_lasting(self, request: ForgetRequest) -> bool:
        """Whether a request asks that what was taught of its samples lasts, while they may be read."""
        if not self.retention_days or request.scope.kind != "sample":
            return False
        try:
            return bool(getattr(new_method(self.method_of(request), self.parameters_of(request)), "lasting", False))
        except InvalidParameterError:  # of a request that was served by another plan
            return False
