"""One try at a request on one machine: turns of unlearning, guarded repair, and what the gate makes of the result."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from fed_unlearn.arrays import Arrays, add_clipped, all_finite, as_array, difference, hardly_differs, norm
from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.asked import extra_audits, measured_of
from fed_unlearn.audits.base import Figures, Measured
from fed_unlearn.audits.counted_figures import figures_of
from fed_unlearn.audits.counts import RequestCounts
from fed_unlearn.audits.pooled import evidence_of
from fed_unlearn.audits.predicted import predicted_figures
from fed_unlearn.audits.scores import PASSES_TO_FIND
from fed_unlearn.errors import EmptySetError, InvalidDataError, InvalidModelError, UnlearningDivergedError
from fed_unlearn.evidence import NOTHING_KEPT
from fed_unlearn.gate import Decision, Evidence, Gate, Verdict
from fed_unlearn.gate.bounds import ABOVE_REFERENCE
from fed_unlearn.holder import Guard, unlearn_samples
from fed_unlearn.local.counting import Counting
from fed_unlearn.local.output_rows import with_rows_set
from fed_unlearn.local.plan import LocalPlan
from fed_unlearn.local.repairs import Repairs
from fed_unlearn.local.samples import LocalSamples
from fed_unlearn.methods.base import Method
from fed_unlearn.methods.parts.labels import guard_labels_of
from fed_unlearn.model_copies import copied
from fed_unlearn.pass_counter import PassCounter
from fed_unlearn.requests import ClassScope, ForgetRequest


@dataclass(kw_only=True)
class LocalAttempt:
    """One try; ``candidate`` is its model so far, a copy of ``original``.

    Attributes
    ----------
    plan, gate, request, goal, samples
        What is tried, as :class:`fed_unlearn.local.LocalUnlearning` has it.
    original : nn.Module
        The model before this request.
    first : ClassCounts or None
        Counts of the model before the first request, on the samples that the gate judges by; None where this is the
        first.
    forgotten : frozenset of int
        Classes of earlier requests.
    left_out : frozenset of int
        Classes that are no part of what is retained: forgotten, asked for, or not there yet.
    client : str
    seed : int
    number : int
        Number of the attempt, counted from 1 over all methods.
    tries : int
        Number of the attempt, counted from 1 among those by the same method.
    methods_left : int
        Methods that may still be tried after this one.
    is_escalated : bool
        Whether other methods have failed before. A method that then does not suit the samples or the model fails, too.
    method : Method
    repairs_before : int
        Repair rounds of attempts before this one: they are numbered through, as parts of the seed.
    oracles : tuple of nn.Module
        Models retrained without the samples, for bounds beside them.
    trained : nn.Module or None
        The candidate before its output rows were set; None where they were not.
    keeps_rows : bool
        Whether they stay as they were trained, since the model has no plain ones.
    """

    plan: LocalPlan
    gate: Gate
    request: ForgetRequest
    goal: str | None
    samples: LocalSamples
    original: nn.Module
    first: ClassCounts | None
    forgotten: frozenset[int]
    left_out: frozenset[int]
    client: str
    seed: int
    number: int
    tries: int
    methods_left: int
    is_escalated: bool
    method: Method
    repairs_before: int
    oracles: tuple[nn.Module, ...] = ()
    trained_at: float | None = None
    changed: bool = False
    trained: nn.Module | None = None
    keeps_rows: bool = False
    passes: PassCounter = field(default_factory=PassCounter)
    _step: int = 0
    _guard: Guard | None = None
    _limits: Tensor | None = None

    def __post_init__(self) -> None:
        self.candidate = copied(self.original)
        self._repairs = Repairs(
            plan=self.plan,
            samples=self.samples,
            seed=self.seed,
            client=self.client,
            request_id=self.request.id,
            before=self.repairs_before,
            trained_at=self.trained_at,
            passes=self.passes,
        )
        self._counting = Counting(
            request=self.request,
            samples=self.samples,
            original=self.original,
            left_out=self.left_out,
            client=self.client,
            seed=self.seed,
            passes=self.passes,
        )

    def run(self) -> Decision:
        """Unlearn and repair until the gate accepts, has another attempt or method tried, or gives up."""
        try:
            self._unlearn()
            for _ in range(self.plan.repair.rounds if self._is_class else self.plan.repair.alternations):
                self._repair()
            while (decision := self._decide_twice()).verdict is Verdict.REPAIR:
                self._repair(asked=True)
        except UnlearningDivergedError as error:
            return self._without_candidate(str(error), may_retry=self.tries < self.gate.max_attempts)
        except (EmptySetError, InvalidDataError, InvalidModelError) as error:
            if not self.is_escalated:
                raise
            return self._without_candidate(str(error), may_retry=False)
        return decision

    @property
    def repair_rounds(self) -> int:
        """Number of repair rounds so far."""
        return self._repairs.rounds

    def figures(self, model: nn.Module) -> Figures:
        """The figures of a model for this request."""
        counting, test = self._counting, self.samples.test
        return figures_of(
            self._original_counts
            if model is self.original
            else counting.request_counts(model, self._all_audits, self._limits),
            counting.classes,
            left_out=self.left_out,
            retain=counting.class_counts(model, self.samples.retained),
            test=None if test is None else counting.class_counts(model, test),
        )

    @property
    def stated_goal(self) -> str | None:
        """What the method wants of the samples, its default included; None where it has no such choice."""
        goal = getattr(self.method, "goal", None)
        return None if goal is None else str(goal)

    def _without_candidate(self, reason: str, *, may_retry: bool) -> Decision:
        """What follows where the method came to no candidate."""
        self.candidate = copied(self.original)
        another = Verdict.ESCALATE if self.methods_left else Verdict.ROLL_BACK
        return Decision(Verdict.RETRY if may_retry else another, (reason,))

    # ------------------------------------------------------------------ turns

    @property
    def _is_class(self) -> bool:
        return isinstance(self.request.scope, ClassScope)

    def _unlearn(self) -> None:
        """For a class what the method makes of the model; for samples its change, clipped, until nothing is cut off."""
        if self._is_class:
            self.candidate.load_state_dict(self._turn())
            return
        bound = self.plan.holder_turn.max_norm or float("inf")
        for _ in range(self.plan.holder_turn.max_steps):
            base = _arrays(self.candidate.state_dict())
            change = difference(_arrays(self._turn()), base)
            moved = add_clipped(base, [change], bound)
            self.candidate.load_state_dict({name: torch.from_numpy(value) for name, value in moved.items()})
            if norm(change) <= bound:
                return

    def _turn(self) -> dict[str, Tensor]:
        """The weights that the method makes of the candidate's; what it taught the samples is kept for repair."""
        outcome = unlearn_samples(
            self.method,
            self.candidate,
            self.samples.forget,
            self.samples.retained,
            self.samples.validation,
            excluded_classes=sorted(self.left_out),
            seed=(self.seed, "unlearn", self.request.id, self.number, self._step, self.client),
        )
        self._step += 1
        if outcome.standing is not None and outcome.standing.by == "reference":
            self._limits = outcome.standing.limits
        arrays = _arrays(outcome.model.state_dict())
        self.changed = self.changed or not hardly_differs(arrays, _arrays(self.candidate.state_dict()))
        self.passes.add(outcome.forward_passes, outcome.backward_passes)
        if not self.method.is_control:
            labels = guard_labels_of(outcome, self.samples.forget, self.left_out)
            self._guard = Guard(self.samples.forget, labels)
        return outcome.model.state_dict()

    def _repair(self, *, asked: bool = False) -> None:
        """One repair round; for samples another turn follows, since training brings them back."""
        guards = [] if self._guard is None else [self._guard]
        self._repairs.train(self.candidate, guards, asked=asked, gently=self._is_class)
        if not self._is_class:
            self._unlearn()

    # ------------------------------------------------------------------ what the gate looks at

    def _decide_twice(self) -> Decision:
        """Decide on the candidate as it was trained, and once more with its output rows set, as it is committed."""
        decision = self._decide()
        self.trained = None
        if decision.verdict is not Verdict.ACCEPT or not self._is_class or self.method.is_exact:
            return decision
        with_rows = with_rows_set(
            self.candidate, self.samples.forget, {*self._counting.classes, *self.forgotten}, self.left_out
        )
        self.passes.add(forward=PASSES_TO_FIND)
        self.keeps_rows = with_rows is None
        if with_rows is None:
            return decision
        self.trained, self.candidate = self.candidate, with_rows
        if (committed := self._decide()).verdict is Verdict.REPAIR:
            self.candidate, self.trained = self.trained, None
        return committed

    def _decide(self) -> Decision:
        validation = self._counting.class_counts(self.candidate, self._counting.judged_by)
        before, first = self.counts_before, self.first or self.counts_before
        arrays = _arrays(self.candidate.state_dict())
        is_sample = self.request.scope.kind == "sample"
        kept = Evidence(
            forget_accuracy=None,
            retain_accuracy=validation.accuracy(without=self.left_out),
            accepted_retain_accuracy=before.accuracy(without=self.left_out),
            first_retain_accuracy=first.accuracy(without=self.left_out),
            finite=all_finite(arrays),
            repair_rounds=self.repair_rounds,
            attempt=self.tries,
            changed=self.changed and (is_sample or not hardly_differs(arrays, _arrays(self.original.state_dict()))),
        )
        scope = self.request.scope.kind
        audits = [*self.gate.audits(scope), *(() if self._limits is None else (ABOVE_REFERENCE,))]
        counts = self._counting.request_counts(self.candidate, dict.fromkeys(audits), self._limits)
        evidence = evidence_of(kept, scope, counts, validation, self.methods_left)
        return self.gate.decide(
            scope,
            replace(evidence, oracle_figures=self.oracle_figures),
            self.goal,
            before=self.evidence_before,
            require_measured=scope in self.plan.require_measured,
        )

    @cached_property
    def evidence_before(self) -> Evidence:
        """What the model before this request shows of its samples."""
        return evidence_of(NOTHING_KEPT, self.request.scope.kind, self._original_counts, self.counts_before)

    @cached_property
    def oracle_figures(self) -> dict[str, Measured]:
        """Mean and 95 % prediction interval of what oracles show of the samples; read at no attempt's cost."""
        audits = self.gate.audits(self.request.scope.kind)
        counted = [self._counts_for_nothing(oracle, audits).extra for oracle in self.oracles]
        return predicted_figures([measured_of(extra, for_gate=True) for extra in counted])

    @cached_property
    def _original_counts(self) -> RequestCounts:
        """What the model before this request shows of its samples; counted once, and at no attempt's cost."""
        return self._counts_for_nothing(self.original, self._all_audits)

    def _counts_for_nothing(self, model: nn.Module, audits: Collection[str]) -> RequestCounts:
        return replace(self._counting, passes=PassCounter()).request_counts(model, audits, self._limits)

    @property
    def _all_audits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*extra_audits(), *self.gate.audits(self.request.scope.kind)]))

    @cached_property
    def counts_before(self) -> ClassCounts:
        """What the gate judges by, counted for the model before this request."""
        return self._counting.class_counts(self.original, self._counting.judged_by)


def _arrays(state: dict[str, Tensor]) -> Arrays:
    return {name: as_array(value).copy() for name, value in state.items()}
