"""What a receipt says is what the ledger says, and nothing of anybody in it."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from canaries import forms_of, found_in
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from receipt_ledgers import CLIENTS, MODELS, PERSONAL, SAMPLES, commit, opened, relapse, write

from fed_unlearn.audits.base import Figures
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.evidence import HowKnown
from fed_unlearn.ledger.lifecycle import FINAL, Status
from fed_unlearn.receipts import Receipt, issue, receipt_file_name, receipt_of, receipt_page
from fed_unlearn.receipts import document as receipt_document
from fed_unlearn.receipts.names import may_be_shown
from fed_unlearn.requests import ForgetRequest


@pytest.fixture
def ledger_file(tmp_path: Path) -> Path:
    return write(tmp_path / "ledger.db")


def test_a_receipt_says_what_the_ledger_says(ledger_file: Path) -> None:
    with opened(ledger_file) as ledger:
        found = receipt_of(ledger, "r1")
        events = {(event.request_id, event.name): event for event in ledger.events()}
        assert found.ledger == ledger.identity
        assert (found.positions.head.sequence, found.positions.head.digest) == ledger.head()
    asked, ended = events["r1", "received"], events["r1", "committed"]
    assert (found.positions.received.sequence, found.positions.received.digest) == (asked.sequence, asked.digest)
    assert (found.positions.ended.sequence, found.positions.ended.digest) == (ended.sequence, ended.digest)
    assert found.request_digest == asked.facts["request"]
    assert datetime.fromisoformat(found.asked) == datetime.fromtimestamp(asked.time, UTC)
    assert datetime.fromisoformat(found.ended) == datetime.fromtimestamp(ended.time, UTC)
    assert (found.request, found.scope, found.classes, found.samples) == ("r1", "class", (3, 1), None)
    assert (found.status, found.method, found.attempts, found.number) == ("committed", "boundary-shrink", 1, 1)
    assert (found.evidence, found.witnesses, found.reasons, found.supersedes) == ("measured", 3, (), None)
    assert (found.models.before, found.models.after) == (MODELS[0], MODELS[1])


def test_figures_are_those_of_the_outcome_and_no_others(ledger_file: Path) -> None:
    with opened(ledger_file) as ledger:
        after = receipt_of(ledger, "r1").audits.after
    assert {name: figure.value for name, figure in after.items()} == {
        "forget_accuracy": 0.0,
        "retain_accuracy": 0.98,
        "test_retain_accuracy": 0.1 + 0.2,
        "membership_auc": 1 / 3,
        "recall_at_5": 0.25,
    }
    assert after["forget_accuracy"].interval == (0.0, 0.015625)
    assert after["recall_at_5"].interval == (0.125, 0.5)
    assert after["membership_auc"].interval is None


def test_requests_of_one_commit_have_its_models(ledger_file: Path) -> None:
    with opened(ledger_file) as ledger:
        models = {name: receipt_of(ledger, name).models for name in ("r1", "r2", "r3", "r4", "r5")}
    assert {(models[name].before, models[name].after) for name in ("r1", "r2")} == {(MODELS[0], MODELS[1])}
    assert {(models[name].before, models[name].after) for name in ("r3", "r4", "r5")} == {(MODELS[1], MODELS[1])}


def test_what_did_not_end_well_says_so_in_closed_words(ledger_file: Path) -> None:
    with opened(ledger_file) as ledger:
        failed, rejected, withdrawn = (receipt_of(ledger, name) for name in ("r3", "r4", "r5"))
    assert (failed.status, failed.reasons, failed.evidence) == ("failed", ("still-known",), None)
    assert (failed.scope, failed.samples, failed.goal) == ("sample", 2, "misclassify")
    assert failed.method == "boundary-shrink"
    assert (rejected.status, rejected.reasons, rejected.method, rejected.attempts) == (
        "rejected",
        ("not-possible",),
        None,  # nothing was tried, and the requester's word for it is a client's name
        0,
    )
    assert (withdrawn.status, withdrawn.reasons, withdrawn.audits.after) == ("withdrawn", (), {})


GOALS = ("misclassify", "relabel", "indistinguishable")


@pytest.mark.parametrize(
    ("asked", "said", "expected"),
    [
        *((None, goal, goal) for goal in GOALS),
        *((goal, None, goal) for goal in GOALS),
        ("misclassify", "relabel", "relabel"),  # a later method in the plan may know another goal
        (None, None, None),
        (None, "for st-vincent", None),
        ("for st-vincent", None, None),
    ],
)
def test_the_goal_of_samples_is_told(tmp_path: Path, asked: str | None, said: str | None, expected: str | None) -> None:
    parameters = {} if asked is None else {"goal": asked}
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.accept_model(MODELS[0], "initial")
        ledger.receive(ForgetRequest.for_samples("st-vincent", SAMPLES, **parameters))
        commit(ledger, ["r1"], MODELS[1], **({} if said is None else {"goal": said}))
        assert receipt_of(ledger, "r1").goal == expected
        ledger.receive(ForgetRequest.for_samples("st-vincent", SAMPLES[:1], **parameters))
        ledger.withdraw("r2")
        assert receipt_of(ledger, "r2").goal == (asked if asked in GOALS else None)


def test_the_goal_of_samples_is_that_of_each_end(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.receive(ForgetRequest.for_samples("st-vincent", SAMPLES))
        commit(ledger, ["r1"], MODELS[1], goal="misclassify")
        ledger.advance("r1", Status.REOPENED, attempt=1)
        commit(ledger, ["r1"], MODELS[2], attempt=2, goal="misclassify")
        assert [receipt_of(ledger, "r1", number=number).goal for number in (1, 2)] == ["misclassify"] * 2


def test_classes_and_clients_have_no_goal(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger.db") as ledger:
        ledger.receive(ForgetRequest.for_class(3, goal="misclassify"))
        commit(ledger, ["r1"], MODELS[1], goal="misclassify")
        assert receipt_of(ledger, "r1").goal is None


@pytest.mark.parametrize("name", ["r6", "r7"])
def test_there_is_no_receipt_of_what_has_not_ended(ledger_file: Path, name: str) -> None:
    with opened(ledger_file) as ledger, pytest.raises(InvalidRequestError, match=name):
        receipt_of(ledger, name)


def test_a_request_that_ended_twice_has_two_receipts(ledger_file: Path) -> None:
    with opened(ledger_file) as ledger:
        as_it_was = receipt_of(ledger, "r1")
    relapse(ledger_file)
    with opened(ledger_file) as ledger:
        first, second = (receipt_of(ledger, "r1", number=number) for number in (1, 2))
        assert receipt_of(ledger, "r1").number == 2
        names = [receipt_file_name(ledger, "r1", number) for number in (1, 2)]
        with pytest.raises(InvalidRequestError, match="ended 2 times"):
            receipt_of(ledger, "r1", number=3)
    assert names == ["r1.json", "r1.2.json"] == [first.file_name, second.file_name]
    assert second.supersedes == first.positions.ended.digest
    assert (second.models.before, second.models.after) == (MODELS[1], MODELS[2])
    assert second.audits.after["forget_accuracy"].value == 0.0625
    # The outcome of the first end was replaced; its events still have the figures after it.
    assert (first.models, first.asked, first.ended) == (as_it_was.models, as_it_was.asked, as_it_was.ended)
    assert first.audits.before == {}
    assert first.audits.after["forget_accuracy"].value == as_it_was.audits.after["forget_accuracy"].value
    assert first.evidence == "measured"


def test_nobody_stands_in_a_receipt_or_on_its_page(ledger_file: Path) -> None:
    relapse(ledger_file)
    with opened(ledger_file) as ledger:
        for name in ("for-mary-st-vincent", "WARD-9/2026", "angela", "Scan-17-of-Mary:x"):
            ledger.receive(ForgetRequest.for_samples("st-vincent", SAMPLES, id=name))
            ledger.withdraw(name)
        key, contents = Ed25519PrivateKey.generate(), {}
        for entry in ledger.entries():
            for ending in ledger.endings(entry.id):
                signed = issue(ledger, entry.id, key, number=ending.number)
                contents[f"{entry.id}.{ending.number}"] = signed.content.lower()
                contents[f"page of {entry.id}.{ending.number}"] = receipt_page(signed).lower().encode()
    assert len(contents) == 2 * 10
    assert not found_in(contents, PERSONAL)
    assert found_in({"control": forms_of(CLIENTS[0])["raw"]}, PERSONAL)


def test_a_name_in_an_id_becomes_a_reference(ledger_file: Path) -> None:
    with opened(ledger_file) as ledger:
        ledger.receive(ForgetRequest.for_class(2, id="mail-of-st-vincent"))
        ledger.withdraw("mail-of-st-vincent")
        found = receipt_of(ledger, "mail-of-st-vincent")
        assert (found.named_by, found.request) == ("reference", ledger.client_reference("mail-of-st-vincent"))


@pytest.mark.parametrize(
    ("request_id", "names", "shown"),
    [
        ("r12", ["1", "2", "12"], True),
        ("delete-12", ["1", "2"], True),
        ("delete-12", ["12"], False),
        ("delete_12", ["12"], False),
        ("mary", ["mary"], False),
        ("for-MARY", ["mary"], False),
        ("rosemary7", ["mary"], False),
        ("bob7", ["bob"], True),
        ("a-jose\u0301", ["jos\u00e9"], False),
        ("for-\uff4d\uff41\uff52\uff59", ["mary"], False),
        ("straße-1", ["STRASSE"], False),
        ("aa-a", ["a"], False),
        ("aaa", ["a"], True),
        ("a b", [], True),
        ("a\nb", [], False),
        ("x" * 101, [], False),
        ("\u202eabc", [], False),
    ],
)
def test_which_ids_can_be_shown(request_id: str, names: list[str], shown: bool) -> None:
    assert may_be_shown(request_id, names) is shown


@given(st.sampled_from(CLIENTS), st.text(max_size=5), st.text(max_size=5))
def test_no_id_with_a_long_name_in_it_is_shown(name: str, before: str, after: str) -> None:
    assert not may_be_shown(f"{before}{name.upper()}{after}", CLIENTS)


def test_names_of_files_differ_and_stay_in_their_folder() -> None:
    requests = ["r1", "r1.2", "../r1", "R 1", "id-5", "", "é", "r1\0", "/etc/passwd", "con", "a" * 200]
    names = [receipt_document.file_name(request, number) for request in requests for number in (1, 2)]
    assert len(set(names)) == len(names)
    assert all(Path(name).name == name and name.isascii() and not name.startswith(".") for name in names)


def test_a_receipt_has_the_words_of_the_library() -> None:
    fields = Receipt.model_fields
    assert set(receipt_document.Status.__args__) == {str(status) for status in FINAL}
    assert set(receipt_document.HowKnown.__args__) == {str(known) for known in HowKnown}
    assert set(receipt_document.FIGURES) < set(Figures.__dataclass_fields__)
    assert not {"client", "clients", "reason", "sample_ids"} & set(fields)


def test_importing_costs_no_torch() -> None:
    code = "import sys, fed_unlearn.receipts; print(sorted({'torch', 'flwr', 'numpy', 'jinja2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
