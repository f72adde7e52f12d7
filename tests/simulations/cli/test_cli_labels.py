"""Classes on the command line: by the data's own label or name, and both shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fed_unlearn.class_names import ClassNames
from fed_unlearn.ledger import Ledger
from fed_unlearn.owner import OwnerQueue, keep_class_names
from fed_unlearn.requests import ClassScope, SampleScope
from fed_unlearn.simulations.cli import BAD_INPUT, run_command

FROM_ONE = ("1", "2", "3")


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.chdir(tmp_path)
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("names", "label", "index", "shown"),
    [
        (FROM_ONE, "1", 0, "'1' (index 0)"),
        (FROM_ONE, "3", 2, "'3' (index 2)"),
        (("cat", "deer", "fox"), "deer", 1, "'deer' (index 1)"),
        (("cat", "deer", "fox"), "2", 2, "'fox' (index 2)"),
        (("-5", "40"), "-5", 0, "'-5' (index 0)"),
        (("0", "1"), "1", 1, "1"),
    ],
)
def test_a_request_names_a_class_by_its_label_and_is_listed_with_both(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], names: tuple[str, ...], label: str, index: int, shown: str
) -> None:
    ledger.name_classes(names)
    assert run_command(["request", "add", ".", "--class", label]) == 0
    assert run_command(["request", "add", ".", "--client", "4", "--samples", "2", "--of-class", label]) == 0
    assert [entry.request.scope for entry in ledger.entries()] == [
        ClassScope((index,)),
        SampleScope("4", count=2, of_class=index),
    ]
    capsys.readouterr()
    assert run_command(["request", "list", "."]) == 0
    listed = capsys.readouterr().out
    assert f"class   {shown}  " in listed and f"client 4: 2 samples of class {shown}" in listed
    assert run_command(["request", "show", ".", "r1"]) == 0
    assert f"target {shown}" in [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert run_command(["request", "list", ".", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["target"], first["labels"], second["labels"]) == (
        {"classes": [index]},
        [names[index]],
        [names[index]],
    )
    assert run_command(["status", "."]) == 1  # no server works on it
    assert f"class {shown}  " in capsys.readouterr().out


def test_the_ledger_shows_what_the_classes_are_called(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    ledger.name_classes(FROM_ONE)
    assert run_command(["ledger", "show", "."]) == 0
    assert "classes    '1' (index 0), '2' (index 1), '3' (index 2)\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "label", "message"),
    [
        (FROM_ONE, "0", "'0' is not a class of the data (1..3)"),
        (FROM_ONE, "4", "'4' is not a class of the data (1..3)"),
        (("cat", "deer"), "dear", "'dear' is not a class of the data ('cat', 'deer'); did you mean 'deer'?"),
        (("crane", "cat", "crane"), "crane", "2 classes are called 'crane', with the indices 0, 2"),
    ],
)
def test_a_label_that_there_is_not_is_one_line(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], names: tuple[str, ...], label: str, message: str
) -> None:
    ledger.name_classes(names)
    assert run_command(["request", "add", ".", "--class", label]) == BAD_INPUT
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and message in captured.err
    assert ledger.entries() == []


@pytest.mark.parametrize(
    ("names", "label", "index", "shown"),
    [
        (FROM_ONE, "1", 0, "samples of class '1' (index 0) here"),
        (("cat", "deer"), "deer", 1, "samples of class 'deer' (index 1) here"),
        ((), "1", 1, "samples of class 1 here"),
    ],
)
def test_an_owner_names_a_class_by_its_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, ...], label: str, index: int, shown: str
) -> None:
    (tmp_path / "state.json").write_text("{}")
    keep_class_names(tmp_path, ClassNames(names))
    assert run_command(["forget", "--client-dir", str(tmp_path), "--class", label]) == 0
    [request] = OwnerQueue(tmp_path).requests()
    assert (request.label, request.of_class) == (label, index)
    capsys.readouterr()
    assert run_command(["forget", "--client-dir", str(tmp_path), "--status"]) == 0
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(("names", "label"), [(FROM_ONE, "0"), (("cat", "deer"), "dog"), ((), "cat"), (FROM_ONE, "")])
def test_an_owner_is_told_at_once_of_a_label_that_the_node_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, ...], label: str
) -> None:
    (tmp_path / "state.json").write_text("{}")
    keep_class_names(tmp_path, ClassNames(names))
    assert run_command(["forget", "--client-dir", str(tmp_path), "--class", label]) == BAD_INPUT
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and "--class" in captured.err
    assert OwnerQueue(tmp_path).requests() == ()
