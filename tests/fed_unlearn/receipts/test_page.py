"""The page says what the receipt says, loads nothing, and fits on one sheet."""

from __future__ import annotations

import base64
import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from page_text import Reader
from receipt_ledgers import opened, relapse, write

from fed_unlearn.receipts import SignedReceipt, issue, receipt_page, sign, verify, wording
from fed_unlearn.receipts.document import Audits, Figure
from fed_unlearn.receipts.words import SENTENCES

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
CHROMIUM = shutil.which("chromium")
WIDTHS = (320, 360, 800, 1280)


@pytest.fixture(scope="module")
def receipts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SignedReceipt]:
    path = write(tmp_path_factory.mktemp("page") / "ledger.db")
    relapse(path, "r2")
    with opened(path) as ledger:
        return {name: issue(ledger, name, KEY) for name in ("r1", "r2", "r3", "r4", "r5")}


def test_a_committed_receipt_is_told_in_words_and_numbers(receipts: dict[str, SignedReceipt]) -> None:
    signed = receipts["r1"]
    text = Reader(receipt_page(signed)).text
    said = signed.receipt
    for expected in (
        "The request was carried out.",
        "that a machine-learning model forget all training data of classes 3 and 1 .",
        "boundary-shrink, 1 attempt",
        "100.0 % (0.0 to 1.6)",  # before: the fixture's interval
        "0.0 % (0.0 to 1.6)",
        "30.0 %",
        "33.3 %",
        "Hidden recall of the class: 0.25 (0.125 to 0.5)",
        "evidence, not proof",
        "The verdict rests on what 3 participants reported.",
        f"fed-unlearn receipt verify {said.file_name} --key receipts.pub",
        signed.signature.key,
        said.ledger,
        said.request_digest,
        said.positions.ended.digest,
        said.positions.head.digest,
        str(said.models.before),
        str(said.models.after),
    ):
        assert expected in text, expected


@pytest.mark.parametrize(
    ("name", "heading", "told"),
    [
        ("r2", "The request was carried out.", "number 2 of this request"),
        ("r3", "The request could not be carried out.", "may still be in it"),
        ("r4", "The request was turned down.", SENTENCES["not-possible"]),
        ("r5", "The request was taken back.", "keeps no data out of training"),
    ],
)
def test_how_it_ended_is_said_plainly(receipts: dict[str, SignedReceipt], name: str, heading: str, told: str) -> None:
    text = Reader(receipt_page(receipts[name])).text
    assert heading in text
    assert told in text
    committed = "took the place of the one before" in text
    assert committed == (receipts[name].receipt.status == "committed")


def test_a_page_loads_nothing_and_runs_nothing(receipts: dict[str, SignedReceipt]) -> None:
    for signed in receipts.values():
        page = receipt_page(signed)
        reader = Reader(page)
        assert not {"script", "link", "img", "iframe", "object", "form"} & set(reader.tags)
        assert all(address.startswith("data:application/json;base64,") for address in reader.addresses)
        assert not re.search(r"url\(|@import|https?:", page)


def test_a_page_carries_the_signed_file(receipts: dict[str, SignedReceipt]) -> None:
    for signed in receipts.values():
        (address,) = Reader(receipt_page(signed)).addresses
        content = base64.b64decode(address.partition(",")[2])
        assert verify(content, KEY.public_key()) == signed


def test_text_of_a_receipt_is_no_markup(receipts: dict[str, SignedReceipt]) -> None:
    told = '<script>alert("r1")</script>&amp;'
    page = receipt_page(sign(receipts["r1"].receipt.model_copy(update={"request": told}), KEY))
    assert "<script" not in page
    assert html.escape(told, quote=False) in page.replace("&#34;", '"')


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        ({"scope": "class", "classes": (3,), "samples": None}, "forget all training data of class 3"),
        ({"scope": "class", "classes": (3, 5, 7), "samples": None}, "forget all training data of classes 3, 5 and 7"),
        ({"scope": "sample", "classes": None, "samples": 1}, "forget 1 sample of one participant's training data"),
        *(
            ({"scope": "sample", "classes": None, "samples": 4, "goal": goal}, expected)
            for goal, expected in {
                None: "forget 4 samples of one participant's training data",
                "misclassify": "misclassify 4 samples of one participant's training data",
                "relabel": "give other labels to 4 samples of one participant's training data",
                "indistinguishable": "treat 4 samples of one participant's training data like samples that it never saw",
            }.items()
        ),
        (
            {"scope": "client", "classes": None, "samples": None},
            "forget everything that one participant contributed to the training",
        ),
    ],
)
def test_what_was_asked_is_told(receipts: dict[str, SignedReceipt], update: dict[str, object], expected: str) -> None:
    assert wording.what_was_asked(receipts["r1"].receipt.model_copy(update=update)) == expected


