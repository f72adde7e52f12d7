import copy
import hashlib
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fed_unlearn.class_names import ClassNames
from fed_unlearn.data.images import ImageSet
from fed_unlearn.errors import FedUnlearnError, InvalidRequestError
from fed_unlearn.ledger import Ledger
from fed_unlearn.local import LocalSamples, LocalUnlearning
from fed_unlearn.protocol.identity import asked_digest
from fed_unlearn.protocol.instructions import Target
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, SampleScope
from fed_unlearn.scopes import scope_words


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((), "classes () were given; expected one or more"),
        ((-1,), "classes (-1,) were given"),
        ((True,), "classes (True,) were given"),
        ((3, 5, 3), "classes (3, 5, 3) name a class twice"),
        (((3, 1), (3, 1)), "classes ((3, 1), (3, 1)) name a class twice"),
        ((1, (3, 1)), "classes (1, (3, 1)) name a class twice"),
        (((3, -1),), "(3, -1) was given; expected a pair (task, class)"),
        (((3, 1, 2),), "(3, 1, 2) was given; expected a pair (task, class)"),
    ],
)
def test_classes_that_are_none(classes: tuple[int | tuple[int, int], ...], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        ForgetRequest.for_class(*classes)


@pytest.mark.parametrize(
    ("ids", "count", "of_class", "message"),
    [
        ((), 0, None, "names 0 ids and a count of 0; expected either ids or a count"),
        (("a",), 2, None, "names 1 ids and a count of 2"),
        ((), -3, None, "a count of -3"),
        (("a", "b", "a"), 0, None, "client 7 names an id twice"),
        (("a",), 0, 3, "gives ids and a class; expected one"),
    ],
)
def test_samples_that_are_none(ids: tuple[str, ...], count: int, of_class: int | None, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        ForgetRequest.for_samples(7, ids, count=count, of_class=of_class)


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, 1j])
def test_parameters_of_other_types_are_refused(value: object) -> None:
    with pytest.raises(InvalidRequestError, match=f"parameter 'epochs' is a {type(value).__name__}; expected a bool"):
        ForgetRequest.for_class(3, epochs=value)  # type: ignore[arg-type]


def test_parameters_do_not_follow_the_callers_dictionary() -> None:
    given: dict[str, bool | int | float | str] = {"epochs": 1}
    request = ForgetRequest(ClassScope((3,)), parameters=given)
    given["epochs"] = 2
    assert dict(request.parameters) == {"epochs": 1}
    with pytest.raises(TypeError):
        request.parameters["epochs"] = 3  # type: ignore[index]


REQUESTS = [
    (
        ForgetRequest.for_class(3, 8, method="boundary-shrink", epochs=4, learning_rate=0.5, guard=True, anchor="near"),
        {
            "scope": "class",
            "target": {"classes": [3, 8]},
            "method": "boundary-shrink",
            "parameters": {"epochs": 4, "learning_rate": 0.5, "guard": True, "anchor": "near"},
            "id": None,
            "priority": 0,
            "deadline": None,
        },
    ),
    (
        ForgetRequest.for_class((3, 1), 8, (0, 2)),
        {
            "scope": "class",
            "target": {"classes": [8], "pairs": [[3, 1], [0, 2]]},
            "method": None,
            "parameters": {},
            "id": None,
            "priority": 0,
            "deadline": None,
        },
    ),
    (
        ForgetRequest.for_samples(4, ["a", "ü\n"], id="mine"),
        {
            "scope": "sample",
            "target": {"client": "4", "sample_ids": ["a", "ü\n"]},
            "method": None,
            "parameters": {},
            "id": "mine",
            "priority": 0,
            "deadline": None,
        },
    ),
    (
        ForgetRequest.for_samples("hospital", count=5),
        {
            "scope": "sample",
            "target": {"client": "hospital", "samples": 5},
            "method": None,
            "parameters": {},
            "id": None,
            "priority": 0,
            "deadline": None,
        },
    ),
    (
        ForgetRequest.for_samples(0, count=5, of_class=0),
        {
            "scope": "sample",
            "target": {"client": "0", "samples": 5, "of_class": 0},
            "method": None,
            "parameters": {},
            "id": None,
            "priority": 0,
            "deadline": None,
        },
    ),
    (
        ForgetRequest.for_client(2, id="r9", priority=-3, deadline=1_800_000_000),
        {
            "scope": "client",
            "target": {"client": "2"},
            "method": None,
            "parameters": {},
            "id": "r9",
            "priority": -3,
            "deadline": 1.8e9,
        },
    ),
]


@pytest.mark.parametrize(("request_", "body"), REQUESTS)
def test_json_holds_the_request_and_reads_back_as_it_was(request_: ForgetRequest, body: dict[str, object]) -> None:
    text = request_.to_json()
    assert json.loads(text) == body and "\n" not in text
    read = ForgetRequest.from_json(text)
    assert read == request_
    assert type(read.scope) is type(request_.scope)
    assert {name: type(value) for name, value in read.parameters.items()} == {
        name: type(value) for name, value in request_.parameters.items()
    }


def test_scopes_name_their_kind() -> None:
    scopes = (ClassScope((1,)), SampleScope("4", count=1), ClientScope("4"))
    assert [scope.kind for scope in scopes] == ["class", "sample", "client"]


