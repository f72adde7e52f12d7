"""The written schema takes what is issued, and nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jsonschema import Draft202012Validator
from receipt_ledgers import opened, relapse, write

from fed_unlearn import receipts
from fed_unlearn.receipts import RefusedReceiptError, issue, read_receipt
from fed_unlearn.receipts import document as receipt_document
from fed_unlearn.receipts.words import SENTENCES, ReasonWord

SCHEMA = json.loads(files(receipts).joinpath("receipt-1.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = write(tmp_path_factory.mktemp("schema") / "ledger.db")
    relapse(path)
    key = Ed25519PrivateKey.generate()
    with opened(path) as ledger:
        ended = [(name, end.number) for name in ("r1", "r2", "r3", "r4", "r5") for end in ledger.endings(name)]
        return [json.loads(issue(ledger, name, key, number=number).content) for name, number in ended]


def test_the_schema_is_one(issued: list[dict[str, Any]]) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert len(issued) == 6


def test_what_is_issued_is_accepted(issued: list[dict[str, Any]]) -> None:
    for body in issued:
        assert [error.message for error in VALIDATOR.iter_errors(body)] == []


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "an unknown field": lambda body: body["receipt"].update(client="mary"),
    "a free reason": lambda body: body["receipt"].update(reason="mary has left"),
    "a reason of another word": lambda body: body["receipt"].update(reasons=["mary has left"]),
    "a label": lambda body: body["receipt"].update(classes=["angela"]),
    "another goal": lambda body: body["receipt"].update(goal="hide mary"),
    "sample ids": lambda body: body["receipt"].update(samples=["scan-17"]),
    "a curve": lambda body: body["receipt"]["audits"]["after"]["forget_accuracy"].update(curve=[[0, 0]]),
    "a count by client": lambda body: body["receipt"]["audits"]["after"].update(clients={"mary": 3}),
    "a local time": lambda body: body["receipt"].update(asked="2026-01-31T12:00:00.000000+01:00"),
    "a date": lambda body: body["receipt"].update(ended="2026-01-31"),
    "another version": lambda body: body["receipt"].update(version=2),
    "a status on the way": lambda body: body["receipt"].update(status="unlearning"),
    "capital digits": lambda body: body["signature"].update(key="A" * 64),
    "a short signature": lambda body: body["signature"].update(value="0" * 126),
    "another algorithm": lambda body: body["signature"].update(algorithm="none"),
    "event 0": lambda body: body["receipt"]["positions"]["ended"].update(sequence=0),
    "a text for a number": lambda body: body["receipt"].update(attempts="1"),
    "half of an interval": lambda body: body["receipt"]["audits"]["after"]["forget_accuracy"].update(interval=[0.0]),
    "a path for a package": lambda body: body["receipt"]["versions"].update({"/home/mary": "1"}),
    "a negative class": lambda body: body["receipt"].update(classes=[-1]),
    "no receipt": lambda body: body.pop("receipt"),
    "no signature": lambda body: body.pop("signature"),
    **{
        f"no {name}": lambda body, name=name: body["receipt"].pop(name)
        for name in SCHEMA["$defs"]["receipt"]["required"]
    },
}


@pytest.mark.parametrize("change", CHANGES)
def test_others_are_refused_by_the_schema_and_by_the_library(issued: list[dict[str, Any]], change: str) -> None:
    body = copy.deepcopy(issued[0])
    CHANGES[change](body)
    assert not VALIDATOR.is_valid(body)
    with pytest.raises(RefusedReceiptError):
        read_receipt(json.dumps(body, sort_keys=True, separators=(",", ":")).encode() + b"\n")


def test_schema_and_document_have_the_same_fields_and_words() -> None:
    definitions = SCHEMA["$defs"]
    properties = definitions["receipt"]["properties"]
    assert set(properties) == set(receipt_document.Receipt.model_fields) == set(definitions["receipt"]["required"])
    assert properties["reasons"]["items"]["enum"] == list(get_args(ReasonWord)) == list(SENTENCES)
    assert properties["status"]["enum"] == list(get_args(receipt_document.Status))
    assert properties["goal"]["enum"] == [*get_args(receipt_document.Goal), None]
    assert properties["evidence"]["enum"] == [*get_args(receipt_document.HowKnown), None]
    assert set(properties["versions"]["properties"]) == set(get_args(receipt_document.PackageName))
    for name, model in {
        "positions": receipt_document.Positions,
        "models": receipt_document.Models,
        "audits": receipt_document.Audits,
    }.items():
        assert set(properties[name]["properties"]) == set(model.model_fields)
    assert set(SCHEMA["properties"]["signature"]["properties"]) == set(receipt_document.Signature.model_fields)


def test_the_schema_is_part_of_the_package() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    data = project["tool"]["setuptools"]["package-data"]["fed_unlearn.receipts"]
    assert {"*.jinja", "*.json"} <= set(data)
