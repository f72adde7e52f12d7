"""An owner's request as its node keeps it, what the server is told of it, and what the server answers."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fed_unlearn.class_names import LONGEST_NAME
from fed_unlearn.errors import InvalidRequestError
from fed_unlearn.ledger.lifecycle import FINAL, Status
from fed_unlearn.text import printable

OwnerKind = Literal["samples", "class", "all"]
Goal = Literal["misclassify", "relabel", "indistinguishable"]

REFUSED = "refused"
"""Status of a request that a server never took into its ledger."""

LIFTED = frozenset({REFUSED, Status.REJECTED, Status.WITHDRAWN})
"""Statuses after which a request's samples may be trained on again."""

ENDED = frozenset({REFUSED, *FINAL})
"""Statuses after which nothing more is asked of the server."""

MOST_FIGURES = 32
LONGEST_WORD = 64
LONGEST_REASON = 400
"""Maximum length of words and reasons, in characters; longer ones are cut."""

_LARGEST_COUNT = 2**40
_LAST_DEADLINE = 253402300800
_EARLIEST, _LATEST = -62_135_424_000.0, 253_402_128_000.0
"""Two days inside of the years 1 to 9999: every time zone can write these moments as local time."""

LAST_CLASS = 2**31
"""No class has a larger index."""

OwnerId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""The id of an owner's request: random, so that it says nothing of anybody."""

_Class = Annotated[int, Field(ge=0, le=LAST_CLASS)]
_Deadline = Annotated[float, Field(gt=-_LAST_DEADLINE, lt=_LAST_DEADLINE)]
_Word = Annotated[str, Field(max_length=LONGEST_WORD), AfterValidator(lambda text: printable(text, LONGEST_WORD))]
_Reason = Annotated[str, Field(max_length=1000), AfterValidator(lambda text: printable(text, LONGEST_REASON))]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class QueuedRequest(_Record):
    """What a server is told of an owner's request: no sample, and no label of one.

    Attributes
    ----------
    owner_request : str
        Id of the request at the node.
    kind : {"samples", "class", "all"}
        Single samples, those of one class at this client, or all that the client ever contributed.
    count : int
        Number of samples; 0 for all.
    of_class : int or None
        The class, for that kind.
    goal : str or None
        What is wanted of the samples; None for the default of the server's method.
    deadline : float or None
        Seconds since the epoch.
    state : {"asked", "withdrawn", "refused"}
        Whether the owner asks for it, does no longer, or the node found that it cannot be served.
    reason : str
        Why the node refused it.
    """

    owner_request: OwnerId
    kind: OwnerKind
    count: Annotated[int, Field(ge=0, le=_LARGEST_COUNT)] = 0
    of_class: _Class | None = None
    goal: Goal | None = None
    deadline: _Deadline | None = None
    state: Literal["asked", "withdrawn", "refused"] = "asked"
    reason: _Reason = ""

    @model_validator(mode="after")
    def _is_whole(self) -> QueuedRequest:
        is_unknown = self.kind == "class" and self.state != "asked"  # of a label that no class of the data has
        if (self.kind == "class") != (self.of_class is not None) and not (is_unknown and self.of_class is None):
            raise ValueError("a class is given where, and only where, the kind is 'class'")
        if self.kind == "all" and (self.count or self.goal is not None):
            raise ValueError("all of a client has neither a count nor a goal")
        if self.kind != "all" and self.state == "asked" and not self.count:
            raise ValueError("expected a count of at least 1")
        return self


