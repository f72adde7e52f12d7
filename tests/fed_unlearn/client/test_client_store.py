import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fed_unlearn.client.store import ClientStore, StoredRequest
from fed_unlearn.errors import FedUnlearnError, InvalidDataError

FINGERPRINT = hashlib.sha256(b"source").hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "clients" / "0"


@pytest.fixture
def store(folder: Path) -> ClientStore:
    return ClientStore(folder, FINGERPRINT)


def on_disk(folder: Path) -> ClientStore:
    """What another process would find."""
    return ClientStore(folder, FINGERPRINT)


def file_of(folder: Path) -> Path:
    [path] = [item for item in folder.iterdir() if item.is_file()]
    return path


def test_every_step_is_on_disk_when_it_returns(store: ClientStore, folder: Path) -> None:
    assert on_disk(folder).excluded_ids() == frozenset()
    store.quarantine("r1", ["a", "b"], 1)
    assert on_disk(folder).get("r1") == StoredRequest(("a", "b"), attempt=1)
    store.set_guard("r1", 1, [7, 4])
    assert on_disk(folder).get("r1") == StoredRequest(("a", "b"), attempt=1, guard_labels=(7, 4))
    store.discard("r1", 1)
    assert on_disk(folder).get("r1") == StoredRequest(("a", "b"), attempt=1)
    store.quarantine("r1", ["a", "b"], 2)
    store.quarantine("r2", ["c"], 1)
    assert on_disk(folder).get("r1") == StoredRequest(("a", "b"), attempt=2)
    assert on_disk(folder).excluded_ids() == {"a", "b", "c"}
    store.confirm("r1", 0)
    assert on_disk(folder).get("r1") == StoredRequest(("a", "b"), attempt=2, tombstoned=True)
    assert on_disk(folder).tombstone_digest() == store.tombstone_digest()
    store.release("r2")
    assert on_disk(folder).get("r2") is None
    assert on_disk(folder).excluded_ids() == {"a", "b"}
    assert [path.name for path in folder.iterdir()] == [file_of(folder).name]


def test_quarantine_twice_keeps_the_guard_of_the_open_attempt(store: ClientStore) -> None:
    store.quarantine("r1", ["a"], 1)
    store.set_guard("r1", 1, [5])
    store.quarantine("r1", ["a"], 1)
    assert store.get("r1") == StoredRequest(("a",), attempt=1, guard_labels=(5,))
    store.quarantine("r1", ["a"], 2)
    assert store.get("r1") == StoredRequest(("a",), attempt=2)


@pytest.mark.parametrize("attempt", [1, 3])
def test_guards_of_another_attempt_are_neither_set_nor_dropped(store: ClientStore, attempt: int) -> None:
    store.quarantine("r1", ["a"], 2)
    store.set_guard("r1", attempt, [9])
    assert store.get("r1") == StoredRequest(("a",), attempt=2)
    store.set_guard("r1", 2, [5])
    store.discard("r1", attempt)
    assert store.get("r1") == StoredRequest(("a",), attempt=2, guard_labels=(5,))


def test_a_discarded_attempt_leaves_its_samples_quarantined(store: ClientStore) -> None:
    store.quarantine("r1", ["a", "b"], 1)
    store.set_guard("r1", 1, [5, 6])
    store.discard("r1", 1)
    store.discard("r1", 1)
    assert store.excluded_ids() == {"a", "b"}


def test_a_committed_request_never_changes_again(store: ClientStore, folder: Path) -> None:
    store.quarantine("r1", ["a"], 1)
    store.set_guard("r1", 1, [5])
    store.confirm("r1", 0.0)
    stored, written = store.get("r1"), file_of(folder).read_bytes()
    assert stored is not None and stored.tombstoned and stored.guard_labels == ()
    store.confirm("r1", 0)
    store.confirm("r1", 900.0)
    store.quarantine("r1", ["z"], 1)
    store.set_guard("r1", 1, [5])
    store.discard("r1", 1)
    store.release("r1")
    assert store.get("r1") == stored
    assert file_of(folder).read_bytes() == written
    assert store.excluded_ids() == {"a"}


def test_a_relapsed_request_is_tried_again_while_its_samples_are_retained(store: ClientStore) -> None:
    store.quarantine("r1", ["a"], 1)
    store.confirm("r1", 2.0)
    committed = store.get("r1")
    store.quarantine("r1", ["z"], 2)
    store.set_guard("r1", 2, [5])
    stored = store.get("r1")
    assert committed is not None and stored is not None
    assert (stored.sample_ids, stored.tombstoned, stored.guard_labels) == (("a",), True, (5,))
    assert stored.audit_until == committed.audit_until, "trying again does not keep the samples longer"
    store.confirm("r1", 900.0)
    assert store.get("r1") == replace(committed, attempt=2)


def test_a_request_that_is_not_here_is_left_out(store: ClientStore, folder: Path) -> None:
    written = file_of(folder).read_bytes()
    store.set_guard("r1", 1, [5])
    store.discard("r1", 1)
    store.release("r1")
    store.confirm("r1", 1.0)
    assert store.get("r1") is None
    assert file_of(folder).read_bytes() == written


def test_a_sample_of_two_requests_stays_out_until_both_let_it_go(store: ClientStore) -> None:
    store.quarantine("r1", ["a", "b"], 1)
    store.quarantine("r2", ["b", "c"], 1)
    store.release("r1")
    assert store.excluded_ids() == {"b", "c"}
    store.release("r1")
    store.release("r2")
    assert store.excluded_ids() == frozenset()


