"""Which request of which ledger a message speaks of, and which ids clients may have."""

from __future__ import annotations

import hashlib
import hmac
import json

from flwr.app import ConfigRecord, Message
from pydantic import BaseModel, ConfigDict

from fed_unlearn.protocol.bounded import LONGEST_NAME
from fed_unlearn.requests import ClassScope, ForgetRequest, SampleScope

LEDGER_KEY = "ledger"
_IDENTITY = "identity"


class RequestName(BaseModel):
    """One request of the ledger that the message names.

    Attributes
    ----------
    request_id : str
        Id of the request.
    digest : str
        Digest of what was asked, as :func:`asked_digest` makes it. Empty where it is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: str
    digest: str = ""

    @classmethod
    def naming(cls, request: ForgetRequest) -> RequestName:
        """The name of a request."""
        return RequestName(request_id=request.id, digest=asked_digest(request))


class RequestAttempt(RequestName):
    """One attempt at a request.

    Attributes
    ----------
    attempt : int
        Attempt number, counted from 1 over all methods.
    """

    attempt: int

    @classmethod
    def numbered(cls, request: ForgetRequest, attempt: int) -> RequestAttempt:
        """An attempt at a request."""
        return RequestAttempt(request_id=request.id, digest=asked_digest(request), attempt=attempt)


def asked_digest(request: ForgetRequest, secret: bytes | None = None) -> str:
    """Digest of what a request asks for: its scope, and the classes, the client or the samples.

    Parameters
    ----------
    request : ForgetRequest
        The request. Its id, method, priority and deadline make no difference.
    secret : bytes, optional
        Secret of a node. A digest that leaves the node of a request's owner must be keyed with it. Without the secret,
        ids of samples can be guessed from the digest.

    Returns
    -------
    str
        The digest, 64 hexadecimal digits.
    """
    scope = request.scope
    asked: list[object] = [scope.kind]
    match scope:
        case ClassScope(classes=classes, pairs=pairs):
            asked += [sorted(classes), *([sorted(pairs)] if pairs else [])]
        case SampleScope(client=client, sample_ids=ids, count=count, of_class=of_class, queued=queued):
            asked += [client, sorted(ids), count, of_class, *([queued] if queued else [])]
        case _:
            asked.append(scope.client)
    text = json.dumps(asked).encode()
    return hashlib.sha256(text).hexdigest() if secret is None else hmac.new(secret, text, hashlib.sha256).hexdigest()


def ledger_record(identity: str) -> ConfigRecord:
    """The record that says which ledger the requests of a message belong to."""
    return ConfigRecord({_IDENTITY: identity})


def ledger_of(message: Message) -> str:
    """The ledger of :func:`ledger_record`; empty where a message has no such record."""
    record = message.content.get(LEDGER_KEY) if message.has_content() else None
    return str(record.get(_IDENTITY, "")) if isinstance(record, ConfigRecord) else ""


def id_problem(client: str) -> str | None:
    """What is wrong with a client's id; None where nothing is.

    An id has 1 to 200 printable characters.
    """
    if not client:
        return "an empty id"
    if len(client) > LONGEST_NAME:
        return f"an id of {len(client)} characters; at most {LONGEST_NAME} are allowed"
    if not client.isprintable():
        return "an id with characters that cannot be printed"
    return None
