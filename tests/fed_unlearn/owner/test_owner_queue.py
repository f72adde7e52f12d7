"""The queue of a client's owner: on disk before anything is said, and one change at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from fed_unlearn.errors import FedUnlearnError, InvalidRequestError
from fed_unlearn.owner import OwnerAnswer, OwnerQueue, OwnerRequest, new_request
from fed_unlearn.owner.queue import FILE

LEDGER = "1b0e7b52-6d0c-4f0e-8f0e-3d6a0f6f6f6f"


def answered(request_id: str, status: str, **more: object) -> OwnerAnswer:
    return OwnerAnswer.model_validate({"owner_request": request_id, "status": status, **more})


def found(request: OwnerRequest) -> OwnerRequest:
    return request


def test_what_was_queued_is_there_in_another_process_and_only_the_owner_can_read_it(tmp_path: Path) -> None:
    request_id = OwnerQueue(tmp_path).add(new_request("samples", ["a", "b"], goal="misclassify", note="mine"))
    [request] = OwnerQueue(tmp_path).requests()
    assert (request.id, request.sample_ids, request.count, request.note) == (request_id, ("a", "b"), 2, "mine")
    assert os.stat(tmp_path / FILE).st_mode & 0o777 == 0o600


def _add(folder: Path, count: int) -> None:
    for _ in range(count):
        OwnerQueue(folder).add(new_request("class", of_class=1))


def test_several_processes_that_queue_at_once_lose_nothing(tmp_path: Path) -> None:
    started = [multiprocessing.get_context("fork").Process(target=_add, args=(tmp_path, 5)) for _ in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join(30)
    assert [process.exitcode for process in started] == [0] * 4
    assert len({request.id for request in OwnerQueue(tmp_path).requests()}) == 20


def test_a_write_that_fails_queues_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = OwnerQueue(tmp_path)
    queue.add(new_request("class", of_class=1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FedUnlearnError, match="nothing was queued"):
        queue.add(new_request("class", of_class=2))
    monkeypatch.undo()
    assert [request.of_class for request in OwnerQueue(tmp_path).requests()] == [1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, "owner.lock"]


@pytest.mark.parametrize(
    "body", ["", "{", "[]", '{"version": 2, "requests": []}', '{"version": 1, "requests": [{"id": "secret-name"}]}']
)
def test_a_damaged_file_is_named_without_what_is_in_it(tmp_path: Path, body: str) -> None:
    (tmp_path / FILE).write_text(body)
    with pytest.raises(FedUnlearnError, match="not an owner's queue") as caught:
        OwnerQueue(tmp_path).requests()
    assert "secret-name" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"of_class": -1},
        {"of_class": 2**40},
        {"deadline": float("inf")},
        {"deadline": float("nan")},
        {"deadline": -62135600000.0},
    ],
)
def test_what_no_server_would_take_is_not_queued(tmp_path: Path, given: dict[str, int]) -> None:
    with pytest.raises(InvalidRequestError, match="nothing was queued"):
        OwnerQueue(tmp_path).add(new_request("class", **given))
    assert not (tmp_path / FILE).exists()


def test_after_all_nothing_less_is_queued(tmp_path: Path) -> None:
    queue = OwnerQueue(tmp_path)
    everything = queue.add(new_request("all"))
    with pytest.raises(InvalidRequestError, match="all of this client"):
        queue.add(new_request("class", of_class=1))
    queue.withdraw(everything)
    queue.add(new_request("class", of_class=1))


def test_samples_are_out_of_training_until_the_request_has_come_to_nothing(tmp_path: Path) -> None:
    queue = OwnerQueue(tmp_path)
    first, second = queue.add(new_request("samples", ["a"])), queue.add(new_request("samples", ["b"]))
    queue.check(found)
    assert queue.excluded_ids() == {"a", "b"}
    queue.to_be_told(LEDGER, again=False)
    for status in ("received", "held", "unlearning", "failed"):
        queue.hear(LEDGER, [answered(first, status)])
        assert "a" in queue.excluded_ids(), status
    queue.hear(LEDGER, [answered(second, "rejected")])
    assert queue.excluded_ids() == {"a"}
    assert queue.find(second).sample_ids == ("b",), "another server may still have to forget them"


def test_two_servers_are_told_and_samples_stay_out_while_one_serves(tmp_path: Path) -> None:
    queue = OwnerQueue(tmp_path)
    request_id = queue.add(new_request("samples", ["a"]))
    queue.check(found)
    for ledger in ("x", "y"):
        assert [request.id for request in queue.to_be_told(ledger, again=False)] == [request_id]
    queue.hear("x", [answered(request_id, "refused", reason="too many")])
    assert queue.excluded_ids() == {"a"} and not queue.find(request_id).is_over
    assert queue.to_be_told("x", again=True) == []
    queue.hear("y", [answered(request_id, "committed")])
    assert queue.excluded_ids() == {"a"} and queue.find(request_id).is_over


def test_a_server_that_answers_first_does_not_end_it_for_the_others(tmp_path: Path) -> None:
    queue = OwnerQueue(tmp_path)
    before = queue.add(new_request("samples", ["a"]))
    queue.check(found)
    assert len(queue.to_be_told("x", again=False)) == 1
    queue.hear("x", [answered(before, "refused")])
    after = queue.add(new_request("samples", ["b"]))
    queue.check(found)
    assert [request.id for request in queue.to_be_told("y", again=False)] == [after]
    queue.to_be_told("x", again=False)
    third = queue.add(new_request("samples", ["c"]))
    queue.to_be_told("x", again=False)
    queue.hear("x", [answered(after, "committed"), answered(third, "rejected")])
    told = queue.to_be_told("y", again=False)
    assert [(request.id, request.sample_ids) for request in told] == [(after, ("b",)), (third, ("c",))]


def test_a_new_ledger_is_not_told_of_what_ended_before_it(tmp_path: Path) -> None:
    queue = OwnerQueue(tmp_path)
    ended = queue.add(new_request("samples", ["a"]))
    queue.to_be_told("old", again=False)
    queue.hear("old", [answered(ended, "committed")])
    assert queue.to_be_told("new", again=True) == [] and queue.excluded_ids() == {"a"}


def test_withdrawn_before_any_server_heard_of_it_nobody_is_told(tmp_path: Path) -> None:
    queue = OwnerQueue(tmp_path)
    request_id = queue.add(new_request("samples", ["a"]))
    assert queue.withdraw(request_id).is_over
    assert queue.to_be_told(LEDGER, again=True) == [] and not queue.excluded_ids()


def test_withdrawn_while_a_server_may_know_of_it_it_is_told_until_it_answers(tmp_path: Path) -> None:
    queue = OwnerQueue(tmp_path)
    request_id = queue.add(new_request("samples", ["a"]))
    queue.check(found)
    queue.to_be_told(LEDGER, again=False)
    assert not queue.withdraw(request_id).is_over
    assert queue.excluded_ids() == {"a"}
    assert [request.as_queued().state for request in queue.to_be_told(LEDGER, again=False)] == ["withdrawn"]
    queue.hear(LEDGER, [answered(request_id, "received")])
    assert [request.id for request in queue.to_be_told(LEDGER, again=False)] == [request_id]
    queue.hear(LEDGER, [answered(request_id, "withdrawn")])
    assert queue.to_be_told(LEDGER, again=True) == [] and not queue.excluded_ids()
    assert queue.find(request_id).sample_ids == (), "nobody needs them any more"


def test_what_has_ended_cannot_be_withdrawn(tmp_path: Path) -> None:
    queue = OwnerQueue(tmp_path)
    request_id = queue.add(new_request("samples", ["a"]))
    queue.to_be_told(LEDGER, again=False)
    queue.hear(LEDGER, [answered(request_id, "committed")])
    with pytest.raises(InvalidRequestError, match="has ended: committed"):
        queue.withdraw(request_id)
    with pytest.raises(InvalidRequestError, match="not queued"):
        queue.withdraw("0" * 16)


def test_an_open_request_is_told_again_where_the_ledger_may_be_an_older_copy(tmp_path: Path) -> None:
    queue = OwnerQueue(tmp_path)
    request_id = queue.add(new_request("class", of_class=3))
    queue.to_be_told(LEDGER, again=False)
    queue.hear(LEDGER, [answered(request_id, "held")])
    assert queue.to_be_told(LEDGER, again=False) == []
    assert [request.id for request in queue.to_be_told(LEDGER, again=True)] == [request_id]


def test_answers_to_what_is_not_queued_here_are_acknowledged_and_not_kept(tmp_path: Path) -> None:
    queue = OwnerQueue(tmp_path)
    queue.add(new_request("class", of_class=3))
    before = (tmp_path / FILE).read_bytes()
    stranger = answered("f" * 16, "committed")
    assert queue.hear(LEDGER, [stranger]) == [stranger.digest()]
    assert (tmp_path / FILE).read_bytes() == before


def test_what_a_server_is_told_has_no_sample(tmp_path: Path) -> None:
    queue = OwnerQueue(tmp_path)
    queue.add(new_request("samples", ["canary-1", "canary-2"], note="canary-3"))
    [request] = queue.to_be_told(LEDGER, again=False)
    told = json.loads(request.as_queued().model_dump_json())
    assert told.pop("owner_request") == request.id
    assert {name: value for name, value in told.items() if value} == {"kind": "samples", "count": 2, "state": "asked"}


def test_ids_are_erased_when_they_are_tombstoned_and_nobody_asks_for_them(tmp_path: Path) -> None:
    queue = OwnerQueue(tmp_path)
    early = queue.add(new_request("samples", ["z"]))
    for ledger in ("x", "y"):  # both are known before the next request is queued
        queue.to_be_told(ledger, again=False)
    request_id = queue.add(new_request("samples", ["a", "b"]))
    queue.check(found)
    queue.to_be_told("x", again=False)

    def erased(*tombstoned: str) -> bool:
        queue.erase_forgotten(lambda: tombstoned)
        return not OwnerQueue(tmp_path).find(request_id).sample_ids

    queue.hear("x", [answered(request_id, "unlearning")])
    assert not erased("a", "b"), "not ended"
    queue.hear("x", [answered(request_id, "committed")])
    assert not erased("a", "b"), "the other server has not heard of it"
    assert [request.sample_ids for request in queue.to_be_told("y", again=False)][-1] == ("a", "b")
    assert not erased("a", "b"), "nor answered"
    queue.hear("y", [answered(request_id, "rejected")])
    assert not erased("a"), "nothing else would keep it out of training"
    assert erased("a", "b", "c")
    request = queue.find(request_id)
    assert (request.count, request.status_at("x"), request.is_over) == (2, "committed", True)
    assert queue.find(early).sample_ids == ("z",)
    assert queue.to_be_told("new", again=True) == [queue.find(early)]


@pytest.mark.parametrize("status", ["failed", "rejected", "refused", "withdrawn", "held"])
def test_ids_without_a_commit_stay(tmp_path: Path, status: str) -> None:
    queue = OwnerQueue(tmp_path)
    request_id = queue.add(new_request("samples", ["a"]))
    queue.to_be_told(LEDGER, again=False)
    queue.hear(LEDGER, [answered(request_id, status)])
    queue.erase_forgotten(lambda: ["a"])
    assert queue.find(request_id).sample_ids == ("a",)


def test_a_lock_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "owner.lock").mkdir()
    with pytest.raises(FedUnlearnError, match="chown it to the node"):
        OwnerQueue(tmp_path).add(new_request("all"))
