"""The model card: what is in it can be read back, whatever it is called, and nothing of a client is in it."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from canaries import found_in
from markdown_it import MarkdownIt
from sample_results import RESULTS, figures

from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.evidence import HowKnown
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.lifecycle import Status
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, SampleScope
from fed_unlearn.simulations.run.card import card_facts, model_card
from fed_unlearn.simulations.run.card.data_names import data_name, hub_id
from fed_unlearn.simulations.run.card.facts import CardFacts
from fed_unlearn.simulations.run.export import card_beside, export_model
from fed_unlearn.strategies.clients.messages.exchange import Traffic
from fed_unlearn.strategies.outcomes import RequestOutcome

CLIENT = str(uuid.uuid5(uuid.NAMESPACE_OID, "a client of a card"))
IDS = tuple(str(uuid.uuid5(uuid.NAMESPACE_OID, f"sample {number} of a card")) for number in range(3))
INTERVALS = {"forget_accuracy": (0.0, 0.0625), "membership_auc": (0.375, 0.625), "test_retain_accuracy": (0.8, 0.9)}
HOSTILE = "a|b`c``\n# heading\n<script>alert(1)</script> ![x](http://evil.example) **bold** \u202e{{x}} ---"


def _serve(ledger: Ledger, request: ForgetRequest, digest: str, status: Status = Status.COMMITTED) -> None:
    name = ledger.receive(request)
    if status is Status.RECEIVED:
        return
    ledger.advance(name, Status.UNLEARNING, attempt=1, method="boundary-shrink")
    ledger.advance(name, Status.AUDITING, attempt=1)
    outcome = RequestOutcome(
        request=replace(request, id=name),
        method="boundary-shrink",
        status=status,
        attempts=1,
        repair_rounds=1,
        reason=f"client {CLIENT} says so",
        before=figures(1.0, 0.9, 0.95),
        unlearned=None,
        after=replace(figures(0.0, 0.875, 0.0), intervals=INTERVALS),
        seconds=1.0,
        traffic=Traffic(),
        evidence=HowKnown.MEASURED,
    )
    if status is Status.COMMITTED:
        ledger.advance(name, Status.COMMITTING, attempt=1, facts={"digest": digest})
        ledger.commit({name: outcome.to_json()}, digest, attempts={name: 1})
    else:
        ledger.advance(name, Status.ROLLED_BACK, attempt=1)
        ledger.finish(name, status, attempt=1, reason=outcome.reason, outcome=outcome.to_json())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What an app's server leaves: a ledger and its models, without results and scenario."""
    store = CheckpointStore(tmp_path / "server" / "checkpoints")
    digest = store.save({"weight": np.arange(6, dtype=np.float32).reshape(2, 3)})
    with closing(Ledger(tmp_path / "server" / "ledger.db")) as ledger:
        ledger.accept_model(digest, "initial")
        ledger.name_classes(["cat", HOSTILE.replace("\n", " "), "dog"])
        ledger.meet([CLIENT, "other"])
        _serve(ledger, ForgetRequest(ClassScope((1,)), id="r1"), digest)
        _serve(ledger, ForgetRequest(SampleScope(CLIENT, IDS), id="r2"), digest)
        _serve(ledger, ForgetRequest(ClientScope(CLIENT), id="r3"), digest, Status.FAILED)
        _serve(ledger, ForgetRequest(SampleScope(CLIENT, count=1, of_class=2), id="r4"), digest, Status.RECEIVED)
        facts = {"after": "r2", "forget_accuracy/r2": 0.5, "test_forget_accuracy/r1": 0.25, "relapsed/r2": True}
        ledger.note("relapse-audit", facts)
    return tmp_path / "server"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refused(*_: object) -> None:
        raise AssertionError("a model card needs no network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    yield


def _facts(folder: Path, **options: bool) -> CardFacts:
    with closing(Ledger(folder / "ledger.db", create=False)) as ledger:
        return card_facts(folder, ledger, str(ledger.served_model()), "model.safetensors", **options)


def test_a_card_is_read_back_by_the_hub_s_own_library(folder: Path, tmp_path: Path, no_network: None) -> None:
    from huggingface_hub import ModelCard

    digest = export_model(folder, tmp_path / "model.safetensors", card=tmp_path / "README.md")
    card = ModelCard.load(tmp_path / "README.md")
    unlearning = card.data.to_dict()["unlearning"]
    with closing(Ledger(folder / "ledger.db", create=False)) as ledger:
        assert unlearning["ledger"] == ledger.identity
        assert (unlearning["ledger-events"], unlearning["ledger-head"]) == ledger.head()
    assert unlearning["model-sha256"] == digest
    assert [(item["id"], item.get("classes"), item.get("samples")) for item in unlearning["forgotten"]] == [
        ("r1", [1], None),
        ("r2", None, 3),
    ]
    assert [(item["id"], item["status"]) for item in unlearning["not-forgotten"]] == [
        ("r3", "failed"),
        ("r4", "received"),
    ]
    assert unlearning["forgotten"][1]["relapsed"] is True
    values = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert values == {
        "Test accuracy on classes that are not forgotten": 0.865,
        "Test accuracy on the classes that request r1 forgets": 0.25,
    }
    again = tmp_path / "again.md"
    card.save(again)
    assert ModelCard.load(again).data.to_dict() == card.data.to_dict()
    assert card.data.pipeline_tag is None and "image" not in card.text.lower()  # no ledger says what the model reads
    assert card.data.model_name == "model"


def test_a_card_says_in_words_what_was_forgotten_and_what_was_not(folder: Path) -> None:
    text = model_card(_facts(folder))
    assert "has forgotten, on request, class `` a\\|b`c`` # heading" not in text
    assert "3 samples of one client" in text and "1 sample of class `dog` (index 2) of one client" in text
    assert "**2 requests were not fulfilled**" in text
    assert "failed: what the model learned of it remains" in text and "received: it waits" in text
    assert "| 1.000 → 0.000 (0.000 to 0.062) |" in text
    assert "| 0.500 → 0.500 (0.375 to 0.625) |" in text, "the membership attack, with its interval"
    assert "| 0.865 (0.800 to 0.900) |" in text
    assert "**The forgetting of `r2` has worn off since**" in text
    assert "evidence, not a proof" in text


def test_a_relapse_counts_until_a_later_audit_finds_the_request_forgotten(folder: Path) -> None:
    def is_worn_off(**facts: str | float | bool) -> bool:
        with closing(Ledger(folder / "ledger.db")) as ledger:
            ledger.note("relapse-audit", {name.replace("__", "/"): value for name, value in facts.items()})
        return _facts(folder).requests[1].has_relapsed

    assert _facts(folder).requests[1].has_relapsed
    assert is_worn_off(after="train:2", test_forget_accuracy__r1=0.0)  # nobody could read the samples of r2
    assert not is_worn_off(after="train:3", forget_accuracy__r2=0.0)
    assert is_worn_off(after="train:4", forget_accuracy__r2=0.75, relapsed__r2=True)
    assert not is_worn_off(after="r2")  # committed again


def test_nothing_of_a_client_is_in_a_card(folder: Path) -> None:
    card = model_card(_facts(folder)).encode()
    assert found_in({"card": card}, [CLIENT, *IDS, str(folder)]) == []
    assert found_in({"ledger": (folder / "ledger.db").read_bytes()}, [CLIENT]), "the search finds it where it is"


def test_labels_are_text_whatever_is_in_them(folder: Path) -> None:
    import yaml

    text = model_card(_facts(folder))
    head, body = text.removeprefix("---\n").split("\n---\n", 1)
    assert isinstance(yaml.safe_load(head), dict)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    kinds = {token.type for token in tokens}
    kinds |= {child.type for token in tokens for child in token.children or ()}
    assert not kinds & {"html_block", "html_inline", "image", "link_open", "hr", "fence"}
    headings = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    assert len(headings) == 9 and "heading" not in headings
    rows = [[token.type for token in tokens[start:]].index("tr_close") for start in _starts(tokens, "tr_open")]
    assert set(rows) <= {7, 13, 16, 19}, "no cell is cut in two"
    spans = [child.content for token in tokens for child in token.children or () if child.type == "code_inline"]
    assert any("<script>" in span and "a|b`c``" in span for span in spans)
    assert "\u202e" not in text


def _starts(tokens: list[object], kind: str) -> list[int]:
    return [place for place, token in enumerate(tokens) if token.type == kind]  # type: ignore[attr-defined]


def test_labels_can_be_left_out(folder: Path) -> None:
    text = model_card(_facts(folder, labels=False))
    assert "class 1" in text and "class 2 of one client" in text
    assert "dog" not in text and "script" not in text


def test_results_of_a_run_add_its_training_and_oracle(folder: Path) -> None:
    results = replace(RESULTS, requests=(replace(RESULTS.requests[0], oracle=figures(0.125, 0.99)),), input="image")
    results.save(folder)
    (folder / "scenario.toml").write_text(
        '[data]\ndataset = "folder:/home/somebody/faces"\n[clients]\ncount = 7\n[training]\nstrategy = "FedProx"\n'
    )
    facts = _facts(folder)
    assert (facts.name, facts.training.rounds, facts.training.clients) == ("digits", 30, 7)
    assert (facts.training.strategy, facts.training.data) == ("FedProx", "a folder of images")
    text = model_card(facts)
    assert "pipeline_tag: image-classification" in text and "An image classifier" in text
    assert "pipeline_tag: text-classification" in model_card(replace(facts, input="text"))
    assert "| oracle |" in text and "| 0.125 |" in text and "somebody" not in text


def test_a_model_of_later_training_has_the_accuracy_of_that_training(folder: Path) -> None:
    with closing(Ledger(folder / "ledger.db", create=False)) as ledger:
        ledger.accept_model(str(ledger.served_model()), "train:1")
    assert _facts(folder).test_accuracy is None, "nobody has recorded one"
    RESULTS.save(folder)
    assert _facts(folder).test_accuracy == 0.97


@pytest.mark.parametrize(
    ("dataset", "shown", "hub"),
    [
        ("digits", "digits", None),
        ("torchvision:CIFAR10", "torchvision:CIFAR10", None),
        ("folder:/home/me/faces", "a folder of images", None),
        ("hf:uoft-cs/cifar10", "uoft-cs/cifar10", "uoft-cs/cifar10"),
        ("hf:mnist", "mnist", "mnist"),
        ("hf:/home/me/data", "a local data set", None),
        ("hf:../data", "a local data set", None),
        ("hf:tests", "a local data set", None),
        ("my-source:/home/me/x", "my-source", None),
        ("package.module:images", "package.module", None),
    ],
)
def test_no_place_on_this_machine_is_in_the_name_of_the_data(
    dataset: str, shown: str, hub: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    assert (data_name(dataset), hub_id(dataset)) == (shown, hub)


def test_the_card_of_an_upload_is_its_readme_and_others_are_called_as_the_model(tmp_path: Path) -> None:
    assert card_beside(tmp_path / "model.safetensors") == tmp_path / "README.md"
    (tmp_path / "README.md").write_text("mine")
    assert card_beside(tmp_path / "model.safetensors") == tmp_path / "model.md"


def test_a_model_and_its_card_are_written_both_or_neither(folder: Path, tmp_path: Path) -> None:
    model, card, taken = tmp_path / "m.safetensors", tmp_path / "m.md", tmp_path / "taken.md"
    taken.write_text("mine")
    for wrong, told in (
        (taken, "exists already"),
        (tmp_path / "no" / "m.md", "there is no folder"),
        (model, "two names"),
    ):
        with pytest.raises(InvalidModelError, match=told):
            export_model(folder, model, card=wrong)
        assert not model.exists() and taken.read_text() == "mine"
    with pytest.raises(InvalidModelError, match="cannot be written"):
        export_model(folder, model, card=tmp_path / ("x" * 252 + ".md"))
    assert not model.exists() and not card.exists()
    export_model(folder, model, card=card)
    assert model.exists() and card.read_text().startswith("---\n")
