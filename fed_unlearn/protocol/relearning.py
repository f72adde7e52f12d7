"""``query.blocks`` and ``train.relearn``: the last blocks of a model, drawn anew, are trained by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fed_unlearn.errors import ProtocolError
from fed_unlearn.protocol.bounded import Name
from fed_unlearn.protocol.instructions import Instruction

SERVED_KEY = "served"
"""The whole model as it was before the reset, on a message that carries it."""

_BLOCKS_KEY, _TOLD = "blocks", "told"
_LACKS_KEY, _LACKS = "lacks", "served"
_MOST_BLOCKS, _MOST_ARRAYS = 10_000, 100_000

_ArrayName = Annotated[str, Field(max_length=1000)]
_ArrayNames = Annotated[tuple[_ArrayName, ...], Field(max_length=_MOST_ARRAYS)]


class BlocksInstruction(Instruction):
    """``query.blocks``: which arrays belong to the last ``blocks`` blocks and the head of the client's model?"""

    blocks: int


class UpperBlocks(BaseModel):
    """What a client says of its model.

    Attributes
    ----------
    blocks : tuple of str
        Names of the blocks above the division, the head included.
    arrays : tuple of str
        Names of their arrays, in the order of the model; empty where the model cannot be divided.
    frozen : tuple of str
        Names of those arrays that stay as they are.
    reason : str
        Why the model cannot be divided; empty where it can.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    blocks: Annotated[tuple[_ArrayName, ...], Field(max_length=_MOST_BLOCKS)] = ()
    arrays: _ArrayNames = ()
    frozen: _ArrayNames = ()
    reason: Annotated[str, Field(max_length=1000)] = ""


@dataclass(frozen=True)
class KeptBelow:
    """What a client has kept of its samples below the last blocks, or is to keep.

    Attributes
    ----------
    blocks : int
        Number of blocks beside the head.
    base : str
        Digest of the model before.
    asks_model : bool
        Whether its answers are kept too.
    """

    blocks: int
    base: str
    asks_model: bool


class RelearnInstruction(Instruction):
    """``train.relearn``: train the last blocks on retained samples, above activations that the client keeps.

    The message's arrays are those of the last blocks. The whole model before the reset stands beside them under
    :data:`SERVED_KEY`, where the client is not expected to have kept what it gives.

    ``base`` is a digest of that model. ``forgotten`` are the classes that the model before is not asked for, but for
    those of which a client has retained samples. With ``distillation`` 0 it is not asked at all. ``round``, from
    0, tells what is drawn. The learning rate is that of round ``position`` of ``positions``.
    """

    blocks: int
    base: Name
    forgotten: tuple[int, ...] = ()
    epochs: int
    round: int
    position: int
    positions: int
    distillation: float
    temperature: float
    learning_rate: float
    momentum: float
    weight_decay: float
    batch_size: int
    max_gradient_norm: float
    seed: int
    arrived: int = 0

    def kept_below(self) -> KeptBelow:
        """What the client keeps below the last blocks."""
        return KeptBelow(self.blocks, self.base, self.distillation > 0)


def write_blocks(reply: Message, told: UpperBlocks) -> None:
    """Put on a reply to ``query.blocks`` what the client says of its model."""
    reply.content[_BLOCKS_KEY] = ConfigRecord({_TOLD: told.model_dump_json()})


def read_blocks(reply: Message) -> UpperBlocks:
    """What :func:`write_blocks` wrote.

    Raises
    ------
    ProtocolError
        If there is nothing of the kind.
    """
    record = reply.content.get(_BLOCKS_KEY)
    told = record.get(_TOLD) if isinstance(record, ConfigRecord) else None
    try:
        return UpperBlocks.model_validate_json(told if isinstance(told, str) else "")
    except ValidationError as error:
        raise ProtocolError("its reply does not say which arrays its last blocks have") from error


def write_lacks_served(reply: Message) -> None:
    """Say on a reply that nothing is kept here of the model before, which has to be sent."""
    reply.content[_LACKS_KEY] = ConfigRecord({_LACKS: True})


def lacks_served(reply: Message) -> bool:
    """Whether :func:`write_lacks_served` was called."""
    record = reply.content.get(_LACKS_KEY)
    return isinstance(record, ConfigRecord) and record.get(_LACKS) is True


def with_served(content: RecordDict, served: ArrayRecord) -> RecordDict:
    """The records of a message with the whole model before the reset beside them."""
    return RecordDict({**content, SERVED_KEY: served})


def served_of(message: Message) -> ArrayRecord | None:
    """The whole model before the reset; None where the message does not carry it."""
    record = message.content.get(SERVED_KEY)
    return record if isinstance(record, ArrayRecord) else None
