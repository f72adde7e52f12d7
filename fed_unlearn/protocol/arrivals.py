"""When a client's training samples arrive: what the server tells it of the experiences of a stream.

The server owns the benchmark. With every message that a client answers by its data, it sends the ids of that client's
training samples by experience, in a ConfigRecord. The client does not store them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from flwr.app import ConfigRecord, Message

from fed_unlearn.data.images import ClientData
from fed_unlearn.errors import InvalidParameterError, ProtocolError

ARRIVALS_KEY = "arrivals"
NEVER = 2**63 - 1
"""Experience number of samples that never arrive: above every number that a message can name."""

_IDS = "sample-ids"


def arrivals_record(experiences: Mapping[int, Sequence[str]]) -> ConfigRecord:
    """The record that tells one client which of its training samples arrive in which experience.

    Make it once for each client, and send it with every message.

    Parameters
    ----------
    experiences : mapping of int to sequence of str
        Sample ids by the number of the experience, from 1. Experiences without samples of this client may be left out.

    Raises
    ------
    InvalidParameterError
        If a number is below 1, or a sample is named twice.
    """
    if any(number < 1 for number in experiences):
        raise InvalidParameterError(f"arrivals: experience {min(experiences)} was given; expected numbers from 1")
    ids = [list(experiences.get(number, ())) for number in range(1, max(experiences, default=0) + 1)]
    twice = _repeated(ids)
    if twice is not None:
        raise InvalidParameterError(f"arrivals: sample {twice!r} was given twice; expected each in one experience")
    return ConfigRecord({_IDS: json.dumps(ids, separators=(",", ":"))})


def arrivals_of(message: Message) -> tuple[tuple[str, ...], ...] | None:
    """The sample ids of each experience, in order; None if the message has no record of :func:`arrivals_record`.

    Raises
    ------
    ProtocolError
        If the record is malformed.
    """
    record = message.content.get(ARRIVALS_KEY)
    if record is None:
        return None
    try:
        if not isinstance(record, ConfigRecord) or set(record) != {_IDS}:
            raise ValueError
        ids = json.loads(str(record[_IDS]))
        if not isinstance(ids, list) or not all(isinstance(part, list) for part in ids):
            raise ValueError
        if not all(isinstance(sample_id, str) for part in ids for sample_id in part) or _repeated(ids) is not None:
            raise ValueError
    except ValueError as error:
        raise ProtocolError(f"a {message.metadata.message_type} message with malformed arrivals") from error
    return tuple(tuple(part) for part in ids)


def arrived_of(config: ConfigRecord) -> int:
    """How many experiences have arrived, by a training configuration; 0 for all."""
    value = config.get("arrived", 0)
    return value if isinstance(value, int) else 0


def arriving(data: ClientData, experiences: Sequence[Sequence[str]]) -> ClientData:
    """A client's data with its training samples in experiences.

    Parameters
    ----------
    data : ClientData
    experiences : sequence of sequences of str
        Ids of its training samples, by experience. Samples that are not named never arrive (:data:`NEVER`).

    Raises
    ------
    ProtocolError
        If a sample is not one of the client's training samples: server and client have different data.
    """
    numbers = {sample_id: number for number, part in enumerate(experiences, start=1) for sample_id in part}
    own = [numbers.get(sample_id, NEVER) for sample_id in data.train.ids]
    unknown = len(numbers) - sum(number != NEVER for number in own)
    if unknown:
        raise ProtocolError(f"{unknown} of the {len(numbers)} samples of its arrivals are no training samples here")
    return replace(data, experiences=torch.tensor(own, dtype=torch.int64))


def _repeated(parts: Sequence[Sequence[str]]) -> str | None:
    """A sample that is named in two experiences, or twice in one; None if there is none."""
    seen: set[str] = set()
    for part in parts:
        before = len(seen)
        seen.update(part)
        if len(seen) < before + len(part):
            others = set[str]().union(*(other for other in parts if other is not part))
            return next(name for name in part if name in others or list(part).count(name) > 1)
    return None
