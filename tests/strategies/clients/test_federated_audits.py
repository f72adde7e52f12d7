"""Figures of output audits over real clients with unequal shares: those of the same audits on pooled data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from fault_trials import CLASS, PLAN, Trial, trained
from faulty_grid import metric
from federation import all_digits, small_model
from flwr.app import ArrayRecord, Message
from sklearn.metrics import roc_auc_score

from fed_unlearn import protocol
from fed_unlearn.arrays import to_state_dict
from fed_unlearn.audits.asked import measured_of
from fed_unlearn.audits.observation import Judged, Observation
from fed_unlearn.audits.outputs.destinations import Destinations
from fed_unlearn.audits.outputs.logit_ranking import LogitRanking
from fed_unlearn.audits.outputs.recall_without_bias import RecallWithoutBias
from fed_unlearn.audits.outputs.reset_rows import ResetRows
from fed_unlearn.audits.outputs.score_histograms import largest_error
from fed_unlearn.audits.outputs.sureness import Sureness
from fed_unlearn.audits.scores import scored_logits
from fed_unlearn.data.images import ClientData, ImageSet, concatenate
from fed_unlearn.data.partitions import partition_indices
from fed_unlearn.holder import observe
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.strategies.outcomes import RequestOutcome

CLIENTS, CLASSES = 4, 10
FIGURES = {
    *("logit_auc", "recall_at_5", "confidence_gap", "entropy_gap", "destination_entropy", "destination_top"),
    *("recall_without_bias", "reset_rows_logit_auc", "reset_rows_recall_at_5"),
}


@cache
def shares() -> tuple[ClientData, ...]:
    """Digits by Dirichlet shares of 0.5: a quarter of what each client holds is held out."""
    source = all_digits()
    train = source.train.subset(torch.arange(600))
    parts = partition_indices(
        train.labels, CLIENTS, name="dirichlet", parameters={"alpha": 0.5, "min_partition_size": 40}, seed=2
    )
    test = partition_indices(source.test.labels, CLIENTS, name="dirichlet", parameters={"alpha": 0.5}, seed=3)
    return tuple(
        ClientData(
            train=train.subset(own[: len(own) * 3 // 4]),
            validation=train.subset(own[len(own) * 3 // 4 :]),
            test=source.test.subset(held),
            class_count=CLASSES,
            fingerprint=source.fingerprint,
        )
        for own, held in ((part[torch.randperm(len(part), generator=torch.Generator().manual_seed(0))], other)
                          for part, other in zip(parts, test, strict=True))
    )  # fmt: skip


def dirichlet(client: int) -> ClientData:
    return shares()[client]


def read(arrays: ArrayRecord, parts: Sequence[ImageSet]) -> Judged:
    """All samples of all clients in one set, read client by client as they read them."""
    model = small_model()
    model.load_state_dict(to_state_dict(arrays))
    answers = [scored_logits(model, part) for part in parts if len(part)]
    logits, scores = (torch.cat(items) for items in zip(*answers, strict=True))
    return Judged.whole(concatenate(*(part for part in parts if len(part))), logits, scores)


def pooled(arrays: ArrayRecord, label: int, left_out: tuple[int, ...]) -> Observation:
    model, data = small_model(), shares()
    return observe(
        model,
        "class",
        (label,),
        read(arrays, [item.train.of_classes({label}) for item in data]),
        CLASSES,
        test=read(arrays, [item.test for item in data]),
        validation=read(arrays, [item.validation for item in data]),
        left_out=left_out,
    )


@cache
def served(folder: Path) -> tuple[Trial, ArrayRecord, ArrayRecord, RequestOutcome, RequestOutcome]:
    """Two classes that are forgotten one after the other, and the models before and after the second."""
    trial = trained(folder, data_of=dirichlet, plan=replace(PLAN, max_client_share=1.0))
    first = trial.serve(CLASS)
    second = trial.serve(ForgetRequest.for_class(5))
    return trial, first.arrays, second.arrays, first.requests[0], second.requests[0]  # type: ignore[return-value]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dirichlet")


@pytest.mark.parametrize("when", ["before", "after"])
def test_figures_are_those_of_pooled_data(folder: Path, when: str) -> None:
    _, before, after, _, outcome = served(folder)
    found = getattr(outcome, when)
    seen = pooled(before if when == "before" else after, 5, (3,))
    audits = (LogitRanking, Destinations, Sureness, RecallWithoutBias, ResetRows)
    expected = measured_of({audit.name: audit.count(seen) for audit in audits})
    assert set(found.extra) == FIGURES == set(expected)
    # Of the model before a class request clients read no validation samples, which classes that stay are ranked by.
    unread = {name for name in FIGURES if name.startswith("reset_rows") and when == "before"}
    assert all(found.extra[name] is None for name in unread)
    for name, measured in expected.items():
        if name in unread:
            continue
        assert found.extra[name] == pytest.approx(measured.value, abs=1e-9), name
        assert found.intervals[name] == pytest.approx(measured.interval, abs=1e-9), name


def test_the_histograms_auc_is_within_its_bound_of_the_exact_one(folder: Path) -> None:
    _, _, after, _, outcome = served(folder)
    seen = pooled(after, 5, (3,))
    assert seen.outsiders is not None and seen.test_retain is not None and outcome.after is not None
    assert 3 not in seen.test_retain.labels and 5 not in seen.test_retain.labels
    labels = [1] * len(seen.outsiders) + [0] * len(seen.test_retain)
    scores = torch.cat([seen.outsiders.class_scores[:, 5], seen.test_retain.class_scores[:, 5]])
    counts = LogitRanking.count(seen)
    error = largest_error(counts.test_class, counts.test_staying)
    assert outcome.after.extra["logit_auc"] == pytest.approx(roc_auc_score(labels, scores), abs=error)
    assert 0 < error < 0.05


def test_what_a_client_lacks_of_the_class_to_validate_by_the_forget_set_shows(folder: Path) -> None:
    data = shares()
    lacking = [item for item in data if not (item.validation.labels == 3).any() and (item.train.labels == 3).any()]
    assert lacking, "the shares are unequal enough"


def test_audits_are_counted_for_the_requests_that_are_served_alone(tmp_path: Path) -> None:
    trial = trained(tmp_path, data_of=dirichlet)
    asked: list[tuple[set[str], set[str]]] = []

    def note(client: int, reply: Message) -> None:
        keys = [key.split("/") for key in reply.content.metric_records["metrics"]]
        asked.append(({key[-1] for key in keys if key[0] == "target"}, {key[-1] for key in keys if key[0] == "audit"}))

    trial.serve(CLASS)
    trial.grid.watch(protocol.AUDIT, note)
    trial.serve(ForgetRequest.for_class(5))
    assert any(targets == {"r1", "r2"} for targets, _ in asked), "the first is looked at for relapse"
    assert all(audited <= {"r2"} for _, audited in asked) and any(audited for _, audited in asked)


def test_older_clients_read_the_instruction_and_count_for_all() -> None:
    target = protocol.Target.of(CLASS)
    asked = protocol.AuditInstruction(
        parts=("test",), targets=(target,), retain_limit=0, seed=0, audits=("logit_ranking",), audited=(), left_out=(2,)
    )
    record = asked.to_record()
    older = str(record[protocol.INSTRUCTION_KEY])
    assert "audited" not in older and "left_out" not in older and "logit_ranking" in older
    message = Message(protocol.content(asked), 1, protocol.AUDIT)
    assert protocol.AuditInstruction.from_message(message) == asked
    assert asked.audits_of(target) == () and asked.left_out_beside(target) == {2}
    alone = protocol.AuditInstruction.model_validate_json(older)
    assert alone.audits_of(target) == ("logit_ranking",) and alone.left_out == ()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("logit_ranking/test_class", [10**6, *[0] * 1023], "counts 1000000 samples (test_class)"),
        ("logit_ranking/test_staying", [5, 5], "malformed"),
        ("sureness/forget_total", 10**6, "counts 1000000 samples (forget_total)"),
        ("sureness/test_confidence", 10**18, "malformed"),
        ("destinations/test", [10**6, *[0] * 9], "counts 1000000 samples (test)"),
        ("destinations/held_out", [-1] * 10, "malformed"),
    ],
)
def test_counts_that_cannot_be_leave_the_client_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, value: int | list[int], words: str
) -> None:
    trial = trained(tmp_path, data_of=dirichlet, plan=replace(PLAN, max_client_share=1.0))
    trial.grid.spoil(metric(f"audit/{name}/r1", value), 2, protocol.AUDIT)
    [outcome] = trial.serve(CLASS).requests
    assert outcome.status is Status.COMMITTED and outcome.after is not None
    assert set(outcome.after.extra) == FIGURES
    assert words in caplog.text
