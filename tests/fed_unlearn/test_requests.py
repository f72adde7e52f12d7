import copy
import json
import pickle
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fed_unlearn.errors import FedUnlearnError, InvalidRequestError
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, SampleScope


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((), "classes () were given; expected one or more"),
        ((-1,), "classes (-1,) were given"),
        ((True,), "classes (True,) were given"),
        ((3, 5, 3), "classes (3, 5, 3) name a class twice"),
    ],
)
def test_classes_that_are_none(classes: tuple[int, ...], message: str) -> None:
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
