"""Validation samples of the server's own."""

from __future__ import annotations

import pytest
import torch
from federation import all_digits, small_model

from fed_unlearn.arrays import unpack
from fed_unlearn.audits.accuracy import ClassCounts
from fed_unlearn.audits.counts import ClientCounts
from fed_unlearn.audits.pooled import Audit
from fed_unlearn.audits.validation import ServerValidation
from fed_unlearn.data.clients import set_aside
from fed_unlearn.errors import InvalidDataError, InvalidParameterError


def test_it_counts_what_a_model_has_right() -> None:
    from flwr.app import ArrayRecord

    samples = all_digits().train.subset(torch.arange(100))
    model = small_model()
    counts = ServerValidation(samples, small_model()).count(unpack(ArrayRecord(model.state_dict())))
    images, labels = samples.batch()
    with torch.no_grad():
        right = model(images).argmax(1) == labels
    assert counts.total == tuple(int((labels == item).sum()) for item in range(10))
    assert counts.correct == tuple(int(right[labels == item].sum()) for item in range(10))


def test_it_needs_a_sample() -> None:
    with pytest.raises(InvalidDataError, match="no sample was given; expected at least one"):
        ServerValidation(all_digits().train.subset(torch.empty(0, dtype=torch.int64)), small_model())


def test_samples_of_another_type_are_refused() -> None:
    with pytest.raises(InvalidDataError, match="samples are a list; expected an ImageSet"):
        ServerValidation([1, 2], small_model())  # type: ignore[arg-type]


def test_a_model_of_another_kind_is_refused() -> None:
    validation = ServerValidation(all_digits().train.subset(torch.arange(3)), torch.nn.Linear(2, 2))
    with pytest.raises(InvalidDataError, match=r"arrays do not fit its model: .*give one of the same kind"):
        validation.count({name: value.numpy() for name, value in small_model().state_dict().items()})


def test_an_audit_with_it_is_judged_by_it_and_is_read_back() -> None:
    clients = {"0": ClientCounts({"validation": ClassCounts((3, 4), (5, 5))})}
    audit = Audit(clients, server=ClassCounts((1, 2), (10, 10)))
    assert audit.validation() == ClassCounts((1, 2), (10, 10))
    assert audit.validation(by_server=False) == ClassCounts((3, 4), (5, 5))
    again = Audit.from_json(audit.without_targets().to_json())
    assert (again.replies, again.server) == (clients, audit.server)
    assert Audit.from_json(Audit(clients).to_json()).server is None


def test_what_the_server_keeps_is_taken_from_every_class_and_from_nobody_else() -> None:
    source = all_digits()
    rest, kept = set_aside(source, 0.1)
    assert sorted((*rest.train.ids, *kept.ids)) == sorted(source.train.ids)
    assert len(kept) == round(0.1 * len(source.train))
    for label in range(10):
        share = int((kept.labels == label).sum()) / int((source.train.labels == label).sum())
        assert share == pytest.approx(0.1, abs=0.01)
    assert rest.fingerprint != source.fingerprint
    assert set_aside(source, 0.0)[0] is source


def test_a_share_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"fraction: 1\.0 was given; expected a number from 0 to below 1"):
        set_aside(all_digits(), 1.0)