def body_with(**changes: object) -> str:
    return json.dumps(
        {"scope": "client", "target": {"client": "a"}, "method": None, "parameters": {}, "id": None, **changes}
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "5",
        "[]",
        "{}",
        body_with(scope="planet"),
        body_with(scope="class", target={"classes": ["a"]}),
        body_with(scope="class", target={"classes": 5}),
        body_with(scope="class", target={"classes": []}),
        body_with(scope="sample", target={"client": "a"}),
        body_with(target={}),
        body_with(parameters={"epochs": None}),
        body_with(scope="sample", target=["a"]),
        body_with(scope="sample", target={"client": "a", "samples": "x"}),
        body_with(parameters=["epochs"]),
        body_with(scope="class", target={"classes": [1.5]}),
    ],
)
def test_text_that_is_no_request(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ForgetRequest.from_json(text)
    assert isinstance(caught.value, FedUnlearnError)


def test_a_body_from_before_there_were_priorities_has_the_defaults() -> None:
    read = ForgetRequest.from_json(body_with(id="old"))
    assert (read.id, read.priority, read.deadline) == ("old", 0, None)


@pytest.mark.parametrize("build", [ForgetRequest.for_class, ForgetRequest.for_samples, ForgetRequest.for_client])
def test_every_scope_takes_a_priority_and_a_deadline(build: Callable[..., ForgetRequest]) -> None:
    count = {"count": 1} if build == ForgetRequest.for_samples else {}
    request = build(1, **count, priority=4, deadline=12.5, epochs=2)
    assert (request.priority, request.deadline, dict(request.parameters)) == (4, 12.5, {"epochs": 2})
    assert ForgetRequest.from_json(request.to_json()) == request


@pytest.mark.parametrize("value", [1.0, True, "1", None, 2**63, -(2**63) - 1])
def test_priorities_that_are_none(value: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"priority .* was given; expected an integer"):
        ForgetRequest.for_class(1, priority=value)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError):
        ForgetRequest.from_json(body_with(priority=value))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "tomorrow", 10**400])
def test_deadlines_that_are_none(value: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"deadline .* was given; expected seconds since the epoch"):
        ForgetRequest.for_class(1, deadline=value)  # type: ignore[arg-type]


def test_what_two_requests_ask_for() -> None:
    request = ForgetRequest.for_class(3, method="delete", epochs=2, id="a", priority=1)
    assert request.asks_the_same(ForgetRequest.for_class(3, method="delete", epochs=2, id="b", deadline=5.0))
    for other in (
        ForgetRequest.for_class(4, method="delete", epochs=2, id="a"),
        ForgetRequest.for_class(3, method="scrub", epochs=2, id="a"),
        ForgetRequest.for_class(3, method="delete", epochs=3, id="a"),
        ForgetRequest.for_client(3, method="delete", epochs=2, id="a"),
    ):
        assert not request.asks_the_same(other)


def test_requests_can_be_copied_and_pickled() -> None:
    request = ForgetRequest.for_samples("a", ["1"], id="r", priority=3, deadline=5.0, margin=0.5)
    for other in (copy.deepcopy(request), pickle.loads(pickle.dumps(request))):
        assert other == request
        assert (other.priority, other.deadline, dict(other.parameters)) == (3, 5.0, {"margin": 0.5})


def test_whole_numbers_of_any_kind_name_classes_and_samples() -> None:
    assert ForgetRequest.for_class(np.int64(3), torch.tensor(4)) == ForgetRequest.for_class(3, 4)
    assert ForgetRequest.for_samples(0, [1, 2]) == ForgetRequest.for_samples("0", ["1", "2"])
    with pytest.raises(InvalidRequestError, match="expected one or more indices"):
        ForgetRequest.for_class("3")  # type: ignore[arg-type]


def test_a_class_of_one_task_is_another_request_than_the_class() -> None:
    whole, one = ForgetRequest.for_class(1), ForgetRequest.for_class((3, 1))
    assert not one.asks_the_same(whole) and not one.asks_the_same(ForgetRequest.for_class((1, 3)))
    assert len({asked_digest(item) for item in (whole, one, ForgetRequest.for_class((1, 3)))}) == 3
    assert asked_digest(ForgetRequest.for_class((0, 1), (3, 1))) == asked_digest(
        ForgetRequest.for_class((3, 1), (0, 1))
    )
    assert scope_words(ForgetRequest.for_class(4, (3, 1)).scope, ClassNames()) == "class 4 and class 1 of task 3"


def test_what_classes_alone_ask_for_has_the_digest_that_it_always_had() -> None:
    text = json.dumps(["class", [3, 8]]).encode()
    assert asked_digest(ForgetRequest.for_class(8, 3)) == hashlib.sha256(text).hexdigest()


def test_a_federation_has_no_tasks(tmp_path: Path) -> None:
    request = ForgetRequest.for_class((3, 1), id="r")
    ledger = Ledger(tmp_path / "ledger.db")
    with pytest.raises(InvalidRequestError, match=r"class 1 of task 3 was asked for.*for_class\(1\)"):
        ledger.receive(request)
    assert ledger.entries() == []
    with pytest.raises(InvalidRequestError, match="class 1 of task 3 was asked for"):
        Target.of(request)
    samples = ImageSet(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]))
    local = LocalSamples(forget=samples, retained=samples, validation=samples)
    with pytest.raises(InvalidRequestError, match="class 1 of task 3 was asked for"):
        LocalUnlearning().serve(torch.nn.Linear(1, 2), request, local)
