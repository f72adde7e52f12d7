"""Every sentence of a page is true of the request that it is said of, whatever was asked and however it ended."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from page_text import Reader
from receipt_ledgers import opened, write
from told_receipts import KINDS, told_receipts

from fed_unlearn.evidence import HowKnown
from fed_unlearn.receipts import Receipt, receipt_of, receipt_page, sign
from fed_unlearn.receipts.words import SENTENCES

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
SAMPLES = "4 samples of one participant's training data"
ASKED = {
    "class": "forget all training data of class 3",
    "client": "forget everything that one participant contributed to the training",
    "sample None": f"forget {SAMPLES}",
    "sample misclassify": f"misclassify {SAMPLES}",
    "sample relabel": f"give other labels to {SAMPLES}",
    "sample indistinguishable": f"treat {SAMPLES} like samples that it never saw",
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Receipt, str]]:
    """Text of the pages of all receipts, with what they are of."""
    with opened(write(tmp_path_factory.mktemp("sentences") / "ledger.db")) as ledger:
        some = receipt_of(ledger, "r1")
    return {name: (said, Reader(receipt_page(sign(said, KEY))).text) for name, said in told_receipts(some)}


def test_all_kinds_and_ends_are_told(pages: dict[str, tuple[Receipt, str]]) -> None:
    found = {(said.scope, said.goal, said.status) for said, _ in pages.values()}
    assert len(found) == len(KINDS) * 4 and set(ASKED) == set(KINDS)
    assert {word for said, _ in pages.values() for word in said.reasons} == set(SENTENCES)
    assert {said.evidence for said, _ in pages.values()} == {*map(str, HowKnown), None}


def test_what_was_asked_is_what_is_said_to_be_done(pages: dict[str, tuple[Receipt, str]]) -> None:
    for name, (said, text) in pages.items():
        kind = name.partition(":")[0]
        assert f"asked that a machine-learning model {ASKED[kind]} ." in text, name
        verbs = {"made to forget": None, "made to misclassify": "misclassify", "made to give": "relabel"}
        verbs |= {"made to treat": "indistinguishable"}
        is_new = said.status == "committed" and said.models.before != said.models.after
        assert [goal for verb, goal in verbs.items() if verb in text] == ([said.goal] if is_new else []), name
        assert text.count("forget this") == (is_new and said.goal is None), name


def test_a_model_stayed_or_was_replaced(pages: dict[str, tuple[Receipt, str]]) -> None:
    for name, (said, text) in pages.items():
        is_new = said.models.before != said.models.after
        assert ("took the place of the one before" in text) == is_new, name
        assert ("the model stayed as it was" in text.lower()) == (not is_new), name
        assert ("How well it worked" in text) == is_new, name
        assert ("not put to use" in text) == (said.status == "failed" and bool(said.audits.after)), name
        assert ("last try" in text) == (said.status == "failed" and bool(said.audits.before or said.audits.after)), name


def test_data_is_kept_out_where_it_is(pages: dict[str, tuple[Receipt, str]]) -> None:
    for name, (said, text) in pages.items():
        kept = said.status in ("committed", "failed")
        mislabelled = said.goal in ("misclassify", "relabel")
        assert ("The data is kept out of all later training." in text) == (kept and not mislabelled), name
        assert ("The samples are kept out of all later training under their own" in text) == (kept and mislabelled), (
            name
        )
        assert ("keeps no data out of training" in text) == (not kept and said.number == 1), name
        assert ("had worn off" in text) == (not kept and said.number > 1), name


def test_what_shows_it_is_said_of_committed_requests_alone(pages: dict[str, tuple[Receipt, str]]) -> None:
    for name, (said, text) in pages.items():
        told = {str(known) for known in HowKnown if known.meaning in text}
        assert told == ({said.evidence} - {None} if said.status == "committed" else set()), name
        assert ("does not say how it is known" in text) == (said.status == "committed" and said.evidence is None), name
        assert ("The verdict rests on what" in text) == (said.evidence == "measured" and bool(said.witnesses)), name
        assert "afterwards they did not" not in text and "before, the tests" not in text, name


def test_an_attack_that_tells_all_apart_is_no_good_sign(pages: dict[str, tuple[Receipt, str]]) -> None:
    told = "50 % (0.5) is a mere guess, and 0 % and 100 % tell them apart entirely."
    for name, (said, text) in pages.items():
        assert (told in text) == ("membership_auc" in {**said.audits.before, **said.audits.after}), name
        wrong = said.status == "committed" and said.goal in ("misclassify", "relabel")
        assert ("the wrong answers themselves can show which samples they are" in text) == wrong, name


def test_reasons_are_notes_of_what_was_carried_out(pages: dict[str, tuple[Receipt, str]]) -> None:
    for name, (said, text) in pages.items():
        for word in said.reasons:
            assert f"{'Note' if said.status == 'committed' else 'Why'} {SENTENCES[word]}" in text, name


def test_no_figure_has_a_raw_name(pages: dict[str, tuple[Receipt, str]]) -> None:
    for name, (_, text) in pages.items():
        assert "_" not in text.partition("How to check it")[0], name
