"""Requests served on one machine, without a federation: the same turns, repair and gate as for a federation's holder.

A request that is served here ends with the same arrays, bit for bit, as one that a federation of a single client serves
by the same settings and seed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.figures import Figures
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.gate import Gate, Verdict
from fed_unlearn.local.attempt import LocalAttempt, LocalSamples
from fed_unlearn.methods import Method, create, method_class
from fed_unlearn.methods.base import PassCounter
from fed_unlearn.requests import ClassScope, ForgetRequest, ParameterValue, ScopeKind
from fed_unlearn.training import TrainingSettings

CLIENT = "0"
"""Name of the holder in seeds, where a request names none: that of the only client of a federation."""


@dataclass(frozen=True, kw_only=True)
class LocalPlan:
    """How requests are served where they do not say so themselves.

    Attributes
    ----------
    class_method, sample_method, client_method : str
        Method of requests that name none, by scope. A client's samples are unlearned as single samples are.
    parameters : mapping of str to mapping
        Hyper-parameters by method name; a request's own win.
    repair : TrainingSettings
        Of guarded repair.
    repair_rounds : int
        Guarded repair rounds of a class request before the gate looks, at least 0.
    alternations : int
        For other requests: turns of repair and unlearning before the gate looks, after the first turn of unlearning.
    guard_weight : int
        How often each guarded sample stands among the samples of repair, at least 1.
    guard_margin : float
        How far repair keeps the old class of guarded samples below the others, in logits; at least 0.
    max_steps : int
        At most so many turns of unlearning in a row, each clipped to the norm below; at least 1.
    max_update_norm : float or None
        Bound on what one turn for samples changes in the model; None for none.
    """

    class_method: str = "boundary-shrink"
    sample_method: str = "instance-wise"
    client_method: str = "instance-wise"
    parameters: Mapping[str, Mapping[str, ParameterValue]] = field(default_factory=dict)
    repair: TrainingSettings = field(default_factory=TrainingSettings)
    repair_rounds: int = 1
    alternations: int = 0
    guard_weight: int = 1
    guard_margin: float = 8.0
    max_steps: int = 12
    max_update_norm: float | None = None

    def __post_init__(self) -> None:
        bounds = {
            "repair_rounds": self.repair_rounds >= 0,
            "alternations": self.alternations >= 0,
            "guard_weight": self.guard_weight >= 1,
            "guard_margin": self.guard_margin >= 0,
            "max_steps": self.max_steps >= 1,
            "max_update_norm": self.max_update_norm is None or self.max_update_norm > 0,
        }
        for name, holds in bounds.items():
            if not holds:
                raise InvalidParameterError(f"unlearning: {name} = {getattr(self, name)!r} is out of range")
        scopes: tuple[ScopeKind, ...] = ("class", "sample", "client")
        for scope in scopes:
            self._check_serves(self._default(scope), scope)
        for method, parameters in self.parameters.items():
            create(method, **parameters)

    def method_of(self, request: ForgetRequest) -> tuple[str, Method, str | None]:
        """Name of the method that serves a request, the method, and its goal where it has one.

        Raises
        ------
        InvalidParameterError
            If the method or one of its parameters is unknown or out of range, or it does not serve the scope.
        """
        scope = request.scope.kind
        name = request.method or self._default(scope)
        self._check_serves(name, scope)
        parameters: dict[str, ParameterValue] = {**self.parameters.get(name, {}), **request.parameters}
        has_goal = "goal" in getattr(method_class(name), "__dataclass_fields__", {})
        if scope == "client" and has_goal:
            parameters.setdefault("goal", "indistinguishable")
        method = create(name, **parameters)
        return name, method, str(parameters["goal"]) if "goal" in parameters else None

    def _default(self, scope: ScopeKind) -> str:
        return {"class": self.class_method, "sample": self.sample_method, "client": self.client_method}[scope]

    @staticmethod
    def _check_serves(name: str, scope: ScopeKind) -> None:
        scopes = set(method_class(name).scopes)
        if scope not in scopes and not (scope == "client" and "sample" in scopes):
            raise InvalidParameterError(
                f"{name!r} does not serve {scope} requests; it serves {' and '.join(sorted(scopes))} requests"
            )


@dataclass(frozen=True, kw_only=True)
class LocalOutcome:
    """How one request went.

    Attributes
    ----------
    request : ForgetRequest
    method : str
    committed : bool
        Whether the gate accepted; the model is the one that was given where it did not.
    model : nn.Module or None
        A copy of the model that was given, unlearned; the given one itself where the gate did not accept. None where
        whoever served the request does not keep it.
    attempts, repair_rounds : int
        Attempts made, and repair rounds of the last one.
    reason : str or None
        What the last candidate failed, in words.
    before, after : Figures
        Of the model that was given, and of the last candidate.
    seconds : float
        Wall time.
    passes : PassCounter
        Samples pushed forward and backward, audits included.
    """

    request: ForgetRequest
    method: str
    committed: bool
    model: nn.Module | None
    attempts: int
    repair_rounds: int
    reason: str | None
    before: Figures
    after: Figures
    seconds: float
    passes: PassCounter


class LocalUnlearning:
    """Serves one request after another on one machine.

    Parameters
    ----------
    plan : LocalPlan, optional
    gate : Gate, optional
        Accepts a candidate or has it mended; there is no other method to escalate to.
    seed : int, default 0
    """

    def __init__(self, plan: LocalPlan | None = None, gate: Gate | None = None, seed: int = 0) -> None:
        self.plan = plan or LocalPlan()
        self.gate = gate or Gate()
        self.seed = seed
        self.forgotten_classes: frozenset[int] = frozenset()
        self._first: ClassCounts | None = None
        self._repairs = 0

    def note_training(self) -> None:
        """The model was trained: what it may lose over all requests counts from here."""
        self._first = None

    def serve(self, model: nn.Module, request: ForgetRequest, samples: LocalSamples) -> LocalOutcome:
        """Unlearn, repair and judge, until the gate accepts or gives up.

        Parameters
        ----------
        model : nn.Module
            Maps float images in [0, 1] to logits; never changed.
        request : ForgetRequest
            With an id: it is part of the seed.
        samples : LocalSamples

        Raises
        ------
        InvalidParameterError
            If the request names a method or parameters that cannot be.
        InvalidDataError
            If the samples do not fit the model, or the method needs some that are not there.
        """
        started = time.perf_counter()
        name, method, goal = self.plan.method_of(request)
        classes = request.scope.classes if isinstance(request.scope, ClassScope) else ()
        settings: dict[str, Any] = {
            "plan": self.plan,
            "gate": self.gate,
            "request": request,
            "goal": goal,
            "samples": samples,
            "original": model,
            "first": self._first,
            "left_out": self.forgotten_classes.union(samples.absent_classes, classes),
            "client": getattr(request.scope, "client", CLIENT),
            "seed": self.seed,
        }
        passes = PassCounter()
        for number in range(1, self.gate.max_attempts + 1):
            attempt = LocalAttempt(**settings, number=number, method=method, repairs_before=self._repairs)
            decision = attempt.run()
            self._repairs += attempt.repair_rounds
            passes.add(attempt.passes.forward, attempt.passes.backward)
            if decision.verdict is not Verdict.RETRY:
                break
            method = method.stronger()
        committed = decision.verdict is Verdict.ACCEPT
        if committed:
            self._first = self._first or attempt.counts_before
            self.forgotten_classes = self.forgotten_classes.union(classes)
        return LocalOutcome(
            request=request,
            method=name,
            committed=committed,
            model=attempt.candidate if committed else model,
            attempts=number,
            repair_rounds=attempt.repair_rounds,
            reason=decision.reason,
            before=attempt.figures(model),
            after=attempt.figures(attempt.candidate),
            seconds=time.perf_counter() - started,
            passes=passes,
        )
