"""Figures of client audits over real clients with unequal shares: those of the same audits on pooled data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from fault_trials import CLASS, CLIENT, PLAN, Trial, trained
from faulty_grid import metric
from federation import all_digits, small_model
from flwr.app import ArrayRecord, Message
from sklearn.metrics import roc_auc_score

from fed_unlearn import protocol
from fed_unlearn.arrays import to_state_dict
from fed_unlearn.audits.intervals import wilson_interval
from fed_unlearn.audits.membership import BIN_COUNT
from fed_unlearn.audits.scores import PASSES_TO_FIND
from fed_unlearn.data.images import ClientData, ImageSet, concatenate
from fed_unlearn.data.partitions import partition_indices
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.data.trigger import Trigger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.logits import confidence, predict_logits
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.strategies.outcomes import RequestOutcome

CLIENTS, LEAVING = 4, 2
TRIGGER = Trigger(0)


@cache
def shares() -> tuple[ClientData, ...]:
    """Digits by Dirichlet shares of 0.5. Client 2 has planted a trigger in half of its samples."""
    source = all_digits()
    train = source.train.subset(torch.arange(700))
    parameters = {"alpha": 0.5, "min_partition_size": 40}
    parts = partition_indices(train.labels, CLIENTS, name="dirichlet", parameters=parameters, seed=2)
    found = []
    for client, part in enumerate(parts):
        own = part[torch.randperm(len(part), generator=torch.Generator().manual_seed(0))]
        held = train.subset(own[: len(own) * 3 // 4])
        found.append(
            ClientData(
                train=TRIGGER.planted(held, seeded_generator("planted")) if client == LEAVING else held,
                validation=train.subset(own[len(own) * 3 // 4 :]),
                test=source.test.subset(torch.arange(client, len(source.test), CLIENTS)),
                class_count=10,
                fingerprint=source.fingerprint,
                trigger=TRIGGER,
            )
        )
    return tuple(found)


def dirichlet(client: int) -> ClientData:
    return shares()[client]


def without_trigger(client: int) -> ClientData:
    return replace(shares()[client], trigger=None)


def binned(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return ((confidence(logits, labels).clamp(-20, 20 - 1e-4) + 20) / 40 * BIN_COUNT).floor()


@cache
def served(folder: Path) -> tuple[Trial, ArrayRecord, ArrayRecord, RequestOutcome]:
    """A client that is forgotten, and the models before and after."""
    trial = trained(folder, data_of=dirichlet, plan=replace(PLAN, max_client_share=1.0))
    before = trial.train(6).arrays
    result = trial.serve(CLIENT)
    return trial, before, result.arrays, result.requests[0]  # type: ignore[return-value]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("client")


@pytest.mark.parametrize("when", ["before", "after"])
def test_figures_are_those_of_pooled_data(folder: Path, when: str) -> None:
    _, before, after, outcome = served(folder)
    assert outcome.status is Status.COMMITTED
    figures = getattr(outcome, when)
    assert {"client_membership_auc", "backdoor_success"} <= set(figures.extra)
    model = small_model()
    model.load_state_dict(to_state_dict(before if when == "before" else after))

    own = shares()[LEAVING].train
    unseen = concatenate(*(data.validation for data in shares()))
    mine, others = (binned(predict_logits(model, side), side.labels) for side in (own, unseen))
    auc = weight = 0.0
    for label in range(10):
        there, here = others[unseen.labels == label], mine[own.labels == label]
        if len(there) and len(here):
            auc += len(here) * float(roc_auc_score([1] * len(here) + [0] * len(there), torch.cat([here, there])))
            weight += len(here)
    assert figures.extra["client_membership_auc"] == pytest.approx(auc / weight, abs=1e-9)
    low, high = figures.intervals["client_membership_auc"]
    assert low < auc / weight < high

    shown = concatenate(*(TRIGGER.shown(data.test) for data in shares()))
    called = int((predict_logits(model, shown).argmax(1) == 0).sum())
    assert figures.extra["backdoor_success"] == called / len(shown)
    assert tuple(figures.intervals["backdoor_success"]) == wilson_interval(called, len(shown))


def test_the_backdoor_is_there_before_and_gone_after(folder: Path) -> None:
    *_, outcome = served(folder)
    assert outcome.before is not None and outcome.after is not None
    before, after = outcome.before.extra["backdoor_success"], outcome.after.extra["backdoor_success"]
    assert before is not None and after is not None and before > 0.6 and after < 0.15


def passes_of(folder: Path, data_of: Callable[[int], ClientData]) -> tuple[list[int], RequestOutcome]:
    """What each audit of a client request has read, and what came of the request."""
    trial, read = trained(folder, data_of=data_of, plan=replace(PLAN, max_client_share=1.0)), list[int]()

    def note(client: int, reply: Message) -> None:
        read.append(int(str(reply.content.metric_records["metrics"][protocol.FORWARD_PASSES])))

    trial.grid.watch(protocol.AUDIT, note)
    [outcome] = trial.serve(CLIENT).requests
    return read, outcome


def test_what_is_read_for_the_trigger_is_counted_and_without_one_nothing_is(tmp_path: Path) -> None:
    (with_trigger, first), (without, second) = (
        passes_of(tmp_path / data_of.__name__, data_of) for data_of in (dirichlet, without_trigger)
    )
    assert first.after is not None and second.after is not None
    assert set(first.after.extra) - set(second.after.extra) == {"backdoor_success"}
    shown = {len(TRIGGER.shown(data.test)) for data in shares()}
    more = {one - other for one, other in zip(with_trigger, without, strict=True)}
    # Where nothing else was to be read, two more passes find the output layer.
    assert more & shown and more <= shown | {count + PASSES_TO_FIND for count in shown} | {0}


@cache
def same_ids() -> tuple[ClientData, ...]:
    """The same shares, with test samples that are called what training samples of the same client are."""
    return tuple(replace(data, test=renamed(data.test, data.train.ids)) for data in shares())


def renamed(samples: SampleSet, names: Sequence[str]) -> ImageSet:
    some = samples.subset(torch.arange(min(len(samples), len(names)))).evaluated()
    return ImageSet(some.batch()[0], some.labels, list(names[: len(some)]))


def with_same_ids(client: int) -> ClientData:
    return same_ids()[client]


def test_a_sample_with_a_trigger_is_none_that_was_read_before_under_its_id(tmp_path: Path) -> None:
    trial = trained(tmp_path, data_of=with_same_ids, plan=replace(PLAN, max_client_share=1.0))
    result = trial.serve(CLIENT)
    [outcome] = result.requests
    model = small_model()
    assert result.arrays is not None and outcome.after is not None
    model.load_state_dict(to_state_dict(result.arrays))
    shown = concatenate(*(TRIGGER.shown(data.test) for data in same_ids()))
    called = int((predict_logits(model, shown).argmax(1) == 0).sum())
    assert outcome.after.extra["backdoor_success"] == called / len(shown)


def test_the_trigger_is_shown_on_no_more_test_samples_than_the_plan_lets_clients_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trial = trained(tmp_path, data_of=dirichlet, plan=replace(PLAN, max_client_share=1.0, test_limit=20))
    shown = list[int]()

    def note(client: int, reply: Message) -> None:
        numbers = reply.content.metric_records["metrics"]
        shown.extend(int(str(value)) for name, value in numbers.items() if name.startswith("audit/backdoor_success/t"))

    trial.grid.watch(protocol.AUDIT, note)
    [outcome] = trial.serve(CLIENT).requests
    assert outcome.status is Status.COMMITTED and "it has at most" not in caplog.text
    assert shown and 0 < max(shown) <= 20


def test_other_scopes_have_no_such_figures(tmp_path: Path) -> None:
    [outcome] = trained(tmp_path, data_of=dirichlet).serve(CLASS).requests
    assert outcome.after is not None
    assert not {"client_membership_auc", "backdoor_success"} & set(outcome.after.extra)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("backdoor_success/total", 10_000, "counts 10000 samples (total)"),
        ("backdoor_success/called", 10_000, "malformed"),
        ("client_membership_auc/unseen", [10_000] + [0] * (10 * BIN_COUNT - 1), "counts 10000 samples (unseen)"),
        (
            "client_membership_auc/own",
            [1] + [0] * (10 * BIN_COUNT - 1),
            "counts samples of requests r1, and holds none",
        ),
        ("client_membership_auc/own", [0] * BIN_COUNT, "malformed"),
    ],
)
def test_counts_that_cannot_be_leave_the_client_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, value: int | list[int], words: str
) -> None:
    trial = trained(tmp_path, data_of=dirichlet, plan=replace(PLAN, max_client_share=1.0))
    trial.grid.spoil(metric(f"audit/{name}/r1", value), 1, protocol.AUDIT)
    [outcome] = trial.serve(CLIENT).requests
    assert outcome.status is Status.COMMITTED and outcome.after is not None
    assert {"client_membership_auc", "backdoor_success"} <= set(outcome.after.extra)
    assert words in caplog.text
