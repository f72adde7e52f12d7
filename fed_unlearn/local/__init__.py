"""Requests served on one machine, without a federation: the same turns, repair and gate as for a federation's holder.

A request that is served here ends with the same arrays, bit for bit, as one that a federation of a single client serves
by the same settings and seed, unless repair had to be made again in smaller steps (see
:mod:`fed_unlearn.local.gentle_training`), which a federation does not do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.base import Figures
from fed_unlearn.audits.predicted import FEWEST
from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.gate import Decision, Gate, HowKnown, Verdict
from fed_unlearn.local.attempt import LocalAttempt
from fed_unlearn.local.plan import LocalPlan
from fed_unlearn.local.samples import LocalSamples, RetainedFrom
from fed_unlearn.methods.base import Method
from fed_unlearn.output_rows import ROWS_AS_TRAINED
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.requests import ClassScope, ForgetRequest
from fed_unlearn.scopes import refuse_pairs

__all__ = ["CLIENT", "LocalOutcome", "LocalPlan", "LocalSamples", "LocalUnlearning"]

logger = logging.getLogger("fed_unlearn.local")

CLIENT = "0"
"""Name of the holder in seeds, where a request names none: that of the only client of a federation."""


@dataclass(frozen=True, kw_only=True)
class LocalOutcome:
    """How one request went.

    Attributes
    ----------
    request : ForgetRequest
    method : str
        Name of the method that made the last candidate: of a committed one, the method that served the request.
    committed : bool
        Whether the gate accepted; the model is the one that was given where it did not.
    model : nn.Module or None
        A copy of the model that was given, unlearned; the given one itself where the gate did not accept. None where
        whoever served the request does not keep it.
    attempts, repair_rounds : int
        Attempts made by all methods, and repair rounds of the last one.
    reason : str or None
        What the last candidate failed, in words; of a committed one, that its output rows stay as they were trained.
    before, after : Figures
        Figures of the model that was given, and of the last candidate.
    seconds : float
        Wall time in seconds.
    passes : PassCounter
        Samples pushed forward and backward, audits included.
    evidence : HowKnown or None
        How the forgetting is known; None where the request was not committed.
    goal : str or None
        What the method wants of the samples, where it has such a choice.
    as_trained : Figures or None
        Figures of the candidate before its output rows were set, where they were, for a class request.
    escalated_from : tuple of str
        Names of the methods that come before ``method`` in the plan, in their order: each has failed, or does not work
        on the inputs of the samples.
    retained_from : {"given", "seen", "memory"}
        Where the retained samples came from, as :class:`LocalSamples` has it.
    judged_by : {"validation", "training"}
        Whether the gate counted what is retained on validation samples. Without any it counts on retained samples that
        the model was trained on, which flatters the model.
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
    evidence: HowKnown | None = None
    goal: str | None = None
    as_trained: Figures | None = None
    escalated_from: tuple[str, ...] = ()
    retained_from: RetainedFrom = "given"
    judged_by: Literal["validation", "training"] = "validation"


