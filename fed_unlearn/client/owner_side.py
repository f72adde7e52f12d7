"""The node's side of its owner's requests: what it tells the server, what it hears, and which samples are meant."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from flwr.app import Message

from fed_unlearn import protocol
from fed_unlearn.client.session import ClientSession
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError, InvalidRequestError
from fed_unlearn.owner import KeptReceipts, OwnerRequest, ReceiptRefusedError
from fed_unlearn.text import quoted

logger = logging.getLogger("fed_unlearn.client")

_MOST_NAMED = 10

OWNER_ASKS = "its owner asks that all of this client is forgotten; it takes part in no training"
"""Why a client whose owner asks for it is out of training."""

_ASKS_ALL = frozenset({protocol.IDENTIFY, protocol.REQUESTS})
"""Messages whose replies tell of every request that has not ended: the server may have an older copy of its ledger."""


def hear(message: Message, session: ClientSession) -> list[str]:
    """Write down what the server made of the owner's requests, before the message itself is handled.

    The samples of what was queued since the last message are found here, so that they are in no training from now on.

    Returns
    -------
    list of str
        Digests of the answers and of the receipts that are on disk, for :func:`tell`.
    """
    if session.owner.is_used:
        session.owner.check(lambda request: _looked_for(request, session))
    answers = protocol.read_answers(message)
    heard = session.owner.hear(session.ledger, answers) if answers and session.ledger else []
    heard += _keep_receipts(message, session)
    if session.owner.is_used:
        session.owner.erase_forgotten(lambda: session.store.tombstoned_ids())
    return heard


def tell(answer: Message, session: ClientSession, heard: list[str]) -> None:
    """Put on a reply what the server does not know of the owner's requests, and which of its answers are on disk."""
    if not session.ledger or not (session.owner.is_used or heard):
        return
    again = answer.metadata.message_type in _ASKS_ALL
    due = session.owner.to_be_told(session.ledger, again=again)[: protocol.MOST_IN_A_MESSAGE]
    if due or heard:
        queued = tuple(request.as_queued() for request in due)
        known = tuple(heard[: protocol.MOST_IN_A_MESSAGE])  # the server repeats what is not among these
        protocol.write_owner_note(answer, protocol.OwnerNote(queued=queued, heard=known))


def _keep_receipts(message: Message, session: ClientSession) -> list[str]:
    """Keep the receipts that a message brings, and return their digests. What cannot be kept ends no message."""
    if protocol.RECEIPTS_KEY not in message.content or not session.ledger:
        return []
    receipts, kept = KeptReceipts(session.task.store_folder(session.context)), list[str]()
    try:
        for receipt in protocol.read_receipts(message):
            try:
                request = session.owner.find(receipt.owner_request)
            except InvalidRequestError:  # the folder may be an older copy of itself
                continue
            try:
                receipts.keep(request, session.ledger, receipt.text, receipt.key)
                kept.append(protocol.receipt_digest(receipt.text.encode()))
            except ReceiptRefusedError as error:
                logger.warning(
                    "client %s: a receipt of request %s is refused: %s", session.client_id, request.id, error
                )
    except (FedUnlearnError, OSError) as error:
        logger.warning("client %s: receipts are not kept now: %s", session.client_id, error)
    return kept


def out_of_training(message: Message, session: ClientSession, reason: str) -> Message:
    """The reply to a training message of a client that has no model to give.

    A server with a ledger leaves such a client out of the round, and reads on the reply what its owner asks for.

    Parameters
    ----------
    message : Message
    session : ClientSession
    reason : str
        Why it takes part in no training.

    Raises
    ------
    FedUnlearnError
        If the server has none. It takes a reply for a trained model, and has to get an error.
    """
    if not session.ledger:
        raise FedUnlearnError(reason)
    logger.info("client %s: %s", session.client_id, reason)
    session.took_retained_view = True
    return protocol.refuse(message, protocol.Refusal(reason=reason, invalid_request=False))


