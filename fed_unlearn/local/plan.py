"""How requests are served on one machine where they do not say so themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from fed_unlearn.data.domain import InputDomain
from fed_unlearn.errors import InvalidParameterError, problems_of
from fed_unlearn.methods import Method, available, create, method_class
from fed_unlearn.plan import Plan
from fed_unlearn.requests import SCOPES, ForgetRequest, ParameterValue, ScopeKind
from fed_unlearn.settings import takes_flat_keywords
from fed_unlearn.training import TrainingSettings

ESCALATION: Mapping[ScopeKind, tuple[str, ...]] = {"class": ("reset-and-relearn",)}
"""Methods that are tried by default where a request's own method has failed, by scope."""


@takes_flat_keywords
@dataclass(frozen=True, kw_only=True)
class LocalPlan(Plan):
    """The plan of one machine.

    The fields of a group may be given by their flat names too: ``repair_rounds=2`` for ``repair=Repair(rounds=2)``, and
    ``repair=TrainingSettings(...)`` for ``repair=Repair(config=...)``.

    Attributes
    ----------
    class_method, sample_method, client_method : str
        Method of requests that name none, by scope. A client's samples are unlearned as single samples are.
    parameters : mapping of str to mapping
        Hyper-parameters by method name; a request's own win.
    repair : Repair
        Training after unlearning; ``config`` has the ``TrainingSettings`` that differ from their defaults.
    holder_turn : HolderTurn
        One turn of unlearning single samples.
    require_measured : tuple of str
        Scopes whose requests are committed only where the forgetting is ``measured``.
    escalation : mapping of str to tuple of str
        Methods that are tried in turn where the gate has refused all attempts of a request's own method, by scope. By
        default ``"reset-and-relearn"`` for classes. A method that a request or a plug-in names is followed by
        them too. ``{}`` for none. Where a request names no method, the first one that works on the inputs of its
        samples is tried first.

    Raises
    ------
    InvalidParameterError
        Naming every value that is out of bounds, and every method that is unknown, does not take its parameters or does
        not serve its scope.
    """

    client_method: str = "instance-wise"
    escalation: Mapping[ScopeKind, tuple[str, ...]] = field(default_factory=lambda: dict(ESCALATION))

    def __post_init__(self) -> None:
        if problems := self.validate():
            raise InvalidParameterError(*problems)

    def validate(self) -> list[str]:
        """Everything that is wrong with the plan, one line each; empty where it can serve requests of every scope."""
        problems = [*self._out_of_bounds(), *problems_of(self.repair_training)]
        for scope in SCOPES:
            problems += problems_of(self._check_serves, self.default_method(scope), scope)
        for method, parameters in self.parameters.items():
            problems += problems_of(create, method, **parameters)
        for scope, names in self.escalation.items():
            for name in names:
                problems += problems_of(self._check_serves, name, scope)
        return problems

    def repair_training(self) -> TrainingSettings:
        """The training settings of repair.

        Raises
        ------
        InvalidParameterError
            If ``repair.config`` has a setting that there is not, or a value out of range.
        """
        given: dict[str, Any] = {name.replace("-", "_"): value for name, value in self.repair.config.items()}
        known = [item.name for item in fields(TrainingSettings)]
        if unknown := [name for name in given if name not in known]:
            raise InvalidParameterError(
                f"unlearning: repair.config: {', '.join(unknown)} unknown; expected some of {', '.join(known)}"
            )
        return TrainingSettings(**given)

    def method_of(self, request: ForgetRequest) -> tuple[str, Method, str | None]:
        """Name of the method that serves a request, the method, and its goal where it has one.

        Raises
        ------
        InvalidParameterError
            If the method or one of its parameters is unknown or out of range, or it does not serve the scope.
        """
        scope = request.scope.kind
        name = request.method or self.default_method(scope)
        self._check_serves(name, scope)
        parameters: dict[str, ParameterValue] = {**self.parameters.get(name, {}), **request.parameters}
        has_goal = "goal" in getattr(method_class(name), "__dataclass_fields__", {})
        if scope == "client" and has_goal:
            parameters.setdefault("goal", "indistinguishable")
        method = create(name, **parameters)
        return name, method, str(parameters["goal"]) if "goal" in parameters else None

    def methods_of(self, request: ForgetRequest) -> Iterator[tuple[str, Method, str | None]]:
        """Yield what :meth:`method_of` returns, for the request's own method and for those that it escalates to.

        Parameters
        ----------
        request : ForgetRequest
            The request. Its hyper-parameters are those of its own method.
        """
        scope = request.scope.kind
        own = request.method or self.default_method(scope)
        for name in self.names_of(request):
            parameters = request.parameters if name == own else {}
            yield self.method_of(replace(request, method=name, parameters=parameters))

    def suited_to(self, request: ForgetRequest, domain: InputDomain) -> list[tuple[str, Method, str | None]]:
        """Return those of :meth:`methods_of` that work on the inputs of the request's samples.

        Parameters
        ----------
        request : ForgetRequest
            The request. A method that it names is returned in any case.
        domain : InputDomain
            What the inputs are.

        Returns
        -------
        list of tuple
            The plan's own method alone where none works.
        """
        first, *later = self.methods_of(request)
        suited = [each for each in later if each[1].works_on(domain)]
        return suited if suited and request.method is None and not first[1].works_on(domain) else [first, *suited]

    def names_of(self, request: ForgetRequest) -> tuple[str, ...]:
        """Names of the methods that serve a request, each tried where those before it have failed."""
        scope = request.scope.kind
        return tuple(dict.fromkeys((request.method or self.default_method(scope), *self.escalation.get(scope, ()))))

    @staticmethod
    def _check_serves(name: str, scope: ScopeKind) -> None:
        expected = [known for known, cls in available().items() if _serves(cls, scope)]
        scopes = method_class(name, expected=expected).scopes
        if name not in expected:
            raise InvalidParameterError(
                f"{name!r} does not serve {scope} requests; it serves {' and '.join(sorted(scopes))} requests"
            )


def _serves(method: type[Method], scope: ScopeKind) -> bool:
    return scope in method.scopes or (scope == "client" and "sample" in method.scopes)
