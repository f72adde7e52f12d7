"""Turns the outcomes of a strategy into the results of a run, and saves them after every entry of the timeline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from fed_unlearn.simulations.run.results import (
    FILE_NAME,
    DeviceCount,
    HistoryPoint,
    RelapseResult,
    RequestResult,
    RunResults,
    installed_versions,
)
from fed_unlearn.simulations.scenario.sections import Scenario
from fed_unlearn.strategies import ContinualUnlearning, Forget, Train
from fed_unlearn.strategies.outcomes import OracleOutcome, RelapseRow, RequestOutcome, UnlearningResult
from fed_unlearn.strategies.serving.relapse import relapse_rows

_ENDED = ("committed", "failed", "rejected")


class Recorder:
    """Keeps ``results.json`` of a run folder up to date.

    Parameters
    ----------
    results : RunResults
        The results so far.
    out : Path
        The run folder.
    """

    def __init__(self, results: RunResults, out: Path) -> None:
        self._results = results
        self._out = out
        self._round = max((point.round for point in results.history), default=0)
        self._is_round_exact = False

    def rounds(self, strategy: ContinualUnlearning) -> int:
        """Count the rounds of the whole run: those of all entries so far, and those of requests that ended since.

        Unlearn rounds and repair rounds count, as in the results' history.
        """
        self._count_rounds(strategy)
        known = {item.id for item in self._results.requests}
        outcomes = [strategy.outcome(entry.id) for entry in strategy.ledger.entries() if entry.id not in known]
        return self._round + sum(1 + outcome.repair_rounds for outcome in outcomes if outcome is not None)

    @classmethod
    def begin(cls, scenario: Scenario, out: Path, engine: str) -> Recorder:
        """Make a recorder for a new run, or for one that the folder holds a part of."""
        if (out / FILE_NAME).exists():
            known = RunResults.load(out)
            ended = tuple(item for item in known.requests if item.status in _ENDED)
            return cls(replace(known, requests=ended), out)
        results = RunResults(scenario=scenario.name, seed=scenario.seed, engine=engine, versions=installed_versions())
        recorder = cls(results, out)
        recorder._results.save(out)
        return recorder

    def note(
        self, entry: Train | Forget, trained: int, result: UnlearningResult, strategy: ContinualUnlearning
    ) -> None:
        """Record the result of one entry of the timeline.

        Parameters
        ----------
        entry : Train or Forget
        trained : int
            The number of training entries up to this one.
        result : UnlearningResult
        strategy : ContinualUnlearning
        """
        self._count_rounds(strategy)
        if isinstance(entry, Train):
            self._note_training(f"train:{trained}", entry, result)
        for outcome in result.requests:
            self._note_request(outcome)
        self._save(strategy)

    def note_oracles(self, oracles: Mapping[str, OracleOutcome], strategy: ContinualUnlearning) -> None:
        """Record the figures and the cost of the retrain oracle for the requests of an entry."""
        requests = tuple(
            _with_oracle(item, oracles[item.id], len(oracles)) if item.id in oracles else item
            for item in self._results.requests
        )
        self._results = replace(self._results, requests=requests)
        self._save(strategy)

    def finish(self, strategy: ContinualUnlearning, *, complete: bool) -> RunResults:
        """Record the end of the timeline. Requests that still wait become results, and the run stays incomplete."""
        self._save(strategy)
        waiting = tuple(
            RequestResult(
                id=entry.id,
                scope=entry.request.scope.kind,
                target=entry.request.target(),
                method=entry.method or strategy.plan.method_of(entry.request),
                status=str(entry.status),
                attempts=entry.attempt,
                reason=entry.reason,
            )
            for entry in strategy.ledger.entries()
            if entry.outcome is None
        )
        self._results = replace(
            self._results, requests=(*self._results.requests, *waiting), complete=complete and not waiting
        )
        self._results.save(self._out)
        return self._results

    def _count_rounds(self, strategy: ContinualUnlearning) -> None:
        """Count the rounds of a continued run, once. Its history has no points for requests without figures."""
        if self._is_round_exact:
            return
        self._is_round_exact = True
        outcomes = [strategy.outcome(item.id) for item in self._results.requests]
        served = sum(1 + outcome.repair_rounds for outcome in outcomes if outcome is not None)
        self._round = self._results.training.rounds + served

    def _note_training(self, name: str, entry: Train, result: UnlearningResult) -> None:
        accuracies = {
            number: float(str(metrics["accuracy"])) for number, metrics in result.evaluate_metrics_clientapp.items()
        }
        points = [
            HistoryPoint(event=name, round=self._round + number, test_accuracy=accuracy)
            for number, accuracy in accuracies.items()
        ]
        last = accuracies[max(accuracies)] if accuracies else None
        self._round += entry.rounds
        training, traffic = self._results.training, result.training_traffic
        training = replace(
            training,
            rounds=training.rounds + entry.rounds,
            seconds=training.seconds + result.training_seconds,
            test_accuracy=training.test_accuracy if self._results.requests or not accuracies else last,
            forward_passes=training.forward_passes + traffic.forward_passes,
            backward_passes=training.backward_passes + traffic.backward_passes,
        )
        self._results = replace(self._results, training=training, history=(*self._results.history, *points))

    def _note_request(self, outcome: RequestOutcome) -> None:
        if any(item.id == outcome.request.id for item in self._results.requests):
            return
        self._round += 1 + outcome.repair_rounds
        points: list[HistoryPoint] = []
        if outcome.after is not None and outcome.after.test_retain_accuracy is not None:
            point = HistoryPoint(
                event=outcome.request.id,
                round=self._round,
                test_accuracy=outcome.after.test_retain_accuracy,
                test_forget_accuracy=outcome.after.test_forget_accuracy,
            )
            points.append(point)
        self._results = replace(
            self._results,
            requests=(*self._results.requests, _request_result(outcome)),
            history=(*self._results.history, *points),
        )

    def _save(self, strategy: ContinualUnlearning) -> None:
        """Save the results, with requests and relapses that the ledger knows and that a crash kept out of them."""
        self._count_rounds(strategy)
        for entry in strategy.ledger.entries():
            outcome = strategy.outcome(entry.id)
            if outcome is not None:
                self._note_request(outcome)
        devices = tuple(DeviceCount(**asdict(use), count=count) for use, count in strategy.device_use.items())
        relapse = tuple(_relapse_row(row) for row in relapse_rows(strategy.ledger))
        self._results = replace(self._results, devices=devices, relapse=relapse)
        self._results.save(self._out)


def _request_result(outcome: RequestOutcome) -> RequestResult:
    return RequestResult(
        id=outcome.request.id,
        scope=outcome.request.scope.kind,
        target=outcome.request.target(),
        method=outcome.method,
        status=str(outcome.status),
        attempts=outcome.attempts,
        reason=outcome.reason,
        before=outcome.before,
        unlearned=outcome.unlearned,
        after=outcome.after,
        seconds=outcome.seconds,
        passes=outcome.traffic.passes,
        messages=outcome.traffic.messages,
        bytes_sent=outcome.traffic.bytes_sent,
        bytes_received=outcome.traffic.bytes_received,
        witnesses=outcome.witnesses,
    )


def _with_oracle(item: RequestResult, oracle: OracleOutcome, shared: int) -> RequestResult:
    """Add an oracle's figures to a request, with the request's share of the oracle's cost."""
    return replace(
        item,
        oracle=oracle.figures,
        oracle_seconds=oracle.seconds / shared,
        oracle_passes=oracle.traffic.passes // shared,
    )


def _relapse_row(row: RelapseRow) -> RelapseResult:
    def known(values: Mapping[str, float | None]) -> dict[str, float]:
        return {key: value for key, value in values.items() if value is not None and not math.isnan(value)}

    return RelapseResult(
        after=row.after,
        forget_accuracy=known(row.forget_accuracy),
        test_forget_accuracy=known(row.test_forget_accuracy),
        relapsed=row.relapsed,
    )
