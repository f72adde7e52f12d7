"""A federation whose gate looks at figures of audits: what hides a class is refused, what forgets it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from federation import FAST_PLAN, SETTINGS, digits_of, initial_arrays, make_federation, small_model

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.gate import Bound, Gate, HowKnown, Thresholds
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.local import LocalPlan, LocalSamples, LocalUnlearning
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.outcomes import RequestOutcome
from fed_unlearn.training import train_locally


def bounded(**figures: Bound) -> Gate:
    return Gate(
        class_thresholds=Thresholds(
            max_forget_accuracy=0.05, max_retain_drop=0.1, max_total_retain_drop=0.1, figures=figures
        )
    )


def served(folder: Path, request: ForgetRequest, gate: Gate) -> RequestOutcome:
    federation = make_federation(folder)
    strategy = federation.strategy(plan=FAST_PLAN, gate=gate)
    strategy.start(federation.grid, initial_arrays=initial_arrays(), num_rounds=4)
    strategy.submit(request)
    [outcome] = strategy.start(federation.grid, num_rounds=0).requests
    return outcome


def test_a_mask_is_refused_by_name_of_the_figure(tmp_path: Path) -> None:
    gate = Gate(max_repair_rounds=0, max_attempts=1)
    outcome = served(tmp_path, ForgetRequest.for_class(3, method="mask-output"), gate)
    assert outcome.status is Status.FAILED
    assert outcome.reason is not None and outcome.reason.startswith("recall_without_bias ")


def test_an_honest_request_passes_the_same_gate_and_its_figures_are_told(tmp_path: Path) -> None:
    outcome = served(tmp_path, ForgetRequest.for_class(3), Gate())
    assert (outcome.status, outcome.evidence) == (Status.COMMITTED, HowKnown.MEASURED)
    assert outcome.before is not None and outcome.after is not None
    before, after = (figures.extra["recall_without_bias"] for figures in (outcome.before, outcome.after))
    assert before is not None and before > 0.8 and after == 0.0


def test_a_bound_on_any_figure_is_looked_at(tmp_path: Path) -> None:
    outcome = served(tmp_path, ForgetRequest.for_class(3), bounded(logit_auc=Bound(maximum=0.01)))
    assert outcome.status is Status.FAILED
    assert outcome.reason is not None and " is over 0.010" in outcome.reason


def test_a_figure_that_there_is_not_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    for bound, words in (
        ({"logit_auk": Bound(maximum=0.9)}, "did you mean logit_auc"),
        ({"logit_auc": Bound(beside="oracle")}, "after the requests"),
    ):
        with pytest.raises(InvalidParameterError, match=words):
            federation.strategy(gate=bounded(**bound), name=words)


def test_on_one_machine_bounds_can_be_those_of_oracles() -> None:
    data = digits_of(0, clients=1, size=500)
    train, is_three = data.train, data.train.labels == 3
    retained = train.subset((~is_three).nonzero().flatten())

    def trained(samples: object, seed: int) -> torch.nn.Module:
        model = small_model()
        for _ in range(6):
            train_locally(model, samples, SETTINGS, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
        return model

    oracles = tuple(trained(retained, seed) for seed in range(3))
    samples = LocalSamples(
        forget=train.subset(is_three.nonzero().flatten()), retained=retained, validation=data.validation
    )
    gate = bounded(recall_without_bias=Bound(beside="oracle"))
    plan = LocalPlan(parameters=FAST_PLAN.parameters, repair=SETTINGS, escalation={})
    model = trained(train, 0)

    def outcome(method: str, *given: torch.nn.Module) -> object:
        request = ForgetRequest.for_class(3, id="r", method=method)
        return LocalUnlearning(plan, gate).serve(model, request, samples, oracles=given)

    assert outcome("boundary-shrink", *oracles).committed  # type: ignore[attr-defined]
    masked = outcome("mask-output", *oracles)
    # Repair keeps a mask, and an oracle never names the class.
    assert not masked.committed  # type: ignore[attr-defined]
    assert "prediction interval of retrain oracles" in masked.reason  # type: ignore[attr-defined]
    with pytest.raises(InvalidParameterError, match="and 2 were given; expected at least 3"):
        outcome("boundary-shrink", *oracles[:2])
