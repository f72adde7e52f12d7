"""The output layer in closed form, against scikit-learn, and over real messages."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from federation import digits_of
from flwr.app import Context, Message
from leaving import STAYING, Departure, fail_at, normalised_model
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays
from fed_unlearn.client import kept_activations
from fed_unlearn.methods.parts.ridge import FEATURE_STEP, RidgeStatistics
from fed_unlearn.strategies.server_methods import ServerWork
from fed_unlearn.strategies.server_methods.closed_form import discriminant, with_discriminant, within_usual_size
from fed_unlearn.strategies.server_methods.relearn_rounds import digest_of_arrays, relearn_round

UPPER = ("4.weight", "4.bias")


def relearning(work: ServerWork) -> protocol.RelearnInstruction:
    """One round of the output layer at learning rate 0.001, with answers of the model before."""
    return protocol.RelearnInstruction(
        blocks=0,
        base=digest_of_arrays(work.served),
        epochs=1,
        round=0,
        position=0,
        positions=1,
        distillation=0.5,
        temperature=1.0,
        learning_rate=1e-3,
        momentum=0.0,
        weight_decay=0.0,
        batch_size=64,
        max_gradient_norm=0.0,
        seed=0,
    )


def solved(work: ServerWork) -> Arrays:
    return with_discriminant(work, work.served, UPPER, UPPER, relearning(work))


def drawn(count: int = 300, features: int = 5, classes: int = 3) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    labels = np.arange(count) % classes
    centres = generator.normal(size=(classes, features))
    found = centres[labels] + generator.normal(size=(count, features))
    return np.rint(found / FEATURE_STEP) * FEATURE_STEP, labels


def test_it_is_scikit_learns() -> None:
    features, labels = drawn()
    own = LinearDiscriminantAnalysis(solver="lsqr").fit(features, labels)
    total = RidgeStatistics.of(torch.from_numpy(features), torch.from_numpy(labels), 4)
    weight, bias = discriminant(total, shrinkage=0.0)
    logits = features @ weight[:3].T + bias[:3]
    expected = own.predict_log_proba(features)
    np.testing.assert_allclose(logits - np.log(np.exp(logits).sum(1, keepdims=True)), expected, atol=1e-8)
    np.testing.assert_allclose(weight[:3].mean(0), 0, atol=1e-9)
    assert bias[:3].mean() == pytest.approx(0, abs=1e-9)
    assert not weight[3].any() and bias[3] == 0  # a class without a sample


@pytest.mark.parametrize("shrinkage", [0.1, 2.0])
def test_shrinkage_adds_a_share_of_the_mean_variance_to_every_feature(shrinkage: float) -> None:
    """Sample by sample: S is the mean square about the class means, and S + shrinkage tr(S) / d I takes its place."""
    features, labels = drawn(count=90)
    means = np.stack([features[labels == label].mean(0) for label in range(3)])
    within = sum(np.outer(row - means[label], row - means[label]) for row, label in zip(features, labels, strict=True))
    spread = within / len(features)
    spread = spread + shrinkage * np.trace(spread) / len(spread) * np.eye(len(spread))
    inverse = np.linalg.inv(spread)
    scores = np.array([[row @ inverse @ mean - mean @ inverse @ mean / 2 for mean in means] for row in features])
    expected = scores + np.log(np.bincount(labels) / len(labels))
    total = RidgeStatistics.of(torch.from_numpy(features), torch.from_numpy(labels), 3)
    weight, bias = discriminant(total, shrinkage=shrinkage)
    logits = features @ weight.T + bias
    np.testing.assert_allclose(logits - logits[:, :1], expected - expected[:, :1], atol=1e-8)


def test_sums_of_clients_give_what_all_samples_together_give(departure: Departure) -> None:
    arrays = solved(departure.work())
    model = normalised_model().eval()
    assert isinstance(model, nn.Sequential)
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in departure.served.items()})
    parts = [digits_of(int(client)).train for client in STAYING]
    with torch.no_grad():
        features = torch.cat([model.double()[:4](part.batch()[0].double()) for part in parts])
    labels = torch.cat([part.labels for part in parts])
    whole = RidgeStatistics.of((features / FEATURE_STEP).round() * FEATURE_STEP, labels, 10)
    weight, bias = discriminant(whole)
    share = np.linalg.norm(departure.served["4.weight"]) / np.linalg.norm(weight)
    assert share < 1
    weight, bias = share * weight, share * bias
    np.testing.assert_allclose(arrays["4.weight"], weight, rtol=0, atol=1e-4 * np.abs(weight).max())
    np.testing.assert_allclose(arrays["4.bias"], bias, rtol=0, atol=1e-4 * np.abs(bias).max())
    for name in departure.served.keys() - set(UPPER):
        assert arrays[name] is departure.served[name]


def test_a_client_that_sends_no_sums_is_left_out(departure: Departure, caplog: pytest.LogCaptureFixture) -> None:
    everybody, work = solved(departure.work()), departure.work()
    fail_at(departure, protocol.STATISTICS, "3")
    others = solved(work)
    assert "client 3 sends no sums, and its samples tell nothing of the output layer" in caplog.text
    assert not np.array_equal(others["4.weight"], everybody["4.weight"])
    np.testing.assert_allclose(
        others["4.weight"], everybody["4.weight"], atol=0.3 * np.abs(everybody["4.weight"]).max()
    )


def test_a_client_whose_sums_are_of_another_layer_is_left_out(
    departure: Departure, caplog: pytest.LogCaptureFixture
) -> None:
    work, handlers = departure.work(), departure.federation.app._registered_funcs
    honest = handlers[protocol.STATISTICS]

    def lying(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        if str(context.node_config["partition-id"]) == "3":
            protocol.write_statistics(reply, RidgeStatistics.empty(3, 2))
        return reply

    handlers[protocol.STATISTICS] = lying
    assert not np.array_equal(solved(work)["4.weight"], work.served["4.weight"])
    assert "client 3 sends no sums, and its samples tell nothing of the output layer" in caplog.text
    assert "its sums of shape (3, 2) fit none of the last layers" in caplog.text


def test_where_no_client_sends_sums_the_layer_stays(departure: Departure, caplog: pytest.LogCaptureFixture) -> None:
    work = departure.work()
    for client in STAYING:
        fail_at(departure, protocol.STATISTICS, client)
    assert solved(work) is departure.served
    assert "request r1: the output layer stays as it was drawn: no client has sent sums" in caplog.text


def test_a_frozen_bias_stays(departure: Departure) -> None:
    work = departure.work()
    arrays = with_discriminant(work, work.served, UPPER, ["4.weight"], relearning(work))
    assert arrays["4.bias"] is work.served["4.bias"]
    assert not np.array_equal(arrays["4.weight"], work.served["4.weight"])


def test_what_lies_below_is_run_once_and_kept(departure: Departure) -> None:
    """Clients pass their samples through the model once, and through the last blocks for every sum."""
    work = departure.work()
    work.grid.take_traffic()
    arrays = solved(work)
    held, share = [len(digits_of(int(client)).train) for client in STAYING], 32 * 10 / (64 * 32 + 32 * 10)
    above = sum(math.ceil(share * count) for count in held)
    assert work.grid.traffic.parts["statistics"] == (sum(held) + above, 0)
    assert work.grid.traffic.messages == len(STAYING)
    again = solved(work)
    assert work.grid.traffic.parts["statistics"] == (sum(held) + 2 * above, 0)
    for name in UPPER:
        np.testing.assert_array_equal(again[name], arrays[name])
    relearn_round(work, {name: work.served[name] for name in UPPER}, 1.0, relearning(work))
    assert work.grid.traffic.parts["relearn"] == (above, above)
    assert work.grid.traffic.messages == 3 * len(STAYING), "nobody asks for the model before"


def test_where_nothing_can_be_kept_the_sums_are_the_same(departure: Departure, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, work = solved(departure.work()), departure.work()
    monkeypatch.setattr(kept_activations, "MOST_BYTES", 1)
    work.grid.take_traffic()
    (departure.folder / "clients" / "0" / kept_activations.HEAD_NAME).unlink()
    arrays = solved(work)
    for name in UPPER:
        np.testing.assert_allclose(arrays[name], expected[name], rtol=0, atol=1e-3 * np.abs(expected[name]).max())
    first = len(digits_of(0).train)
    others = sum(
        math.ceil(len(digits_of(int(client)).train) * 32 * 10 / (64 * 32 + 32 * 10))
        for client in STAYING
        if client != "0"
    )
    assert work.grid.traffic.parts["statistics"] == (first + others, 0)


def test_a_client_with_huge_features_does_not_count(departure: Departure, caplog: pytest.LogCaptureFixture) -> None:
    honest, work = {}, departure.work()
    for client in STAYING:
        features, labels = drawn(count=100 + 30 * int(client))
        honest[client] = RidgeStatistics.of(torch.from_numpy(features), torch.from_numpy(labels), 3)
    assert within_usual_size(work, honest) == honest
    features, labels = drawn()
    lying = RidgeStatistics.of(torch.from_numpy(8 * features), torch.from_numpy(labels), 3)
    assert set(within_usual_size(work, {**honest, "3": lying})) == set(STAYING) - {"3"}
    assert "client 3 has features of mean square" in caplog.text
    assert len(within_usual_size(work, {"0": honest["0"], "3": lying})) == 2  # nobody tells what is usual
