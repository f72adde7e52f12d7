"""Makes the receipt of a request out of the ledger alone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Any, get_args

from pydantic import ValidationError

from fed_unlearn.errors import FedUnlearnError, InvalidRequestError
from fed_unlearn.ledger import Ledger
from fed_unlearn.ledger.endings import Ending
from fed_unlearn.receipts.document import (
    VERSION,
    Audits,
    Goal,
    HowKnown,
    Models,
    PackageName,
    Place,
    Positions,
    Receipt,
    file_name,
)
from fed_unlearn.receipts.figures import figures_in, figures_of_events
from fed_unlearn.receipts.keys import Ed25519PrivateKey
from fed_unlearn.receipts.names import may_be_shown, names_in
from fed_unlearn.receipts.signing import SignedReceipt, sign
from fed_unlearn.receipts.words import words_of
from fed_unlearn.requests import ClassScope, ForgetRequest, SampleScope
from fed_unlearn.text import quoted

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+!-]{0,99}")
_KNOWN = get_args(HowKnown)
_GOALS = get_args(Goal)


def issue(
    ledger: Ledger,
    request_id: str,
    key: Ed25519PrivateKey,
    *,
    number: int | None = None,
    versions: Mapping[str, str] | None = None,
) -> SignedReceipt:
    """Issue the receipt of a request that has ended, also of one that ended before there were receipts.

    Parameters
    ----------
    ledger : Ledger
        The ledger that has the request.
    request_id : str
        Id of the request.
    key : Ed25519PrivateKey
        The key that signs, as :func:`~fed_unlearn.receipts.keys.signing_key` reads it.
    number : int, optional
        Which of the request's ends, counted from 1. The default is the last one.
    versions : mapping of str to str, optional
        Versions of the libraries. The default is what is installed here.

    Raises
    ------
    InvalidRequestError
        If the ledger has no such request, or it has not ended so many times.
    """
    return sign(receipt_of(ledger, request_id, number=number, versions=versions), key)


def receipt_of(
    ledger: Ledger, request_id: str, *, number: int | None = None, versions: Mapping[str, str] | None = None
) -> Receipt:
    """What became of a request, out of the ledger alone.

    Parameters
    ----------
    ledger : Ledger
    request_id : str
    number : int, optional
        Which of the request's ends, counted from 1. The default is the last one. Of earlier ends the ledger keeps the
        figures after the request, without their intervals.
    versions : mapping of str to str, optional
        Versions of the libraries. The default is what is installed here.

    Raises
    ------
    InvalidRequestError
        If the ledger has no such request, or it has not ended so many times.
    FedUnlearnError
        If the ledger holds what no receipt can say.
    """
    entry, ends = ledger.entry(request_id), ledger.endings(request_id)
    wanted = len(ends) if number is None else number
    if not 1 <= wanted <= len(ends):
        raise InvalidRequestError(
            f"request {quoted(request_id)} is {entry.status} and has ended {len(ends)} times, so that there is no"
            f" receipt{'' if number is None else f' {number}'}; expected a request that has ended"
        )
    ending, names = ends[wanted - 1], names_in(ledger, entry.request)
    called, named_by = _named(ledger, request_id, names)
    account = Account.of(entry.request, ending, entry.outcome, names)
    events, head = ledger.head()
    body = {
        **account.facts,
        **chain_facts(ending),
        "version": VERSION,
        "ledger": ledger.identity,
        "issued": moment(time.time()),
        "request": called,
        "named_by": named_by,
        "versions": dict(installed_versions() if versions is None else versions),
        "positions": Positions(
            received=Place(sequence=ending.received.sequence, digest=ending.received.digest),
            ended=Place(sequence=ending.ended.sequence, digest=ending.ended.digest),
            head=Place(sequence=events, digest=head),
        ),
    }
    try:
        return Receipt(**body)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise FedUnlearnError(
            f"request {quoted(request_id)}: no receipt can say what stands in {ledger.path}: {place}: {fault['msg']}"
        ) from error


def receipt_file_name(ledger: Ledger, request_id: str, number: int) -> str:
    """Name of the file of a receipt that was issued already, or will be, such as ``r1.json`` or ``r1.2.json``.

    Parameters
    ----------
    ledger : Ledger
    request_id : str
    number : int
        Which of the request's ends, counted from 1.

    Raises
    ------
    InvalidRequestError
        If the ledger has no such request.
    """
    return file_name(_named(ledger, request_id, names_in(ledger, ledger.entry(request_id).request))[0], number)


def _named(ledger: Ledger, request_id: str, names: Iterable[str]) -> tuple[str, str]:
    """What a receipt calls a request, and whether that is its id or its reference."""
    if may_be_shown(request_id, names):
        return request_id, "id"
    return ledger.client_reference(request_id), "reference"


def chain_facts(ending: Ending) -> dict[str, Any]:
    """The fields of a receipt that the events alone determine."""
    return {
        "request_digest": str(ending.received.facts["request"]),
        "asked": moment(ending.received.time),
        "ended": moment(ending.ended.time),
        "status": str(ending.status),
        "attempts": ending.ended.attempt,
        "number": ending.number,
        "supersedes": ending.supersedes,
        "models": Models(before=_digest(ending.model_before), after=_digest(ending.model_after)),
    }


@dataclass(frozen=True)
class Account:
    """The fields of a receipt that the request and its outcome determine.

    Attributes
    ----------
    facts : dict
        The fields by name.
    is_whole : bool
        Whether the ledger still has the outcome of this end; that of an earlier end was replaced by the later one's.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    is_whole: bool = True

    @classmethod
    def of(
        cls, request: ForgetRequest, ending: Ending, outcome: Mapping[str, Any] | None, names: Iterable[str]
    ) -> Account:
        """Read a request's row.

        Parameters
        ----------
        request : ForgetRequest
        ending : Ending
        outcome : mapping of str, or None
            The outcome that the ledger has of the request's last end.
        names : iterable of str
            Names that must not be told.
        """
        known = outcome if ending.is_last and outcome is not None else {}
        # Numbers are no names: figures are called recall_at_5, and clients of a simulation 5.
        words = [name for name in names if not name.isdecimal()]
        method = str(known.get("method") or ending.method or request.method or "")
        says = ending.was_tried and _WORD.fullmatch(method)  # what was tried is a method's name, and nobody's
        witnesses = known.get("witnesses")
        facts: dict[str, Any] = {
            "scope": request.scope.kind,
            "classes": request.scope.classes if isinstance(request.scope, ClassScope) else None,
            "samples": _number_of_samples(request),
            "goal": _goal(request, outcome),
            "reasons": words_of(_text(known.get("reason")), ending.status),
            "method": method if says else None,
            "evidence": _evidence(known, ending),
            "witnesses": witnesses if isinstance(witnesses, int) and not isinstance(witnesses, bool) else None,
            "audits": Audits(
                before=figures_in(known.get("before"), words),
                after=figures_in(known.get("after") if known else figures_of_events(ending), words),
            ),
        }
        return cls(facts, bool(known) or outcome is None)


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a receipt names."""
    found = {"python": python_version()}
    for package in get_args(PackageName):
        with suppress(PackageNotFoundError):
            found.setdefault(package, version(package))
    return found


def moment(seconds: float) -> str:
    """A time in seconds since the epoch as ISO 8601 in UTC, such as ``2026-01-31T12:00:00.000000Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _number_of_samples(request: ForgetRequest) -> int | None:
    scope = request.scope
    return len(scope.sample_ids) or scope.count if isinstance(scope, SampleScope) else None


def _goal(request: ForgetRequest, outcome: Mapping[str, Any] | None) -> str | None:
    """What was asked of samples. Where the request leaves it to the operator's plan, each of its outcomes says it."""
    goal = (outcome or {}).get("goal") or request.parameters.get("goal")
    return str(goal) if isinstance(request.scope, SampleScope) and goal in _GOALS else None


def _evidence(outcome: Mapping[str, Any], ending: Ending) -> str | None:
    known = outcome.get("evidence", ending.accepted.get("evidence"))
    return str(known) if ending.status == "committed" and known in _KNOWN else None


def _digest(model: str | None) -> str | None:
    return model if model is not None and re.fullmatch("[0-9a-f]{64}", model) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
