"""``train.statistics``: the sums over a client's retained samples, from which the server solves an output layer."""

from __future__ import annotations

import numpy as np
from flwr.app import ArrayRecord, Message
from pydantic import SerializerFunctionWrapHandler, model_serializer

from fed_unlearn.arrays import pack, unpack
from fed_unlearn.errors import InvalidDataError, ProtocolError
from fed_unlearn.methods.parts.ridge import RidgeStatistics
from fed_unlearn.protocol.bounded import Name
from fed_unlearn.protocol.instructions import Instruction
from fed_unlearn.protocol.relearning import KeptBelow

STATISTICS_KEY = "statistics"

_DTYPES = {"counts": "int64", "sums": "float64", "products": "float64"}


class StatisticsInstruction(Instruction):
    """``train.statistics``: add up what the output layer reads of all retained samples.

    ``head`` names the layer where a client is not to find it by itself. ``step`` is what features are rounded to. With
    ``anew`` all samples are read, also those of which the client has kept what the output layer reads. With
    ``may_be_none`` a client without a sample answers with weight 0 and no sums; else it is out of training.

    With ``blocks`` the message's arrays are those of the last blocks alone. The client reads what it has kept for
    ``train.relearn`` of the model with the digest ``base``, with answers of that model beside it if ``asks_model``.
    Where it has kept nothing, and the message does not carry that model, it says so.
    """

    head: str | None = None
    step: float
    arrived: int = 0
    anew: bool = False
    may_be_none: bool = False
    blocks: int | None = None
    base: Name = ""
    asks_model: bool = False

    @model_serializer(mode="wrap")
    def _as_before(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out what is not asked for."""
        body: dict[str, object] = serialize(self)
        for name in ("anew", "may_be_none", "blocks", "base", "asks_model"):
            if getattr(self, name) == type(self).model_fields[name].default:
                del body[name]
        return body

    def kept_below(self) -> KeptBelow | None:
        """What the client has kept below the last blocks; None where the message carries the whole model."""
        return None if self.blocks is None else KeptBelow(self.blocks, self.base, self.asks_model)


def write_statistics(message: Message, statistics: RidgeStatistics) -> None:
    """Put sums on a reply: of the products, which are symmetric, the upper triangle."""
    upper = statistics.products[np.triu_indices(len(statistics.products))]
    message.content[STATISTICS_KEY] = pack({"counts": statistics.counts, "sums": statistics.sums, "products": upper})


def read_statistics(message: Message, *, step: float, most: int | None = None) -> RidgeStatistics:
    """The sums on a reply.

    Parameters
    ----------
    message : Message
        A client's reply.
    step : float
        What features were to be rounded to.
    most : int, optional
        Samples that the client has at most.

    Raises
    ------
    ProtocolError
        If there are none, or they cannot be sums over so many samples: by their shapes and types, or since they are not
        whole, not exact, or longer than their own squares allow, or since what is left of the products around the means
        of the classes is no sum of squares.
    """
    record = message.content.get(STATISTICS_KEY)
    if not isinstance(record, ArrayRecord) or set(record) != set(_DTYPES):
        raise ProtocolError("its reply carries no sums over its samples")
    if any(record[name].dtype != dtype for name, dtype in _DTYPES.items()):
        raise ProtocolError("its sums are of other types than int64 and float64")
    try:
        parts = unpack(record)
    except Exception as error:  # the bytes are a client's
        raise ProtocolError(f"its sums cannot be read: {type(error).__name__}") from error
    counts, sums, upper = (parts[name] for name in _DTYPES)
    if counts.ndim != 1 or sums.ndim != 2 or upper.ndim != 1 or len(sums) != len(counts):
        raise ProtocolError("its sums have other shapes than classes, classes by features, and a triangle")
    size = sums.shape[1]
    if len(upper) != size * (size + 1) // 2:
        raise ProtocolError(f"its products are {len(upper)} numbers; expected {size * (size + 1) // 2}")
    if not (np.isfinite(sums).all() and np.isfinite(upper).all()):
        raise ProtocolError("its sums are not finite")
    products = np.zeros((size, size))
    products[np.triu_indices(size)] = upper
    products = products + np.triu(products, 1).T
    _check_possible(counts, sums, products, most)
    try:
        return RidgeStatistics(counts, sums, products, step).checked()
    except InvalidDataError as error:
        raise ProtocolError(f"its sums cannot be used: {error}") from error


def _check_possible(
    counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    sums: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    products: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    most: int | None,
) -> None:
    """Raise where no samples have such sums."""
    if (counts < 0).any() or counts.max(initial=0) > 2**53:
        raise ProtocolError("its numbers of samples are no counts")
    if most is not None and int(counts.sum()) > most:
        raise ProtocolError(f"its sums are over {int(counts.sum())} samples, and it has {most} at most")
    if (sums != np.rint(sums)).any() or (products != np.rint(products)).any():
        raise ProtocolError("its sums are not whole numbers of steps")
    squares = np.diag(products)
    if (squares < 0).any() or (products**2 > np.outer(squares, squares) * (1 + 1e-9)).any():
        raise ProtocolError("its products are longer than their squares allow")
    allowed = counts.sum() * squares * (1 + 1e-9)
    if (sums.sum(0) ** 2 > allowed).any() or sums[counts == 0].any():
        raise ProtocolError("its sums are longer than its products allow")
    there = counts > 0
    around = products - (sums[there] / counts[there, None]).T @ sums[there]
    if around.size and np.linalg.eigvalsh(around)[0] < -1e-9 * max(float(squares.sum()), 1.0):
        raise ProtocolError("its sums leave no sum of squares around the means of its classes")
