"""What a request costs in sample passes, counted by hand: every sample is read once by every model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fault_trials import PLAN, Trial, trained
from federation import same_bytes
from flwr.app import Message

from fed_unlearn import protocol
from fed_unlearn.audits.counts import ClientCounts
from fed_unlearn.client.derived_answers import CHECKED
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.outcomes import RequestOutcome

LAYER = 2  # finding the output layer passes one sample through the model twice
COMMITTED = CHECKED + LAYER  # of the model whose output rows were set, the others follow from the candidate's answers
WHOLE = replace(PLAN, retain_limit=0, test_limit=0, relapse_limit=0, unlearned_limit=0)
EPOCHS = 2  # of a round of the federation's task
FIRST, SECOND = ForgetRequest.for_class(3), ForgetRequest.for_class(5)


def audits(trial: Trial) -> list[tuple[int, ClientCounts]]:
    """A list that fills with what clients answer to audits from now on."""
    found: list[tuple[int, ClientCounts]] = []

    def note(client: int, reply: Message) -> None:
        found.append((client, protocol.read_audit(reply)))

    trial.grid.watch(protocol.AUDIT, note)
    return found


def outcome(trial: Trial, request: ForgetRequest) -> RequestOutcome:
    [served] = trial.serve(request).requests
    assert served.status == "committed", served.reason
    return served


def sizes(trial: Trial) -> Iterator[int]:
    """Samples of each client."""
    for client in range(4):
        data = trial.data_of(client)
        yield len(data.train) + len(data.validation) + len(data.test)


def test_the_served_model_is_not_read_again_and_every_candidate_is_read_once(tmp_path: Path) -> None:
    trial = Trial(tmp_path, plan=WHOLE)
    after_training = audits(trial)
    trial.train()
    every = list(sizes(trial))
    assert [counts.forward_passes for _, counts in after_training] == [size + LAYER for size in every]
    seen = audits(trial)
    for request in (FIRST, SECOND):
        seen.clear()
        served = outcome(trial, request)
        before, unlearned, candidate, rows_set = seen[:4], seen[4:8], seen[8:12], seen[12:]
        assert [counts.forward_passes for _, counts in before] == [0] * 4, "its audit was made before"
        # Of the first request, the samples are retained for a day: all of a client's samples are read.
        earlier = [len(trial.ids_of_class(client, 3)) if request is SECOND else 0 for client in range(4)]
        assert [counts.forward_passes for _, counts in unlearned] == [
            size - own + LAYER for size, own in zip(every, earlier, strict=True)
        ]
        assert [counts.forward_passes for _, counts in candidate] == [size + LAYER for size in every]
        assert [counts.forward_passes for _, counts in rows_set] == [COMMITTED] * 4
        parts = served.traffic.passes_by_part
        assert parts["audit"] == 2 * (sum(every) + 4 * LAYER) - sum(earlier) + 4 * COMMITTED
        assert set(parts) == {"unlearn", "repair", "audit"} and sum(parts.values()) == served.traffic.passes


def test_repair_costs_three_passes_for_each_sample_that_is_trained_on(tmp_path: Path) -> None:
    trial = trained(tmp_path, plan=WHOLE)
    trial.trained_on()
    parts = outcome(trial, FIRST).traffic.passes_by_part
    # Every sample in each epoch, those of the request under their guard labels: one forward pass, one backward.
    assert parts["repair"] == EPOCHS * 3 * sum(len(trial.data_of(client).train) for client in range(4))


def test_audits_read_no_more_than_the_plan_allows_and_say_how_much(tmp_path: Path) -> None:
    plan = replace(PLAN, retain_limit=6, test_limit=5, relapse_limit=1, unlearned_limit=2)
    trial = trained(tmp_path, plan=plan)
    outcome(trial, FIRST)
    seen = audits(trial)
    served = outcome(trial, SECOND)
    unlearned, candidate = seen[4:8], seen[8:12]
    for client, counts in candidate:
        data, own, earlier = trial.data_of(client), trial.ids_of_class(client, 5), trial.ids_of_class(client, 3)
        retained, tested = sum(counts.parts["retain"].total), sum(counts.parts["test"].total)
        assert 6 <= retained <= 6 + 8 and tested == 5, "of retained samples, one of each class besides"
        assert all(counts.parts["retain"].total[label] for label in set(data.train.labels.tolist()) - {3, 5})
        assert sum(counts.parts["validation"].total) == len(data.validation), "the gate judges by all of them"
        assert counts.targets["r2"].hits.total == len(own) and counts.targets["r1"].hits.total == min(1, len(earlier))
        read = retained + tested + len(data.validation) + len(own) + min(1, len(earlier))
        assert counts.forward_passes == read + LAYER
    for _, counts in unlearned:
        assert set(counts.targets) == {"r2"}
        assert sum(counts.parts["test"].total) == sum(counts.parts["validation"].total) == 2
        assert 2 <= sum(counts.parts["retain"].total) <= 2 + 9
    assert served.after is not None and served.before is not None
    read = sum(sum(counts.parts["retain"].total) for _, counts in candidate)
    assert served.after.samples["retain_accuracy"] == read
    low, high = served.after.intervals["retain_accuracy"]
    assert served.after.retain_accuracy is not None and low <= served.after.retain_accuracy <= high
    assert served.before.samples.keys() == {"retain_accuracy", "test_forget_accuracy", "test_retain_accuracy"}


def test_bounded_audits_decide_as_whole_ones_and_lead_to_the_same_model(tmp_path: Path) -> None:
    models = []
    for name, plan in (("whole", WHOLE), ("bounded", replace(WHOLE, retain_limit=6, test_limit=5, unlearned_limit=2))):
        trial = trained(tmp_path / name, plan=plan)
        outcome(trial, FIRST)
        models.append(trial.serve(SECOND).arrays)
    assert same_bytes(*models)


@pytest.mark.parametrize("shares", [1, 3])
def test_requests_that_share_rounds_share_their_passes_by_part(tmp_path: Path, shares: int) -> None:
    trial = trained(tmp_path, plan=WHOLE)
    requests = [ForgetRequest.for_class(label) for label in range(1, 1 + shares)]
    served = trial.serve(*requests).requests
    assert len(served) == shares
    for item in served:
        assert sum(item.traffic.passes_by_part.values()) == item.traffic.passes
    total = [sum(item.traffic.parts[part][0] for item in served) for part in ("repair", "audit")]
    samples = sum(len(trial.data_of(client).train) for client in range(4))
    assert total == [EPOCHS * samples, 2 * (sum(sizes(trial)) + 4 * LAYER) + 4 * COMMITTED]
