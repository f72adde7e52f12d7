"""The bytes that a class request is committed with: the forgotten class's output row is the mean of the retained ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_trials import PLAN, Trial, trained
from faulty_grid import Change
from flwr.app import Message

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, same_bits, unpack
from fed_unlearn.gate import Gate, Thresholds
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.methods.base import Method, Outcome
from fed_unlearn.methods.registry import METHODS
from fed_unlearn.output_rows import ROWS_AS_TRAINED, OutputRows
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.context import Event
from fed_unlearn.strategies.outcomes import RequestOutcome

THREE, FIVE = ForgetRequest.for_class(3, id="r1"), ForgetRequest.for_class(5, id="r2")
GATE = Gate(class_thresholds=Thresholds(max_forget_accuracy=0.05, max_retain_drop=None, max_total_retain_drop=None))


def head_of(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = list(arrays)[-2:]
    return arrays[weight], arrays[bias]


def served(trial: Trial, *requests: ForgetRequest) -> tuple[RequestOutcome, Arrays]:
    result = trial.serve(*requests)
    assert result.requests[0].status is Status.COMMITTED, result.requests[0].reason
    return result.requests[0], unpack(result.arrays)


def has_mean_row(arrays: Arrays, index: int, retained: list[int]) -> bool:
    return all(
        np.array_equal(value[index], value[retained].mean(axis=0, dtype=np.float64).astype(np.float32))
        for value in head_of(arrays)
    )


def naming(rows: OutputRows | None) -> Change:
    """Names other arrays as the output layer when a client is identified; none if None."""

    def changed(reply: Message) -> None:
        reply.content.pop("output-layer")
        protocol.write_output_rows(reply, rows)

    return changed


def test_the_committed_row_is_the_mean_of_the_retained_ones(tmp_path: Path) -> None:
    trial = trained(tmp_path)
    first, arrays = served(trial, THREE)
    retained = [index for index in range(10) if index != 3]
    assert has_mean_row(arrays, 3, retained)
    assert first.reason is None and first.as_trained is not None and first.after is not None
    assert first.as_trained != first.after and first.after.forget_accuracy == 0
    assert first.as_trained.extra["reset_rows_logit_auc"] == first.after.extra["reset_rows_logit_auc"]
    assert RequestOutcome.from_json(THREE, first.to_json()) == first
    second, arrays = served(trial, FIVE)
    left = [index for index in retained if index != 5]
    assert has_mean_row(arrays, 5, left) and second.as_trained is not None
    assert has_mean_row(arrays, 3, left), "the row of 3 held a ninth of the row of 5, which could be told from it"


def test_sample_and_client_requests_leave_the_rows_as_they_are_trained(tmp_path: Path) -> None:
    outcome, _ = served(trained(tmp_path), ForgetRequest.for_samples(2, count=2))
    assert outcome.as_trained is None and outcome.reason is None


def test_a_retrained_model_is_committed_as_it_is(tmp_path: Path) -> None:
    outcome, arrays = served(trained(tmp_path), replace(THREE, method="retrain"))
    assert outcome.as_trained is None and outcome.reason is None
    assert not has_mean_row(arrays, 3, [index for index in range(10) if index != 3])


@pytest.mark.parametrize("rows", [OutputRows("nowhere"), OutputRows("0.weight")])
def test_a_client_that_names_other_arrays_is_named_and_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rows: OutputRows
) -> None:
    trial = trained(tmp_path)
    trial.grid.spoil(naming(rows), 1, protocol.IDENTIFY)
    outcome, arrays = served(trial, THREE)
    assert has_mean_row(arrays, 3, [index for index in range(10) if index != 3]) and outcome.reason is None
    assert f"client 1 names '{rows.weight}'" in caplog.text


@pytest.mark.parametrize("others", [1, 2])
def test_rows_are_set_where_more_than_half_of_the_clients_name_them(tmp_path: Path, others: int) -> None:
    trial = trained(tmp_path)
    for client in range(others):
        trial.grid.spoil(naming(None), client, protocol.IDENTIFY)
    outcome, arrays = served(trial, THREE)
    assert has_mean_row(arrays, 3, [index for index in range(10) if index != 3]) is (others == 1)
    assert outcome.reason == (None if others == 1 else ROWS_AS_TRAINED)
    assert (outcome.as_trained is None) is (others == 2)


@dataclass(frozen=True, kw_only=True)
class Shifted(Method):
    """Changes the model a little, and forgets nothing."""

    paper, scopes, needs = "none", ("class",), "nothing"

    def unlearn(self, model: Any, *args: Any, **kwargs: Any) -> Outcome:
        state = {name: value * 1.001 for name, value in model.state_dict().items()}
        model.load_state_dict(state)
        return Outcome(model, True, 0, 0.0, 0, 0, None)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def stronger(self) -> Shifted:
        return self


def test_a_candidate_that_forgets_by_its_row_alone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shifted, "name", "shifted", raising=False)
    monkeypatch.setitem(METHODS._classes, "shifted", Shifted)
    gate = replace(GATE, max_repair_rounds=0, max_attempts=1)
    trial = trained(tmp_path, gate=gate, plan=replace(PLAN, repair_rounds=0))
    before = unpack(trial.train(6).arrays)
    result = trial.serve(replace(THREE, method="shifted"))
    assert result.requests[0].status is Status.FAILED and "is over 0.050" in (result.requests[0].reason or "")
    assert same_bits(unpack(result.arrays), before) and result.requests[0].as_trained is None


@pytest.mark.parametrize("audit", ["audit of the candidate", "audit with the output rows set"])
def test_a_crash_before_either_audit_ends_with_the_same_bytes(tmp_path: Path, audit: str) -> None:
    _, expected = served(trained(tmp_path / "whole"), THREE)
    trial = trained(tmp_path / "crashed")

    def crash(event: Event) -> None:
        if event.text == audit:
            raise KeyboardInterrupt

    trial.strategy.observer = crash
    with pytest.raises(KeyboardInterrupt):
        trial.serve(THREE)
    trial.restart()
    _, arrays = served(trial)
    assert same_bits(arrays, expected)
