"""Names of methods that a request of a federation may give, and what messages say of others."""

from __future__ import annotations

import pytest

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.methods import METHODS
from fed_unlearn.strategies.methods_by_name import check_serves, known_methods, method_named, new_method, served_scopes
from fed_unlearn.strategies.server_methods import SERVER_METHODS

STEPS_OF_LEAVING_CLIENTS = {"unlearning-cross-entropy", "fedquit", "negated-update", "projected-ascent"}


def test_the_methods_that_a_request_can_name_are_those_of_holders_and_of_the_server() -> None:
    known = known_methods()
    assert set(known) == set(METHODS.available()) - STEPS_OF_LEAVING_CLIENTS | set(SERVER_METHODS.available())
    assert known["reset-and-relearn"] is SERVER_METHODS.find("reset-and-relearn")
    assert known["fedquit"] is SERVER_METHODS.find("fedquit")
    assert known["delete"] is METHODS.find("delete")
    assert all(method_named(name) is cls for name, cls in known.items())


@pytest.mark.parametrize("name", ["fedoss", "unlearning-cross-entropy", ""])
def test_an_unknown_name_is_told_exactly_the_names_that_can_be_given(name: str) -> None:
    for check in (lambda: check_serves(name, "client"), lambda: new_method(name, {})):
        with pytest.raises(InvalidParameterError) as caught:
            check()
        said, _, listed = str(caught.value).partition("known are ")
        assert listed.split(", ") == list(known_methods())
        assert said == f"method {name!r} is unknown; " + ("did you mean fedosd? " if name == "fedoss" else "")


def test_holders_methods_serve_no_client() -> None:
    assert served_scopes(method_named("instance-wise")) == ("sample", "class")
    assert served_scopes(method_named("retrain")) == ("class", "sample", "client")
    assert served_scopes(method_named("reset-and-relearn")) == ("class", "sample", "client")
    of_holders = METHODS.find("reset-and-relearn")
    assert "client" in of_holders.scopes and served_scopes(of_holders) == ("class", "sample")
    with pytest.raises(InvalidParameterError, match=r"^'fedosd' does not serve class requests; it serves client"):
        check_serves("fedosd", "class")
