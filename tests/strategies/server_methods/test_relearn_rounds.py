"""Rounds of the last blocks alone, over real messages: against arithmetic by hand, cut short, with clients that fail."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federation import digits_of
from flwr.app import Message, RecordDict
from leaving import SEED, STAYING, Departure, bytes_of, fail_at, normalised_model, poison, states_of, weighted_mean
from torch import Tensor, nn

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, pack
from fed_unlearn.client.kept_activations import HEAD_NAME, VALUES_NAME
from fed_unlearn.client.store import ClientStore
from fed_unlearn.records import decode, encode
from fed_unlearn.requests import ForgetRequest
from fed_unlearn.seeding import derive_seed, seeded_generator
from fed_unlearn.strategies.clients.messages.messenger import size_of
from fed_unlearn.strategies.server_methods import ServerWork, create
from fed_unlearn.strategies.server_methods.relearn_rounds import LONGEST_OF_MEDIAN, told_blocks

UPPER = ("4.weight", "4.bias")
QUICK: dict[str, Any] = {
    "blocks": 0,
    "rounds": 2,
    "batch_size": 64,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "closed_form": False,
}
FORGOTTEN = 3


def of_class(departure: Departure) -> ServerWork:
    """The work of a class request whose samples clients have taken out of training."""
    work, request = departure.work(), ForgetRequest.for_class(FORGOTTEN, id="r2")
    work.grid.roster.leaving.clear()
    instruction = protocol.UnlearnInstruction(
        targets=(protocol.Target.of(request, 1),), step=0, method=None, seed=SEED, excluded_classes=(FORGOTTEN,)
    )
    content = protocol.content(instruction, pack(work.served))
    assert not work.grid.ask(protocol.UNLEARN, content, work.timeout).failed
    work.grid.roster.leaving.add("2")
    return replace(work, request=request, excluded_classes=(FORGOTTEN,), leaving=None)


def watched(work: ServerWork) -> list[tuple[str, str, RecordDict]]:
    """Grows by one entry with each message: its type, its client and its content."""
    sent: list[tuple[str, str, RecordDict]] = []
    send = work.grid.send_and_receive

    def noted(messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        messages = list(messages)
        for message in messages:
            client = work.grid.roster.clients[message.metadata.dst_node_id]
            sent.append((message.metadata.message_type, client, copy.copy(message.content)))
        return send(messages, timeout=timeout)

    work.grid.send_and_receive = noted  # type: ignore[method-assign]
    return sent


def test_clients_say_the_arrays_of_their_last_blocks(departure: Departure) -> None:
    told = told_blocks(departure.work(), 0)
    assert (told.blocks, told.arrays, told.frozen, told.reason) == (("4",), UPPER, (), "")
    assert told_blocks(departure.work(), 5).arrays == UPPER  # the first block always stays


def test_a_round_equals_one_by_hand(departure: Departure) -> None:
    """Cross-entropy and masked distillation of the head alone, on activations below it, one step of SGD for a batch."""
    work = of_class(departure)
    states = states_of(create("reset-and-relearn", **QUICK, max_gradient_norm=0.0), work)
    assert [state.done for state in states] == [False, False, True]
    for state in states:
        for name in departure.served.keys() - set(UPPER):
            np.testing.assert_array_equal(state.arrays[name], departure.served[name])
    fresh = create("reset-and-relearn", **QUICK, own_training=True).begin(work).arrays
    assert np.abs(fresh["4.weight"]).max() <= 1 / np.sqrt(32)
    by_hand = {client: trained_by_hand(client, departure.served, fresh) for client in STAYING}
    weights = [float((digits_of(int(client)).train.labels != FORGOTTEN).sum()) for client in STAYING]
    expected = weighted_mean(list(by_hand.values()), weights)
    np.testing.assert_allclose(states[1].arrays["4.weight"], expected, rtol=0, atol=2e-6)


def trained_by_hand(client: str, served: Arrays, fresh: Arrays) -> np.ndarray:
    """The output weights after round 0 of 2."""
    model = normalised_model().eval()
    assert isinstance(model, nn.Sequential)
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in served.items()})
    train = digits_of(int(client)).train
    kept = train.subset((train.labels != FORGOTTEN).nonzero().flatten())
    with torch.no_grad():
        features: Tensor = model[:4](kept.batch()[0])
        answers = model[4](features)
    answers[:, FORGOTTEN] = -torch.inf
    wanted = torch.softmax(answers / 2, dim=1)
    weight, bias = (torch.from_numpy(fresh[name].copy()).requires_grad_() for name in UPPER)
    generator = seeded_generator(derive_seed(SEED, "reset-and-relearn", "r2", 1), "relearn", 0, client)
    torch.randint(2**62, (), generator=generator)  # of dropout
    plan = torch.randperm(len(kept), generator=generator).split(64)
    for step, batch in enumerate(plan):
        rate = 0.05 * (1 + np.cos(np.pi * step / (2 * len(plan)))) / 2
        logits = features[batch] @ weight.T + bias
        said = torch.log_softmax(logits / 2, dim=1)
        divergence = torch.where(wanted[batch] > 0, wanted[batch] * (wanted[batch].log() - said), 0.0).sum(1).mean()
        loss = 0.3 * nn.functional.cross_entropy(logits, kept.labels[batch]) + 0.7 * 4 * divergence
        gradients = torch.autograd.grad(loss, [weight, bias])
        weight, bias = ((value - rate * slope).detach().requires_grad_() for value, slope in zip((weight, bias), gradients, strict=True))  # fmt: skip
    trained: np.ndarray = weight.detach().numpy()
    return trained


def test_only_the_last_blocks_travel_after_the_first_round_and_nothing_is_computed_twice(departure: Departure) -> None:
    work = of_class(departure)
    work.grid.take_traffic()
    sent = watched(work)
    states_of(create("reset-and-relearn", **QUICK), work)
    rounds = [(client, content) for kind, client, content in sent if kind == protocol.RELEARN]
    assert [client for client, _ in rounds] == [*STAYING, *STAYING]
    for index, (_, content) in enumerate(rounds):
        assert set(content.array_records[protocol.ARRAYS_KEY]) == set(UPPER)
        assert (protocol.SERVED_KEY in content) == (index < len(STAYING))
    kept = sum(int((digits_of(int(client)).train.labels != FORGOTTEN).sum()) for client in STAYING)
    traffic = work.grid.traffic
    share = 32 * 10 / (64 * 32 + 32 * 10)  # of the operations above the division
    forward, backward = traffic.parts["relearn"]
    assert backward == pytest.approx(2 * kept * share, abs=2 * len(STAYING))  # two epochs, rounded up at each client
    assert forward == kept + backward  # and the activations once
    whole = size_of(RecordDict({protocol.SERVED_KEY: pack(departure.served)}))
    assert traffic.bytes_received < 6 * whole / 2


def test_the_sums_before_the_first_round_carry_the_model_and_no_round_does(departure: Departure) -> None:
    sent = watched(work := of_class(departure))
    states_of(create("reset-and-relearn", **{**QUICK, "closed_form": True}), work)
    carried = [kind for kind, _, content in sent if protocol.SERVED_KEY in content]
    assert carried == [protocol.STATISTICS] * len(STAYING)
    assert sum(kind == protocol.STATISTICS for kind, _, _ in sent) == len(STAYING)
    assert sum(kind == protocol.RELEARN for kind, _, _ in sent) == 2 * len(STAYING)


def test_a_client_that_lost_what_it_kept_is_sent_the_model_again_and_the_result_is_the_same(
    tmp_path: Path, departure: Departure
) -> None:
    expected = states_of(create("reset-and-relearn", **QUICK), of_class(departure))[-1].arrays
    other = departure.copied_to(tmp_path / "other")
    method, work = create("reset-and-relearn", **QUICK), of_class(other)
    state = method.advance(work, method.begin(work))
    folders = [other.folder / "clients" / client for client in STAYING]
    assert all((folder / HEAD_NAME).exists() and (folder / VALUES_NAME).exists() for folder in folders)
    (folders[0] / HEAD_NAME).unlink()
    (folders[1] / VALUES_NAME).write_bytes(b"cut short")
    sent = watched(work)
    state = method.advance(work, state)
    again = [client for _, client, content in sent if protocol.SERVED_KEY in content]
    assert again == list(STAYING[:2])
    assert bytes_of(state.arrays) == bytes_of(expected)


def test_a_run_cut_short_after_every_step_gives_the_same_bytes(departure: Departure) -> None:
    method = create("reset-and-relearn", **{**QUICK, "closed_form": True})
    work = of_class(departure)
    states = states_of(method, work)
    state = method.begin(work)
    for expected in states:
        body, arrays = encode(state)
        assert bytes_of(state.arrays) == bytes_of(expected.arrays)
        state = decode(method.state_class, json.loads(json.dumps(body)), arrays)
        if not state.done:
            anew = replace(departure.work(), request=work.request, excluded_classes=(FORGOTTEN,), leaving=None)
            method.advance(anew, state)  # a step that was lost with its process
            state = method.advance(anew, state)


def test_what_is_kept_goes_when_the_request_ends_or_its_samples_change(departure: Departure) -> None:
    work = of_class(departure)
    states_of(create("reset-and-relearn", **QUICK), work)
    folders = {client: departure.folder / "clients" / client for client in STAYING}
    assert set(STAYING) <= work.grid.roster.put_by  # so that all of them are told how it ends
    settled = protocol.SettleInstruction(targets=(), others=(protocol.RequestAttempt(request_id="r2", attempt=1),))
    work.grid.ask(protocol.DISCARD, protocol.content(settled), work.timeout, ["0"])
    assert not (folders["0"] / HEAD_NAME).exists() and not (folders["0"] / VALUES_NAME).exists()
    assert "0" not in work.grid.roster.put_by
    held = digits_of(1).train
    forgotten = next(i for i, label in zip(held.ids, held.labels.tolist(), strict=True) if label != FORGOTTEN)
    target = protocol.Target(request_id="r3", digest="", attempt=1, scope="sample", sample_ids=(forgotten,))
    quarantine = protocol.UnlearnInstruction(targets=(target,), step=0, method=None, seed=SEED)
    content = protocol.content(quarantine, pack(departure.served))
    assert not work.grid.ask(protocol.UNLEARN, content, work.timeout, ["1"]).failed
    assert not (folders["1"] / HEAD_NAME).exists() and not (folders["1"] / VALUES_NAME).exists()
    assert (folders["3"] / HEAD_NAME).exists()


def test_no_id_of_a_sample_stands_in_what_is_kept(departure: Departure) -> None:
    work = of_class(departure)
    states_of(create("reset-and-relearn", **QUICK), work)
    for client in STAYING:
        body = torch.load(departure.folder / "clients" / client / HEAD_NAME, weights_only=True)
        assert set(body) == {"version", "key", "shape", "dtype", "checksum", "answers", "upper_share"}
        assert len(body["key"]) == 64 and body["shape"][0] == len(body["answers"])


def test_a_client_that_does_not_know_the_messages_has_all_train_by_the_apps_own_training(
    departure: Departure, caplog: pytest.LogCaptureFixture
) -> None:
    own = states_of(create("reset-and-relearn", blocks=0, rounds=1, own_training=True), departure.work())
    work = departure.work()
    fail_at(departure, protocol.BLOCKS, "3")
    states = states_of(create("reset-and-relearn", blocks=0, rounds=1), work)
    assert bytes_of(states[-1].arrays) == bytes_of(own[-1].arrays)
    assert "r1: reset-and-relearn trains by the app's own training: client 3 cannot say its blocks" in caplog.text


def test_a_lying_client_moves_the_last_blocks_no_further_than_others_do(departure: Departure) -> None:
    method, work = create("reset-and-relearn", **QUICK), of_class(departure)
    honest = states_of(method, work)[1].arrays
    work = replace(departure.work(), request=work.request, excluded_classes=(FORGOTTEN,), leaving=None)
    poison(departure, protocol.RELEARN, "3", lambda arrays: {**arrays, "4.bias": arrays["4.bias"] + 1e6})
    lied = method.advance(work, method.begin(work)).arrays
    fresh = create("reset-and-relearn", **QUICK, own_training=True).begin(work).arrays
    usual = np.linalg.norm(np.concatenate([(honest[name] - fresh[name]).ravel() for name in UPPER]))
    moved = np.linalg.norm(np.concatenate([(lied[name] - honest[name]).ravel() for name in UPPER]))
    assert 0 < moved < LONGEST_OF_MEDIAN * usual


def test_a_client_whose_samples_are_all_gone_takes_no_part(departure: Departure) -> None:
    work = departure.work()
    store = ClientStore.open(departure.folder / "clients" / "0", digits_of(0).fingerprint)
    store.quarantine("all", digits_of(0).train.ids, 1)
    states = states_of(create("reset-and-relearn", **{**QUICK, "rounds": 1}), work)
    assert states[-1].done and not np.array_equal(states[-1].arrays["4.weight"], departure.served["4.weight"])


def test_a_request_of_a_client_asks_nothing_of_the_model_before(departure: Departure) -> None:
    work = departure.work()
    sent = watched(work)
    states_of(create("reset-and-relearn", **{**QUICK, "rounds": 1}), work)
    [told] = {str(content[protocol.INSTRUCTION_KEY]) for kind, _, content in sent if kind == protocol.RELEARN}
    assert '"distillation":0.0' in told.replace("\\", "").replace(" ", "")
    assert {client for kind, client, _ in sent if kind == protocol.RELEARN} == set(STAYING)