def queued_samples(target: protocol.Target, session: ClientSession) -> SampleSet:
    """The samples of a request that this client's owner has queued.

    Parameters
    ----------
    target : Target
        Names the owner's request.
    session : ClientSession
        The client's side of the message.

    Raises
    ------
    InvalidRequestError
        If it is not queued here, was withdrawn, or cannot be served. The text has no id.
    """
    request, store = session.owner.find(target.queued), session.store
    if request.is_withdrawn:
        raise InvalidRequestError(f"the owner has withdrawn request {target.request_id}")
    if not request.sample_ids or len(request.sample_ids) != target.sample_count:
        raise InvalidRequestError(
            f"request {target.request_id} names {target.sample_count} samples, and the owner's request here has"
            f" {len(request.sample_ids)}; queue it anew"
        )
    train = session.data.train
    if request.kind == "class":
        forget = train.without(store.unusable_ids()).only(request.sample_ids)
        if not len(forget):
            raise InvalidRequestError(f"the samples of request {target.request_id} are all forgotten already")
        return forget
    if unknown := unknown_ids(request.sample_ids, session):
        raise InvalidRequestError(f"{len(unknown)} of the samples of request {target.request_id} are not here any more")
    return still_to_forget(target.request_id, request.sample_ids, session)


def still_to_forget(request_id: str, sample_ids: Sequence[str], session: ClientSession) -> SampleSet:
    """The samples that a request names, without those that are forgotten already: nothing is left to do for these.

    Parameters
    ----------
    request_id : str
        Id of the request at the server.
    sample_ids : sequence of str
        Ids of the samples as they were asked for.
    session : ClientSession
        The client's side of the message.

    Raises
    ------
    InvalidRequestError
        If some are not here, some are asked for by another request that has not ended, or all are forgotten. The text,
        which the server reads, has no id. The client's own log names those that are unknown.
    """
    store, train = session.store, session.data.train
    if unknown := unknown_ids(sample_ids, session):
        logger.warning("client %s: request %s: unknown ids: %s", session.client_id, request_id, named(unknown))
        raise InvalidRequestError(
            f"{len(unknown)} of the {len(sample_ids)} sample ids of request {request_id} are unknown here; the"
            " client's own log names them"
        )
    done = store.unusable_ids()
    if taken := (store.own_excluded_ids() - done).intersection(sample_ids):
        raise InvalidRequestError(
            f"{len(taken)} of the {len(sample_ids)} samples of request {request_id} are asked for by another request,"
            " which has not forgotten them yet"
        )
    forget = train.without(done).only(sample_ids)
    if not len(forget):
        raise InvalidRequestError(f"the samples of request {request_id} are all forgotten already")
    return forget


def unknown_ids(sample_ids: Sequence[str], session: ClientSession) -> list[str]:
    """Those of some ids that no training sample of this client has, in their order."""
    known = frozenset(session.data.train.ids)
    return [sample_id for sample_id in sample_ids if sample_id not in known]


def named(sample_ids: Sequence[str]) -> str:
    """Ids in a line for their owner: the first ones, and how many more there are."""
    shown = ", ".join(quoted(sample_id) for sample_id in sample_ids[:_MOST_NAMED])
    more = len(sample_ids) - _MOST_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _looked_for(request: OwnerRequest, session: ClientSession) -> OwnerRequest:
    """The request with its samples, or with the reason why it is refused, which names none of them."""
    train, reason, ids, of_class = session.data.train, "", request.sample_ids, request.of_class
    unknown: list[str] = []
    if request.kind == "class":
        try:
            of_class = _class_of(request, session)
        except InvalidRequestError as error:
            reason = str(error)
        else:
            ids = tuple(train.without(session.store.unusable_ids()).of_classes((of_class,)).ids)
            shown = session.data.classes.shown(of_class)
            reason = "" if ids else f"no training sample of class {shown} is here that is not forgotten already"
    elif request.kind == "samples" and (unknown := unknown_ids(ids, session)):
        reason = f"{len(unknown)} of its {len(ids)} sample ids are no training samples of this client"
    if reason and not request.is_withdrawn:
        where = "; fed-unlearn forget --status names them" if unknown else ""
        logger.warning("client %s: owner's request %s is refused: %s%s", session.client_id, request.id, reason, where)
    found = {
        "sample_ids": () if reason else ids,
        "count": len(ids),
        "of_class": of_class,
        "unknown_ids": tuple(unknown),
    }
    return request.model_copy(update={"refused": reason, **found})


def _class_of(request: OwnerRequest, session: ClientSession) -> int:
    """The index of the class that the owner has named by the data's own label."""
    asked = request.label or request.of_class or 0
    of_class = session.data.classes.index(asked) if request.label else request.of_class or 0
    if of_class >= session.data.class_count:
        raise InvalidRequestError(f"class {asked} is not a class of the data (0..{session.data.class_count - 1})")
    return of_class
