"""The client's handlers of ``query.identify`` and ``query.requests``: who it is, and what its owner has queued."""

from __future__ import annotations

import torch
from flwr.app import Context, Message, MetricRecord

from fed_unlearn import protocol
from fed_unlearn.client.retained_view import warn_of_other_ledgers
from fed_unlearn.client.session import current_session
from fed_unlearn.client.told_model import output_rows, sent_shapes
from fed_unlearn.owner import keep_class_names


def identify(message: Message, context: Context) -> Message:
    """``query.identify``: the number of samples of each class here, and what the classes are called.

    The stamp of the reply names the client.
    """
    session = current_session()
    class_count, train = session.data.class_count, session.data.train
    metrics = MetricRecord(
        {
            "class-count": class_count,
            "class-samples": torch.bincount(train.labels, minlength=class_count).tolist(),
            "excluded-samples": len(session.store.excluded_ids()),
        }
    )
    answer = protocol.reply(message, metrics)
    protocol.write_versions(answer)
    protocol.write_keeps_receipts(answer)
    protocol.write_class_names(answer, session.data.classes)
    keep_class_names(session.task.store_folder(session.context), session.data.classes)
    protocol.write_model_arrays(answer, sent_shapes(session))
    protocol.write_output_rows(answer, output_rows(session))
    if protocol.INSTRUCTION_KEY in message.content:
        instruction = protocol.IdentifyInstruction.from_message(message)
        without = [name.request_id for name in instruction.without]
        if instruction.confirmed:
            session.store.claim_all(instruction.confirmed, without)
        protocol.write_earlier_tombstones(answer, session.store.tombstone_digest(without))
    warn_of_other_ledgers(session)
    return answer


def requests(message: Message, context: Context) -> Message:
    """``query.requests``: how many requests of this client's owner have not ended; the reply tells of them, as any."""
    queued = sum(not request.is_over for request in current_session().owner.requests())
    return protocol.reply(message, MetricRecord({"queued": queued}))
