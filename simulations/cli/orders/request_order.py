"""The forget request that ``fed-unlearn request add`` was told to write down."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from typer import Option

from fed_unlearn.class_names import UNNAMED_CLASSES, ClassNames
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, ParameterValue, SampleScope, Scope
from fed_unlearn.text import quoted

_TWO_DAYS = 172_800.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # as scenario files have it; "+" joins ids in the ledger


@dataclass(frozen=True, kw_only=True)
class RequestOrder:
    """A request as it was typed; None and empty where nothing was."""

    classes: Annotated[
        tuple[str, ...],
        Option("--class", metavar="LABEL", help="Forget a class everywhere, by its label or name; may be repeated."),
    ] = ()
    client: Annotated[
        str | None, Option(help="Forget samples of this client, or, where none are asked for, all of it.")
    ] = None
    samples: Annotated[int | None, Option(min=1, help="So many samples, which the client draws.")] = None
    of_class: Annotated[str | None, Option(metavar="LABEL", help="With --samples: of this class alone.")] = None
    sample_ids: Annotated[
        tuple[str, ...], Option("--sample-id", metavar="ID", help="A sample by its id; may be repeated.")
    ] = ()
    method: Annotated[str | None, Option(help="In place of the server's for the scope.")] = None
    parameters: Annotated[
        tuple[str, ...], Option("--parameter", metavar="NAME=VALUE", help="Of the method; may be repeated.")
    ] = ()
    goal: Annotated[
        Literal["misclassify", "relabel", "indistinguishable"] | None, Option(help="Of a sample request.")
    ] = None
    id: Annotated[
        str | None,
        Option("--id", metavar="ID", help="Put twice under one id, a request is one; numbered where none is given."),
    ] = None
    priority: Annotated[int, Option(help="Higher ones are served first.")] = 0
    deadline: Annotated[
        str | None, Option(metavar="ISO-8601", help="When it should be served; earlier ones go first.")
    ] = None

    def request(self, names: ClassNames = UNNAMED_CLASSES) -> ForgetRequest:
        """The request, checked as far as it can be without the data.

        Parameters
        ----------
        names : ClassNames, optional
            What the data calls its classes, as far as the ledger knows. Without any, classes are given by their index.

        Raises
        ------
        InvalidRequestError
            If the options do not make one request, or there is no such class.
        InvalidParameterError
            If the method or one of its parameters is unknown or out of range, or does not serve the scope.
        """
        if self.id is not None and not _ID.fullmatch(self.id):
            raise InvalidRequestError(
                f"--id {quoted(self.id)}: expected at most 64 letters, digits, dots, hyphens and underscores, a letter"
                " or digit first"
            )
        scope = self._scope(names)
        parameters = self._parameters(scope)
        if self.method is not None:
            check_method(self.method, parameters, scope)
        return ForgetRequest(
            scope,
            self.method,
            parameters,
            self.id or "",
            priority=self.priority,
            deadline=None if self.deadline is None else parse_deadline(self.deadline),
        )

    def _scope(self, names: ClassNames) -> Scope:
        of_samples = self.samples is not None or bool(self.sample_ids)
        if self.of_class is not None and self.samples is None:
            raise InvalidRequestError("--of-class narrows --samples; give the number of samples too")
        if self.classes:
            if self.client is not None or of_samples:
                raise InvalidRequestError("--class asks for a class everywhere; leave --client and samples out")
            return ClassScope(names.indices(self.classes))
        if self.client is None:
            raise InvalidRequestError(
                "nothing to forget was given; expected --class, or --client and, if not all of it, samples"
            )
        if not self.client.strip():
            raise InvalidRequestError("--client is empty; expected a client's name")
        if not of_samples:
            return ClientScope(self.client)
        of_class = None if self.of_class is None else names.index(self.of_class)
        return SampleScope(self.client, self.sample_ids, self.samples or 0, of_class)

    def _parameters(self, scope: Scope) -> dict[str, ParameterValue]:
        parameters: dict[str, ParameterValue] = {}
        for text in self.parameters:
            name, separator, value = text.partition("=")
            name = name.strip().replace("-", "_")
            if not separator or not name:
                raise InvalidRequestError(
                    f"--parameter {quoted(text)}: expected NAME=VALUE, such as learning-rate=0.01"
                )
            if self.method is None:
                raise InvalidRequestError(f"--parameter {quoted(text)} is of no method; name one with --method")
            if name in parameters:
                raise InvalidRequestError(f"--parameter {name} is given twice; expected it once")
            parameters[name] = _scalar(text, value.strip())
        if self.goal is not None:
            if scope.kind != "sample":
                raise InvalidRequestError(f"--goal {self.goal} is of sample requests; this is a {scope.kind} request")
            if "goal" in parameters:
                raise InvalidRequestError("--goal and --parameter goal are both given; expected one")
            parameters["goal"] = self.goal
        return parameters


def _scalar(text: str, value: str) -> ParameterValue:
    # Scenarios stand beside pydantic, which a request without parameters does not need.
    from fed_unlearn.simulations.scenario.reading import parse_value

    parsed = parse_value(value)
    if not isinstance(parsed, bool | int | float | str):
        raise InvalidRequestError(f"--parameter {quoted(text)}: expected a number, a string, true or false")
    return parsed


def check_method(name: str, parameters: Mapping[str, ParameterValue], scope: Scope) -> None:
    """Check that a method exists, takes the parameters, and serves the scope.

    Raises
    ------
    InvalidParameterError
        If not.
    """
    # Methods stand beside PyTorch and Flower, which take seconds to import.
    from fed_unlearn.strategies.methods_by_name import check_serves, new_method

    check_serves(name, scope.kind)
    new_method(name, parameters)


def parse_deadline(text: str) -> float:
    """Seconds since the epoch of a date and time in ISO 8601; local time where it names no zone.

    Raises
    ------
    InvalidRequestError
        If it is none.
    """
    try:
        seconds = datetime.fromisoformat(text).timestamp()
        for moment in (seconds - _TWO_DAYS, seconds + _TWO_DAYS):  # whatever the time zone in which it is shown
            datetime.fromtimestamp(moment, UTC)
        return seconds
    except (ValueError, OverflowError, OSError):
        raise InvalidRequestError(
            f"--deadline {quoted(text)}: expected a date in ISO 8601, such as"
            f" {time.strftime('%Y-%m-%d')} or {time.strftime('%Y-%m-%dT18:00:00+00:00')}"
        ) from None