class OwnerAnswer(_Record):
    """What a server made of an owner's request.

    Attributes
    ----------
    owner_request : str
        Id of the request at the node.
    status : str
        ``"refused"``, or its status in the server's ledger.
    request : str
        Id of the request in that ledger. Empty if it was not taken.
    reason : str
        Why it stands there, if there is a reason.
    method, evidence : str
        Method by which the request was served, and how the forgetting is known.
    attempts, relapses : int
        Number of attempts, and of times that the forgetting was found to have worn off since.
    figures : dict of str to float
        Figures by name, such as ``"after/forget_accuracy"``.
    """

    owner_request: OwnerId
    status: Annotated[str, Field(pattern=r"^[a-z-]{1,32}$")]
    request: _Word = ""
    reason: _Reason = ""
    method: _Word = ""
    evidence: _Word = ""
    attempts: Annotated[int, Field(ge=0, le=2**31)] = 0
    relapses: Annotated[int, Field(ge=0, le=2**31)] = 0
    figures: Annotated[dict[Annotated[str, Field(max_length=100)], float], Field(max_length=MOST_FIGURES)] = {}

    def digest(self) -> str:
        """16 hexadecimal digits by which the node says which answer it has."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()[:16]


class OwnerRequest(_Record):
    """A request as its node keeps it. Only here are the ids of its samples.

    Attributes
    ----------
    id : str
        Id of the request, made at the node.
    kind, of_class, goal, deadline
        What is asked for, as in :class:`QueuedRequest`.
    label : str
        The data's own label or name of the class, as the owner wrote it, for a request of a class. The node finds the
        class by it. The label stays at the node.
    note : str
        The owner's own words. They stay at the node.
    queued : float
        Time at which the request was queued, in seconds since the epoch.
    sample_ids : tuple of str
        The samples. Those of a class are found when the node next handles a message. They are erased where the request
        was withdrawn, or refused by the node itself, and where they are tombstoned and nobody asks for them any more.
    count : int
        Number of samples that there are, or were.
    is_checked : bool
        Whether the node has found the samples among its data.
    refused : str
        Why the node found that it cannot be served.
    unknown_ids : tuple of str
        The ids that no training sample here has, for the owner alone: no server is told of them.
    is_withdrawn : bool
        Whether the owner has withdrawn it.
    told : tuple of str
        Ledgers whose servers were told of it, or may have been.
    answers : dict of str to OwnerAnswer
        Answer by ledger.
    answered : dict of str to float
        Time at which each answer came, in seconds since the epoch, by ledger.
    """

    id: OwnerId
    kind: OwnerKind
    queued: float
    of_class: _Class | None = None
    goal: Goal | None = None
    deadline: _Deadline | None = None
    label: Annotated[str, Field(max_length=LONGEST_NAME)] = ""
    note: str = ""
    sample_ids: tuple[str, ...] = ()
    count: Annotated[int, Field(ge=0, le=_LARGEST_COUNT)] = 0
    is_checked: bool = False
    refused: str = ""
    unknown_ids: tuple[str, ...] = ()
    is_withdrawn: bool = False
    told: tuple[str, ...] = ()
    answers: dict[str, OwnerAnswer] = {}
    answered: dict[str, float] = {}

    def status_at(self, ledger: str) -> str | None:
        """The status at one ledger; None where its server has not answered."""
        answer = self.answers.get(ledger)
        return None if answer is None else answer.status

    @property
    def is_over(self) -> bool:
        """Whether no server has to do anything about it any more."""
        if any(self.status_at(ledger) not in ENDED for ledger in self.told):
            return False
        return bool(self.told or self.refused or self.is_withdrawn)

    def is_settled(self, ledgers: Mapping[str, float]) -> bool:
        """Whether some model has forgotten its samples, and no server will ask this queue for them any more.

        Parameters
        ----------
        ledgers : mapping of str to float
            Time at which the node first heard of each ledger, in seconds since the epoch, by ledger.
        """
        if not self.is_over or Status.COMMITTED not in map(self.status_at, self.told):
            return False
        return all(ledger in self.told for ledger, since in ledgers.items() if since <= self.queued)

    @property
    def excludes(self) -> bool:
        """Whether its samples must not be trained on: since it was queued, unless it has come to nothing everywhere."""
        if any(self.status_at(ledger) not in LIFTED for ledger in self.told):
            return True
        return not (self.told or self.refused or self.is_withdrawn)

    def is_to_be_told(self, ledger: str, *, known_since: float, again: bool) -> bool:
        """Whether a server is to be told of it, with its next message.

        Parameters
        ----------
        ledger : str
            Identity of the server's ledger.
        known_since : float
            Time at which the node first heard of that ledger, in seconds since the epoch. What had ended elsewhere
            before that was never trained on there.
        again : bool
            Whether to tell of it as long as it has not ended: the ledger may be an older copy of itself.
        """
        status = self.status_at(ledger)
        if status is not None:
            return status not in ENDED and (again or self.is_withdrawn)
        if ledger in self.told:
            return True
        ended_elsewhere = self.is_over and bool(self.told) and self.queued < known_since
        return not self.is_withdrawn and not ended_elsewhere

    def as_queued(self) -> QueuedRequest:
        """What a server is told."""
        state: Literal["asked", "withdrawn", "refused"] = "withdrawn" if self.is_withdrawn else "asked"
        return QueuedRequest(
            owner_request=self.id,
            kind=self.kind,
            count=self.count,
            of_class=self.of_class,
            goal=self.goal,
            deadline=self.deadline,
            state="refused" if self.refused else state,
            reason=self.refused,
        )


def new_request(
    kind: OwnerKind,
    sample_ids: Sequence[str] = (),
    *,
    of_class: int | None = None,
    label: str = "",
    goal: Goal | None = None,
    deadline: float | None = None,
    note: str = "",
) -> OwnerRequest:
    """A request of now, with a new random id; for a class, with its index or its label.

    Raises
    ------
    InvalidRequestError
        If it is none.
    """
    if deadline is not None and not _EARLIEST <= deadline <= _LATEST:
        raise InvalidRequestError("deadline: expected a moment of the years 1 to 9999; nothing was queued")
    try:
        return OwnerRequest(
            id=secrets.token_hex(8),
            kind=kind,
            queued=time.time(),
            of_class=of_class,
            label=label,
            goal=goal,
            deadline=deadline,
            note=note,
            sample_ids=tuple(sample_ids),
            count=len(sample_ids),
        )
    except ValidationError as error:
        what = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(map(str, what["loc"]))
        raise InvalidRequestError(f"{name}: {what['msg']}; nothing was queued") from None