class LocalUnlearning:
    """Serves one request after another on one machine.

    Parameters
    ----------
    plan : LocalPlan, optional
    gate : Gate, optional
        Accepts a candidate, has it mended, or has the next method of the plan's ``escalation`` tried.
    seed : int, default 0
    """

    def __init__(self, plan: LocalPlan | None = None, gate: Gate | None = None, seed: int = 0) -> None:
        self.plan = plan or LocalPlan()
        self.gate = gate or Gate()
        if problems := self.gate.validate():
            raise InvalidParameterError(*problems)
        self.seed = seed
        self.forgotten_classes: frozenset[int] = frozenset()
        self._first: ClassCounts | None = None
        self._repairs = 0

    def note_training(self) -> None:
        """The model was trained: what it may lose over all requests counts from here."""
        self._first = None

    def serve(
        self,
        model: nn.Module,
        request: ForgetRequest,
        samples: LocalSamples,
        *,
        oracles: Sequence[nn.Module] = (),
        trained_at: float | None = None,
    ) -> LocalOutcome:
        """Unlearn, repair and judge, until the gate accepts or gives up.

        Parameters
        ----------
        model : nn.Module
            Maps inputs as ``samples`` holds them, whatever their domain, to logits; never changed.
        request : ForgetRequest
            The request. It has an id, which is part of the seed.
        samples : LocalSamples
        oracles : sequence of nn.Module
            Models retrained without the samples, at least three for bounds of the gate that are ``beside="oracle"``.
        trained_at : float, optional
            Learning rate that the model was trained at by SGD, greater than 0. Repair that the gate has not asked for
            does not exceed it, unless the plan sets a learning rate.

        Raises
        ------
        InvalidParameterError
            If the request names a method or parameters that cannot be, or a bound is beside oracles and fewer than
            three are given.
        InvalidDataError
            If the samples do not fit the model, or the method needs some that are not there.
        InvalidRequestError
            If the request names classes of single tasks: labels are those of one task here.
        """
        started = time.perf_counter()
        self._check_oracles(request, len(oracles))
        refuse_pairs(request.scope)
        names, methods = self.plan.names_of(request), self.plan.suited_to(request, samples.forget.domain)
        classes = request.scope.classes if isinstance(request.scope, ClassScope) else ()
        settings: dict[str, Any] = {
            "plan": self.plan,
            "gate": self.gate,
            "request": request,
            "goal": self.plan.method_of(request)[2],
            "samples": samples,
            "original": model,
            "first": self._first,
            "forgotten": self.forgotten_classes,
            "left_out": self.forgotten_classes.union(samples.absent_classes, classes),
            "client": getattr(request.scope, "client", CLIENT),
            "seed": self.seed,
            "oracles": tuple(oracles),
            "trained_at": trained_at,
        }
        attempt, decision, passes = self._try_all(request, methods, settings)
        committed = decision.verdict is Verdict.ACCEPT
        if committed:
            self._first = self._first or attempt.counts_before
            self.forgotten_classes = self.forgotten_classes.union(classes)
        name = methods[-1 - attempt.methods_left][0]
        return LocalOutcome(
            request=request,
            method=name,
            committed=committed,
            model=attempt.candidate if committed else model,
            attempts=attempt.number,
            repair_rounds=attempt.repair_rounds,
            reason=ROWS_AS_TRAINED if committed and attempt.keeps_rows else decision.reason,
            before=attempt.figures(model),
            after=attempt.figures(attempt.candidate),
            as_trained=None if attempt.trained is None else attempt.figures(attempt.trained),
            seconds=time.perf_counter() - started,
            passes=passes,
            evidence=decision.known,
            goal=attempt.stated_goal,
            escalated_from=names[: names.index(name)],
            retained_from=samples.retained_from,
            judged_by="validation" if len(samples.validation) else "training",
        )

    def _try_all(
        self, request: ForgetRequest, methods: Sequence[tuple[str, Method, str | None]], settings: Mapping[str, Any]
    ) -> tuple[LocalAttempt, Decision, PassCounter]:
        """Try one method after another, each with stronger settings, until the gate accepts or none is left.

        Returns the last attempt, what was decided on it, and the passes of all attempts.
        """
        passes, number = PassCounter(), 0
        for index, (name, method, _) in enumerate(methods):
            for tries in range(1, self.gate.max_attempts + 1):
                number += 1
                attempt = LocalAttempt(
                    **settings,
                    number=number,
                    tries=tries,
                    methods_left=len(methods) - 1 - index,
                    is_escalated=index > 0,
                    method=method,
                    repairs_before=self._repairs,
                )
                decision = attempt.run()
                self._repairs += attempt.repair_rounds
                passes.add(attempt.passes.forward, attempt.passes.backward)
                if decision.verdict is not Verdict.RETRY:
                    break
                method = method.stronger()
            if decision.verdict is not Verdict.ESCALATE:
                break
            logger.info("request %s: %s failed: %s; the next method is tried", request.id, name, decision.reason)
        return attempt, decision, passes

    def _check_oracles(self, request: ForgetRequest, given: int) -> None:
        scope = request.scope.kind
        groups = (thresholds for of, thresholds in self.gate.all_thresholds().values() if of == scope)
        beside = [name for group in groups for name, bound in group.figures.items() if bound.beside == "oracle"]
        if beside and given < FEWEST:
            raise InvalidParameterError(
                f"gate: {', '.join(beside)} beside oracles, and {given} were given; expected at least {FEWEST}: pass"
                " oracles=(...) to serve, or give numbers as bounds"
            )
