"""The terminal shows which clients failed in training, in how many rounds and why."""

from __future__ import annotations

from dataclasses import replace

from sample_results import RESULTS

from fed_unlearn.simulations.report.client_lines import client_lines
from fed_unlearn.simulations.report.table import plain_lines
from fed_unlearn.simulations.run.training_results import RoundResult

ROUNDS = (
    RoundResult(round=1, trained=2, failed={"2": "ValueError"}),
    RoundResult(round=2, trained=1, failed={"1": "it did not answer", "2": "ValueError"}),
)


def test_failures_are_counted_by_client_and_reason() -> None:
    training = replace(RESULTS.training, clients=ROUNDS, never_trained={"2": "ValueError"})
    results = replace(RESULTS, training=training)
    lines = client_lines(results)
    assert lines == [
        "clients that trained in a round: 1 to 2",
        "client 2 failed in 2 of 2 rounds: ValueError",
        "client 1 failed in 1 of 2 rounds: it did not answer",
        "client 2 never trained: ValueError",
    ]
    assert set(lines) <= set(plain_lines(results))


def test_nothing_is_said_where_all_trained() -> None:
    training = replace(RESULTS.training, clients=(RoundResult(round=1, trained=3),))
    assert client_lines(replace(RESULTS, training=training)) == []


def test_a_client_that_never_trained_is_no_success() -> None:
    committed = replace(RESULTS, complete=True, requests=())
    assert committed.succeeded
    training = replace(committed.training, never_trained={"2": "ValueError"})
    assert not replace(committed, training=training).succeeded