def test_another_source_is_refused(store: ClientStore, folder: Path) -> None:
    store.quarantine("r1", ["a"], 1)
    written = file_of(folder).read_bytes()
    other = hashlib.sha256(b"other").hexdigest()
    for opening in (ClientStore, ClientStore.open):
        with pytest.raises(InvalidDataError, match=f"{FINGERPRINT[:12]}, the client now has {other[:12]}"):
            opening(folder, other)
    assert file_of(folder).read_bytes() == written


def test_the_digest_changes_exactly_with_the_tombstones(store: ClientStore, folder: Path) -> None:
    digests = [store.tombstone_digest()]
    store.quarantine("r1", ["a", "b"], 1)
    store.set_guard("r1", 1, [5, 6])
    store.quarantine("r2", ["c"], 1)
    store.quarantine("r3", ["d"], 1)
    store.discard("r1", 1)
    store.release("r3")
    assert store.tombstone_digest() == digests[0]
    store.confirm("r1", 3.0)
    digests.append(store.tombstone_digest())
    store.confirm("r1", 3.0)
    store.quarantine("r4", ["e"], 1)
    assert store.tombstone_digest() == digests[1] == on_disk(folder).tombstone_digest()
    store.confirm("r2", 0)
    digests.append(store.tombstone_digest())
    assert len(set(digests)) == 3


def test_the_digest_is_that_of_the_ids_whatever_order_they_came_in(folder: Path, tmp_path: Path) -> None:
    first = ClientStore(folder, FINGERPRINT)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / file_of(folder).name).write_bytes(file_of(folder).read_bytes())
    second = ClientStore(copy, FINGERPRINT)
    for store, requests in ((first, {"r1": ["a", "b"], "r2": ["c"]}), (second, {"r2": ["c"], "r1": ["b", "a"]})):
        for request_id, ids in requests.items():
            store.quarantine(request_id, ids, 1)
            store.confirm(request_id, 0)
    assert first.tombstone_digest() == second.tombstone_digest()


def test_two_stores_show_different_digests_for_the_same_ids(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        store = ClientStore(tmp_path / name, FINGERPRINT)
        digests.add(store.tombstone_digest())
        store.quarantine("r1", ["7"], 1)
        store.confirm("r1", 0)
        digests.add(store.tombstone_digest())
    assert len(digests) == 4
    assert hashlib.sha256(json.dumps(["7"]).encode()).hexdigest() not in digests


def test_retention_says_how_long_samples_may_be_audited(store: ClientStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for request_id in ("open", "none", "days"):
        store.quarantine(request_id, [request_id], 1)
    started = time.time()
    store.confirm("none", 0)
    store.confirm("days", 1.5)
    found = {name: store.get(name) for name in ("open", "none", "days")}

    def audited_at(moment: float) -> list[str]:
        monkeypatch.setattr(time, "time", lambda: moment)
        return [name for name, stored in found.items() if stored is not None and stored.may_be_audited()]

    day_and_a_half = 1.5 * 24 * 60 * 60
    assert audited_at(started + 1) == ["open", "days"]
    assert audited_at(started + day_and_a_half - 1) == ["open", "days"]
    assert audited_at(started + day_and_a_half + 60) == ["open"]
    assert store.excluded_ids() == {"open", "none", "days"}


WHOLE = {"version": 1, "fingerprint": FINGERPRINT, "key": "00ff", "requests": {}}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        json.dumps({**WHOLE, "version": 99}),
        json.dumps({**WHOLE, "requests": {"r1": {}}}),
        json.dumps({**WHOLE, "requests": {"r1": 5}}),
        json.dumps({**WHOLE, "requests": {"r1": {"sample_ids": [], "guard_labels": [], "attempt": 1, "more": 2}}}),
        json.dumps({**WHOLE, "requests": []}),
        json.dumps({**WHOLE, "key": "not hexadecimal"}),
        json.dumps({**WHOLE, "key": 5}),
    ],
)
def test_a_damaged_file_is_named_and_left_alone(store: ClientStore, folder: Path, content: str) -> None:
    path = file_of(folder)
    path.write_text(content)
    with pytest.raises(FedUnlearnError, match=path.name):
        ClientStore(folder, FINGERPRINT).tombstone_digest()
    assert path.read_text() == content


def test_a_file_cut_short_is_named(store: ClientStore, folder: Path) -> None:
    store.quarantine("r1", ["a"], 1)
    path = file_of(folder)
    path.write_bytes(path.read_bytes()[:-9])
    for opening in (ClientStore, ClientStore.open):
        with pytest.raises(FedUnlearnError, match="not a client's store"):
            opening(folder, FINGERPRINT)


def test_open_sees_what_another_instance_changed(folder: Path) -> None:
    opened = ClientStore.open(folder, FINGERPRINT)
    assert ClientStore.open(folder, FINGERPRINT) is opened
    opened.quarantine("r1", ["a"], 1)
    assert ClientStore.open(folder, FINGERPRINT) is opened
    other = ClientStore(folder, FINGERPRINT)
    other.quarantine("r2", ["b"], 1)
    assert ClientStore.open(folder, FINGERPRINT).excluded_ids() == {"a", "b"}
    other.confirm("r2", 0)
    assert ClientStore.open(folder, FINGERPRINT).tombstone_digest() == other.tombstone_digest()
