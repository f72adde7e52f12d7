"""Rounds in which clients train the last blocks of a model by the library's own loop, and send nothing else."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, norm, pack
from fed_unlearn.errors import ProtocolError
from fed_unlearn.strategies.clients.messages.exchange import Answers, NobodyAnsweredError
from fed_unlearn.strategies.server_methods.base import MethodFailedError, ServerWork
from fed_unlearn.strategies.server_methods.parts import ClientModel, usable_model, weighed, within_usual
from fed_unlearn.text import printable

LONGEST_OF_MEDIAN = 10.0
"""Greatest length of a client's change in a round, as a multiple of the median of all.

Where clients are honest the longest is at most 8.4 times the median on digits by Dirichlet 0.1, and 2.1 times by
Dirichlet 0.5.
"""

LONGEST_OF_FRESH = 3.0
"""Greatest length as a multiple of the norm of the fresh weights, a bound where one client or two are there.

Where clients are honest the longest is as long as the fresh weights, in the first round.
"""

logger = logging.getLogger("fed_unlearn.strategies")


@dataclass(frozen=True)
class ToldBlocks:
    """The last blocks of the clients' model, as all of them say.

    Attributes
    ----------
    blocks : tuple of str
        Names of the blocks; empty where they are not known.
    arrays : tuple of str
        Names of their arrays.
    frozen : tuple of str
        Names of those arrays that stay as they are.
    reason : str
        Why they are not known; empty where they are.
    """

    blocks: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    reason: str = ""


def told_blocks(work: ServerWork, blocks: int) -> ToldBlocks:
    """Ask all clients that stay which arrays their last blocks have.

    Parameters
    ----------
    work : ServerWork
    blocks : int
        Number of blocks beside the head.

    Raises
    ------
    NobodyAnsweredError
        If no client answers at all.
    """
    answers = work.grid.ask(protocol.BLOCKS, protocol.content(protocol.BlocksInstruction(blocks=blocks)), work.timeout)
    if not answers.anything:
        raise NobodyAnsweredError("no client that stays said which blocks its model has; try again when some are there")
    if failed := {**answers.refused, **answers.failed}:
        client, reason = next(iter(failed.items()))
        return ToldBlocks(reason=f"client {client} cannot say its blocks: {reason.removeprefix(f'client {client}: ')}")
    found: dict[str, protocol.UpperBlocks] = {}
    for client, reply in answers.replies.items():
        try:
            found[client] = told = protocol.read_blocks(reply)
        except ProtocolError as error:
            return ToldBlocks(reason=f"client {client}: {error}")
        if problem := told.reason or _problem(told, work.served):
            return ToldBlocks(reason=f"client {client}: {printable(problem)}")
    first, *others = found.values()
    if any(other != first for other in others):
        return ToldBlocks(reason="clients' models have different blocks")
    return ToldBlocks(first.blocks, first.arrays, first.frozen)


def _problem(told: protocol.UpperBlocks, served: Arrays) -> str:
    """Why what a client tells cannot be its last blocks; empty where it can."""
    arrays, frozen = set(told.arrays), set(told.frozen)
    if not arrays or not arrays < set(served):
        return f"its last blocks have {len(arrays)} arrays; expected some of the model's, and not all"
    return "" if frozen < arrays else "all of its last blocks is frozen"


def relearn_round(
    work: ServerWork,
    base: Arrays,
    fresh_norm: float,
    instruction: protocol.RelearnInstruction,
    *,
    carries_served: bool = False,
) -> dict[str, ClientModel]:
    """One round of training of the last blocks, at all clients that stay.

    Clients that have kept nothing of the model that served are sent it too.

    Parameters
    ----------
    work : ServerWork
    base : dict of ndarray
        The arrays of the last blocks.
    fresh_norm : float
        Norm of these arrays as they were drawn.
    instruction : RelearnInstruction
    carries_served : bool
        Whether all clients are sent that model at once, as in the first message.

    Returns
    -------
    dict of str to ClientModel
        The last blocks of each client, by client; no change is longer than is usual in the round.

    Raises
    ------
    NobodyAnsweredError
        If no client answers at all.
    MethodFailedError
        If none of them trained.
    """
    content = protocol.content(instruction, pack(base), work.train_config)
    answers = ask_above_kept(work, protocol.RELEARN, content, carries_served=carries_served)
    if not answers.anything:
        raise NobodyAnsweredError(
            f"round {instruction.round + 1}: no client that stays answered; try again when some are reachable"
        )
    models = {client: usable_model(client, reply, base) for client, reply in sorted(answers.replies.items())}
    found = weighed(work, {client: model for client, model in models.items() if model is not None})
    if not found:
        raise MethodFailedError(f"round {instruction.round + 1}: no client that stays trained; their logs say why")
    return within_usual(work, found, base, LONGEST_OF_MEDIAN, LONGEST_OF_FRESH * fresh_norm)


def ask_above_kept(
    work: ServerWork, message_type: str, content: RecordDict, *, carries_served: bool = False
) -> Answers:
    """Send the arrays of the last blocks to all clients that stay, and the model before to those that lack it.

    Parameters
    ----------
    work : ServerWork
    message_type : str
        Type of the message, ``train.relearn`` or ``train.statistics``.
    content : RecordDict
        Content of the message, with those arrays.
    carries_served : bool
        Whether all clients are sent the model before at once.

    Returns
    -------
    Answers
        Answers of all clients that stay.
    """
    first = protocol.with_served(content, pack(work.served)) if carries_served else content
    answers = work.grid.ask(message_type, first, work.timeout)
    lacking = [client for client, reply in answers.replies.items() if protocol.lacks_served(reply)]
    if not lacking:
        return answers
    logger.info("clients %s have kept nothing of the model, and get it", ", ".join(lacking))
    more = work.grid.ask(message_type, protocol.with_served(content, pack(work.served)), work.timeout, lacking)
    others = {client: reply for client, reply in answers.replies.items() if client not in lacking}
    return Answers(
        dict(sorted((others | more.replies).items())),
        answers.refused | more.refused,
        answers.failed | more.failed,
        answers.silent | more.silent,
    )


def digest_of_arrays(arrays: Arrays) -> str:
    """Digest of a model's arrays, which tells clients' files of one model from those of another."""
    digest = hashlib.sha256()
    for name, value in arrays.items():
        digest.update(f"{name} {value.dtype} {value.shape} ".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def norm_of(arrays: Arrays) -> float:
    """Norm of all floating-point arrays together."""
    return norm({name: value for name, value in arrays.items() if np.issubdtype(value.dtype, np.floating)})
