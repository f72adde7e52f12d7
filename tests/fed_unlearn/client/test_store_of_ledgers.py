"""One store, several ledgers: each has its own requests and digest, and what one forgot is forgotten for all."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest

from fed_unlearn.client.store import ClientStore
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.protocol import asked_digest
from fed_unlearn.requests import ForgetRequest

FINGERPRINT = hashlib.sha256(b"source").hexdigest()
KEY = "ab" * 32
FIRST, SECOND = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def digest_of(ids: list[str]) -> str:
    return hmac.new(bytes.fromhex(KEY), json.dumps(sorted(ids)).encode(), hashlib.sha256).hexdigest()


def store_of(folder: Path, ledger: str = "") -> ClientStore:
    return ClientStore.open(folder, FINGERPRINT, ledger)


@pytest.fixture
def old_store(tmp_path: Path) -> Path:
    """A store as version 1 wrote it: r1 is committed, r2 failed."""
    entry = {"attempt": 1, "guard_labels": [], "audit_until": 0.0}
    requests = {
        "r1": {**entry, "sample_ids": ["a", "b"], "tombstoned": True},
        "r2": {**entry, "sample_ids": ["c"], "tombstoned": False},
    }
    body = {"version": 1, "fingerprint": FINGERPRINT, "key": KEY, "requests": requests}
    (tmp_path / "state.json").write_text(json.dumps(body))
    return tmp_path


def test_two_ledgers_have_requests_of_one_id(tmp_path: Path) -> None:
    store_of(tmp_path, FIRST).quarantine("r1", ["a", "b"], 1)
    store_of(tmp_path, FIRST).confirm("r1", 0)
    first = store_of(tmp_path, FIRST).tombstone_digest()
    second = store_of(tmp_path, SECOND)
    assert second.get("r1") is None and second.tombstone_digest() != first
    second.quarantine("r1", ["c"], 1)
    second.confirm("r1", 0)
    assert store_of(tmp_path, FIRST).tombstone_digest() == first  # the other's tombstones are none of its own
    assert store_of(tmp_path, SECOND).excluded_ids() == store_of(tmp_path, FIRST).excluded_ids() == {"a", "b", "c"}
    assert [store_of(tmp_path, name).requested_count() for name in (FIRST, SECOND)] == [2, 1]


def test_release_lifts_only_the_quarantine_of_its_own_ledger(tmp_path: Path) -> None:
    store_of(tmp_path, FIRST).quarantine("r1", ["a"], 1)
    store_of(tmp_path, SECOND).quarantine("r1", ["b"], 1)
    store_of(tmp_path, SECOND).release("r1")
    assert store_of(tmp_path, FIRST).excluded_ids() == {"a"}


def test_another_question_under_the_same_id_is_refused_in_words(tmp_path: Path) -> None:
    store = store_of(tmp_path, FIRST)
    store.quarantine("r1", ["a"], 1, asked_digest(ForgetRequest.for_class(3)))
    with pytest.raises(InvalidRequestError, match="asked for something else here before"):
        store.get("r1", asked_digest(ForgetRequest.for_class(5)))
    with pytest.raises(InvalidRequestError, match="new id"):
        store.quarantine("r1", ["b"], 2, asked_digest(ForgetRequest.for_class(5)))
    assert store.excluded_ids() == {"a"}


def test_what_another_ledger_forgot_can_be_asked_for_while_it_may_be_read(tmp_path: Path) -> None:
    for name, days in (("kept", 1.0), ("gone", 0.0)):
        store_of(tmp_path, FIRST).quarantine(name, [name], 1)
        store_of(tmp_path, FIRST).confirm(name, days)
    assert store_of(tmp_path, FIRST).unusable_ids() == {"kept", "gone"}
    assert store_of(tmp_path, SECOND).unusable_ids() == {"gone"}


def test_an_old_store_stays_in_force_and_belongs_to_nobody(old_store: Path) -> None:
    store = store_of(old_store, FIRST)
    assert store.excluded_ids() == {"a", "b", "c"}
    assert store.get("r1") is None and store.tombstone_digest() == digest_of([])
    assert store_of(old_store).tombstone_digest() == digest_of(["a", "b"])  # a server that names no ledger
    store.quarantine("r9", ["d"], 1)
    assert json.loads((old_store / "state.json").read_text())["version"] == 2
    assert ClientStore(old_store, FINGERPRINT, SECOND).excluded_ids() == {"a", "b", "c", "d"}


def test_a_ledger_that_knows_the_old_tombstones_owns_them(old_store: Path) -> None:
    stranger = store_of(old_store, SECOND)
    stranger.claim_all(digest_of(["a"]))
    assert stranger.requested_count() == 0
    store = store_of(old_store, FIRST)
    store.claim_all(digest_of(["a", "b"]))
    assert store.tombstone_digest() == digest_of(["a", "b"])
    assert store.requested_count() == 3 and store.unclaimed("r2") is None


def test_tombstones_that_were_not_heard_of_do_not_hide_whose_the_others_are(tmp_path: Path) -> None:
    entry = {"attempt": 1, "guard_labels": [], "audit_until": 0.0, "tombstoned": True}
    requests = {"r1": {**entry, "sample_ids": ["a"]}, "r2": {**entry, "sample_ids": ["b"]}}
    body = {"version": 1, "fingerprint": FINGERPRINT, "key": KEY, "requests": requests}
    (tmp_path / "state.json").write_text(json.dumps(body))
    store = store_of(tmp_path, FIRST)
    store.claim_all(digest_of(["a"]), ["r2"])
    assert store.tombstone_digest(["r2"]) == digest_of(["a"]) and store.get("r1") is not None
    assert store.unclaimed("r2") is not None


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (ForgetRequest.for_samples(1, ["b", "a"], id="else", method="delete", priority=3), True),
        (ForgetRequest.for_samples(1, ["a", "c"]), False),
        (ForgetRequest.for_samples(2, ["a", "b"]), False),
        (ForgetRequest.for_samples(1, count=2), False),
    ],
)
def test_the_digest_is_of_what_is_asked(other: ForgetRequest, is_same: bool) -> None:
    asked = ForgetRequest.for_samples(1, ["a", "b"], id="r1")
    assert (asked_digest(asked) == asked_digest(other)) is is_same
    assert (asked_digest(asked, b"secret") == asked_digest(other, b"secret")) is is_same


def test_an_owners_digest_tells_nobody_without_the_secret_which_samples_it_is_of() -> None:
    asked = ForgetRequest.for_samples(1, ["7"])
    guesses = {asked_digest(ForgetRequest.for_samples(1, [str(number)])) for number in range(100)}
    assert asked_digest(asked) in guesses and asked_digest(asked, b"secret") not in guesses
    assert asked_digest(asked, b"secret") != asked_digest(asked, b"another")
