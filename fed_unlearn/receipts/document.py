"""What a receipt says: a frozen model, and the one way in which it is written as bytes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fed_unlearn.receipts.words import ReasonWord

VERSION = 1
"""Version of the document that this library writes. ``receipt-1.schema.json`` describes it."""

FIGURES = (
    "forget_accuracy", "retain_accuracy", "test_forget_accuracy", "test_retain_accuracy", "membership_auc",
)  # fmt: skip
"""Figures that every audit has. Others have names of their own."""

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Reference = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Moment = Annotated[str, Field(pattern=r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z$")]
Identity = Annotated[str, Field(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+!-]{0,99}$")]
FigureName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,99}$")]
PackageName = Literal["python", "fed-unlearn", "flwr", "torch", "numpy"]
Status = Literal["committed", "failed", "rejected", "withdrawn"]
Goal = Literal["misclassify", "relabel", "indistinguishable"]
HowKnown = Literal["measured", "by construction", "not measurable"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Figure(_Part):
    """One figure of an audit.

    Attributes
    ----------
    value : float
        The figure. It is finite.
    interval : (float, float) or None
        Its 95 % interval, if it has one.
    """

    value: float
    interval: tuple[float, float] | None


class Place(_Part):
    """A place in the ledger's chain of events.

    Attributes
    ----------
    sequence : int
        Number of the event, counted from 1; for the head, the number of events.
    digest : str
        Digest of the event, 64 hexadecimal digits.
    """

    sequence: int = Field(ge=1)
    digest: Digest


class Positions(_Part):
    """Where the ledger has what a receipt says.

    Attributes
    ----------
    received, ended : Place
        The events by which the request came and ended.
    head : Place
        The last event of the ledger when the receipt was issued.
    """

    received: Place
    ended: Place
    head: Place

    @model_validator(mode="after")
    def _in_order(self) -> Positions:
        if not self.received.sequence < self.ended.sequence <= self.head.sequence:
            raise ValueError("the events are not in the order received, ended, head")
        return self


class Models(_Part):
    """The models that served before and after a request.

    Attributes
    ----------
    before, after : str or None
        SHA-256 of the models' files. They are equal if the request was not committed: the model that served stayed.
        None if no model served.
    """

    before: Digest | None
    after: Digest | None


class Audits(_Part):
    """Figures of the audits, by name.

    Attributes
    ----------
    before : mapping of str to Figure
        Figures of the model that served when the request was first tried.
    after : mapping of str to Figure
        Figures of the model that the request was committed with; of the last candidate, which was not put to use, if
        it failed.
    """

    before: Mapping[FigureName, Figure]
    after: Mapping[FigureName, Figure]


class Receipt(_Part):
    """What became of one forget request. It holds no name of a client, no id of a sample and no label of a class.

    Attributes
    ----------
    version : {1}
        Version of the document.
    ledger : str
        UUID of the ledger that has the request.
    issued, asked, ended : str
        When the receipt was issued, and when the request came and ended; ISO 8601 in UTC.
    request : str
        The request's id. Its reference under the ledger's key if the id holds a name.
    named_by : {"id", "reference"}
        Which of the two it is.
    request_digest : str
        Reference of all that the request asks for: 16 hexadecimal digits of an HMAC-SHA256 under the ledger's key.
    scope : {"class", "sample", "client"}
        What kind of data was to be forgotten.
    classes : tuple of int or None
        Indices of the classes, for a class request.
    samples : int or None
        Number of samples, for a sample request.
    goal : {"misclassify", "relabel", "indistinguishable"} or None
        What was asked of the samples of a sample request: that the model call them something else than they are, give
        them other labels, or treat them like samples that it never saw. None for other requests, and where the ledger
        does not say, or the method knows no such goals.
    status : {"committed", "failed", "rejected", "withdrawn"}
        How the request ended.
    reasons : tuple of ReasonWord
        Why, in closed words.
    method : str or None
        Name of the last method that was tried. None if none was.
    attempts : int
        Number of attempts.
    evidence : {"measured", "by construction", "not measurable"} or None
        How the forgetting is known, for a committed request. See :class:`~fed_unlearn.evidence.HowKnown`.
    witnesses : int or None
        Number of clients on whose figures the verdict rests.
    models : Models
    audits : Audits
    versions : mapping of str to str
        Versions of Python and of the libraries, where the receipt was issued.
    positions : Positions
    number : int
        Number of the receipt among those of the request, counted from 1. A request that was opened again after a
        relapse ends again.
    supersedes : str or None
        Digest of the event of the end that the receipt before this one was for.
    """

    version: Literal[1]
    ledger: Identity
    issued: Moment
    asked: Moment
    ended: Moment
    request: str = Field(min_length=1, max_length=200)
    named_by: Literal["id", "reference"]
    request_digest: Reference
    scope: Literal["class", "sample", "client"]
    classes: tuple[Annotated[int, Field(ge=0)], ...] | None
    samples: Annotated[int, Field(ge=1)] | None
    goal: Goal | None
    status: Status
    reasons: tuple[ReasonWord, ...]
    method: Word | None
    attempts: int = Field(ge=0)
    evidence: HowKnown | None
    witnesses: Annotated[int, Field(ge=0)] | None
    models: Models
    audits: Audits
    versions: Mapping[PackageName, Word]
    positions: Positions
    number: int = Field(ge=1)
    supersedes: Digest | None

    @property
    def file_name(self) -> str:
        """Name of the receipt's file, such as ``r1.json`` or ``r1.2.json``; different for each receipt of a ledger."""
        return file_name(self.request, self.number)


def file_name(request: str, number: int) -> str:
    """Name of a receipt's file.

    Parameters
    ----------
    request : str
        The request as the receipt names it.
    number : int
        Number of the receipt among those of the request.
    """
    plain = re.fullmatch("[A-Za-z0-9_-]{1,100}", request)
    name = request if plain else f"id-{hashlib.sha256(request.encode()).hexdigest()[:32]}"
    return f"{name}.json" if number == 1 else f"{name}.{number}.json"


class Signature(_Part):
    """The signature of a receipt.

    Attributes
    ----------
    algorithm : {"Ed25519"}
    key : str
        Fingerprint of the public key: SHA-256 of its 32 bytes, in hexadecimal.
    value : str
        The signature's 64 bytes, in hexadecimal.
    """

    algorithm: Literal["Ed25519"]
    key: Digest
    value: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


class ReceiptFile(_Part):
    """The content of a receipt's file.

    Attributes
    ----------
    receipt : Receipt
    signature : Signature
    """

    receipt: Receipt
    signature: Signature


def canonical_bytes(part: BaseModel) -> bytes:
    """A part of a receipt as its only bytes: JSON in ASCII, keys sorted, no spaces, floats as Python writes them."""
    body = part.model_dump(mode="json")
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