@pytest.mark.parametrize(
    ("goal", "asked", "made"),
    [
        ("misclassify", "misclassify 2 samples", "made to misclassify these samples"),
        ("relabel", "give other labels to 2 samples", "made to give these samples other labels"),
        ("indistinguishable", "like samples that it never saw", "made to treat these samples like samples that it"),
    ],
)
def test_a_page_says_what_was_asked_of_samples(
    receipts: dict[str, SignedReceipt], goal: str, asked: str, made: str
) -> None:
    update = {"scope": "sample", "classes": None, "samples": 2, "goal": goal}
    text = Reader(receipt_page(sign(receipts["r1"].receipt.model_copy(update=update), KEY))).text
    assert asked in text and made in text
    assert "model forget" not in text and "to forget this" not in text
    assert ("the wrong answers themselves" in text) == (goal != "indistinguishable")


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        ({"evidence": "measured", "witnesses": 1}, "one participant alone"),
        (
            {"evidence": "measured"},
            "before was outside the bounds on forgetting, and the model after is inside. The operator set",
        ),
        ({"evidence": "by construction", "witnesses": None}, "trained anew without the data"),
        ({"evidence": "not measurable", "witnesses": 0}, "Not measurable. The figures cannot tell."),
        ({"evidence": None, "witnesses": None}, "does not say how it is known."),
        ({"status": "failed"}, ""),
    ],
)
def test_how_it_is_known_is_told(receipts: dict[str, SignedReceipt], update: dict[str, object], expected: str) -> None:
    told = wording.how_it_is_known(receipts["r1"].receipt.model_copy(update=update))
    assert told.endswith(expected) or expected in told
    assert (told == "") == (expected == "")


def fullest(signed: SignedReceipt) -> SignedReceipt:
    """A receipt with all that a page can have."""
    figure = Figure(value=0.123456, interval=(0.1, 0.1567))
    names = ("forget_accuracy", "retain_accuracy", "test_forget_accuracy", "test_retain_accuracy", "membership_auc")
    every = dict.fromkeys((*names, *(f"figure_of_some_length_{number}" for number in range(59))), figure)
    body = {
        "audits": Audits(before=every, after=every),
        "classes": tuple(range(100, 125)),
        "reasons": tuple(SENTENCES)[:4],
        "request": "a request with quite a long id, as people give them 2026-01-31/17",
        "method": "m" * 60,
        "number": 12,
        "witnesses": 1,
        "evidence": "not measurable",
    }
    return sign(signed.receipt.model_copy(update=body), KEY)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("name", ["r1", "r3", "r5", "fullest"])
def test_a_page_prints_on_one_sheet_and_fits_narrow_screens(
    receipts: dict[str, SignedReceipt], name: str, tmp_path: Path
) -> None:
    signed = fullest(receipts["r1"]) if name == "fullest" else receipts[name]
    page, printed = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(receipt_page(signed), encoding="utf-8")
    chromium(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={printed}", page.as_uri())
    assert len(re.findall(rb"/Type */Page\b", printed.read_bytes())) == 1
    inside = html.escape(receipt_page(signed))
    frames = [f'<iframe style="width: {width}px; height: 5000px" srcdoc="{inside}"></iframe>' for width in WIDTHS]
    look = """<script>onload = () => document.title = [...document.querySelectorAll("iframe")].map(
        frame => [frame.clientWidth, frame.contentDocument.documentElement.scrollWidth]).join()</script>"""
    page.write_text(f"<!doctype html><title></title><style>iframe {{ border: 0 }}</style>{''.join(frames)}{look}")
    shown = chromium(tmp_path, "--window-size=1400,900", "--dump-dom", page.as_uri())
    found = re.search(r"<title>([0-9,]+)</title>", shown)
    assert found is not None
    assert found.group(1) == ",".join(f"{width},{width}" for width in WIDTHS)


def chromium(folder: Path, *arguments: str) -> str:
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}"]
    done = subprocess.run([str(CHROMIUM), *flags, *arguments], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout
