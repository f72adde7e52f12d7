"""Every message type and record key of the wire protocol, with the functions that write and read them.

An instruction travels as JSON in one ConfigRecord, beside the arrays; what comes back is arrays, counts and sums in a
MetricRecord, and facts about the client in a ConfigRecord. No reply contains samples, labels of samples, or text of
exceptions; names of classes are told where the client's data have some.
"""

from __future__ import annotations

from fed_unlearn.audits.counts import ALL_PARTS, Part
from fed_unlearn.protocol.attempts import attempts_of, attempts_record, has_put_by, write_put_by
from fed_unlearn.protocol.audit_instruction import AuditInstruction
from fed_unlearn.protocol.bundles import bundled, is_bundled, unbundled
from fed_unlearn.protocol.class_names import read_class_names, write_class_names
from fed_unlearn.protocol.identity import (
    LEDGER_KEY,
    RequestAttempt,
    RequestName,
    asked_digest,
    ledger_of,
    ledger_record,
)
from fed_unlearn.protocol.instructions import (
    ARRIVALS_KEY,
    INSTRUCTION_KEY,
    IdentifyInstruction,
    Instruction,
    RepairInstruction,
    SettleInstruction,
    Target,
    UnlearnInstruction,
    arrivals_of,
    arrivals_record,
)
from fed_unlearn.protocol.left_out import changed_arrays
from fed_unlearn.protocol.messages import (
    ARRAYS_KEY,
    BACKWARD_PASSES,
    CONFIG_KEY,
    FORWARD_PASSES,
    METRICS_KEY,
    STAMP_KEY,
    WEIGHT,
    Refusal,
    Stamp,
    arrays_of,
    audit_record,
    config_of,
    content,
    digest_of,
    error_of,
    id_problem_of,
    read_audit,
    read_count,
    read_counts,
    read_earlier_tombstones,
    read_forgotten,
    read_metric,
    read_stamp,
    read_uncounted,
    refusal_of,
    refuse,
    reply,
    write_earlier_tombstones,
    write_forgotten,
    write_stamp,
    write_uncounted,
)
from fed_unlearn.protocol.model_arrays import REFERENCE_KEY, read_model_arrays, reference_of, write_model_arrays
from fed_unlearn.protocol.output_rows import read_output_rows, write_output_rows
from fed_unlearn.protocol.owner_receipts import (
    LONGEST_RECEIPT,
    MOST_RECEIPTS,
    RECEIPTS_KEY,
    OwnerReceipt,
    keeps_receipts,
    read_receipts,
    receipt_digest,
    receipts_record,
    write_keeps_receipts,
)
from fed_unlearn.protocol.owners import (
    ANSWERS_KEY,
    MOST_IN_A_MESSAGE,
    QUEUED_KEY,
    OwnerNote,
    answers_record,
    read_answers,
    read_owner_note,
    without_records,
    write_owner_note,
)
from fed_unlearn.protocol.relearning import (
    SERVED_KEY,
    BlocksInstruction,
    KeptBelow,
    RelearnInstruction,
    UpperBlocks,
    lacks_served,
    read_blocks,
    served_of,
    with_served,
    write_blocks,
    write_lacks_served,
)
from fed_unlearn.protocol.secure_aggregation import HIDDEN_REPLIES, SECURE_AGGREGATION_KEY, is_secure_aggregation
from fed_unlearn.protocol.statistics import (
    STATISTICS_KEY,
    StatisticsInstruction,
    read_statistics,
    write_statistics,
)
from fed_unlearn.protocol.versions import (
    LEAVES_OUT_EQUAL_ARRAYS,
    OLDEST_PROTOCOL,
    PROTOCOL_VERSION,
    READS_BUNDLES,
    Versions,
    misfit_of,
    write_versions,
)

__all__ = [
    "ALL_PARTS", "ANSWERS_KEY", "ARRAYS_KEY", "ARRIVALS_KEY", "AUDIT", "BACKWARD_PASSES", "BLOCKS", "CONFIG_KEY",
    "CONFIRM", "DISCARD", "EVALUATE", "FORWARD_PASSES", "HIDDEN_REPLIES", "IDENTIFY", "INSTRUCTION_KEY",
    "LEAVES_OUT_EQUAL_ARRAYS", "LEAVE_OUT_ARRAYS", "LEDGER_KEY", "LONGEST_RECEIPT", "METRICS_KEY",
    "MOST_IN_A_MESSAGE", "MOST_RECEIPTS", "OLDEST_PROTOCOL", "OWN_MESSAGES", "PROTOCOL_VERSION", "QUEUED_KEY",
    "READS_BUNDLES", "READS_SAMPLES", "RECEIPTS_KEY", "REFERENCE_KEY", "RELEARN", "REPAIR", "REPLIES_WITH_MODEL",
    "REQUESTS", "SECURE_AGGREGATION_KEY", "SERVED_KEY", "SERVER_ROUND", "STAMP_KEY", "STATISTICS", "STATISTICS_KEY",
    "TRAIN", "UNLEARN", "WEIGHT", "AuditInstruction", "BlocksInstruction", "IdentifyInstruction", "Instruction",
    "KeptBelow", "OwnerNote", "OwnerReceipt", "Part", "Refusal", "RelearnInstruction", "RepairInstruction",
    "RequestAttempt", "RequestName", "SettleInstruction", "Stamp", "StatisticsInstruction", "Target",
    "UnlearnInstruction", "UpperBlocks", "Versions", "answers_record", "arrays_of", "arrivals_of",
    "arrivals_record", "asked_digest", "attempts_of", "attempts_record", "audit_record", "bundled",
    "changed_arrays", "config_of", "content", "digest_of", "error_of", "has_put_by", "id_problem_of", "is_bundled",
    "is_secure_aggregation", "keeps_receipts", "lacks_served", "ledger_of", "ledger_record", "misfit_of",
    "read_answers", "read_audit", "read_blocks", "read_class_names", "read_count", "read_counts",
    "read_earlier_tombstones", "read_forgotten", "read_metric", "read_model_arrays", "read_output_rows",
    "read_owner_note", "read_receipts", "read_stamp", "read_statistics", "read_uncounted", "receipt_digest",
    "receipts_record", "reference_of", "refusal_of", "refuse", "reply", "served_of", "unbundled", "with_served",
    "without_records", "write_blocks", "write_class_names", "write_earlier_tombstones", "write_forgotten",
    "write_keeps_receipts", "write_lacks_served", "write_model_arrays", "write_output_rows", "write_owner_note",
    "write_put_by", "write_stamp", "write_statistics", "write_uncounted", "write_versions",
]  # fmt: skip

TRAIN = "train"
UNLEARN = "train.unlearn"
REPAIR = "train.repair"
RELEARN = "train.relearn"
STATISTICS = "train.statistics"
CONFIRM = "train.confirm"
DISCARD = "train.discard"
AUDIT = "evaluate.audit"
IDENTIFY = "query.identify"
BLOCKS = "query.blocks"
REQUESTS = "query.requests"
EVALUATE = "evaluate"

OWN_MESSAGES = frozenset({UNLEARN, REPAIR, RELEARN, STATISTICS, CONFIRM, DISCARD, AUDIT, IDENTIFY, BLOCKS, REQUESTS})
"""Messages that the library sends for itself, not for the wrapped strategy."""

SERVER_ROUND = "server-round"
"""Number of the round in the configuration of a message, as Flower's strategies give it."""

LEAVE_OUT_ARRAYS = frozenset({UNLEARN, REPAIR, RELEARN, STATISTICS})
"""Messages whose replies may leave out the arrays that equal those that were sent."""

REPLIES_WITH_MODEL = frozenset({UNLEARN, REPAIR, RELEARN})
"""Messages of the library whose replies carry a model or its last blocks. Mods of an app act on them as on training."""

READS_SAMPLES = frozenset({TRAIN, EVALUATE, UNLEARN, REPAIR, RELEARN, STATISTICS, CONFIRM, AUDIT})
"""Messages that a client answers by its samples: they say which of these have arrived, where not all have."""
