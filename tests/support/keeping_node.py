"""A client that keeps something for itself, each of whose messages is handled by a new process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from federation import CLIENTS, digits_of
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as SavedRecords
from partial_models import HEAD, PartTask, PrivateHead, app_of
from torch import nn

from fed_unlearn import ForgetRequest, protocol
from fed_unlearn.client.store import ClientStore
from fed_unlearn.simulations.inprocess import InProcessGrid
from fed_unlearn.strategies.clients.messages.runtime import with_ledger

LEDGER = "the-ledger"
CLASS = ForgetRequest.for_class(3, id="of-class")
OTHER_CLASS = ForgetRequest.for_class(5, id="of-other-class")


def samples_request(client: int = 0, name: str = "of-samples") -> ForgetRequest:
    return ForgetRequest.for_samples(client, digits_of(client).train.ids[:4], id=name)


class Keeping(PrivateHead):
    """Beside its head, a client keeps a record of facts that is dropped, and one of counts that is changed in place."""

    def forget_personal(self, context: Context) -> None:
        super().forget_personal(context)
        context.state.pop("facts", None)
        if "counts" in context.state:
            context.state.metric_records["counts"]["seen"] = [0, 0]


class KeepingNode:
    """One client of a run. Between messages, nothing is left of it but what Flower saves, and its folder.

    Attributes
    ----------
    state : RecordDict
        What the app sees in ``context.state`` as Flower has saved it, with what the library has put there.
    """

    def __init__(self, folder: Path, task: type[PartTask] = Keeping, client: int = 0) -> None:
        self.folder, self.client, self._task = folder, client, task
        self._saved = recorddict_to_proto(RecordDict()).SerializeToString()

    @property
    def state(self) -> RecordDict:
        return recorddict_from_proto(SavedRecords.FromString(self._saved))

    def keep(self, **records: ArrayRecord | ConfigRecord | MetricRecord) -> None:
        """Put records into the state, as the app does."""
        self._saved = recorddict_to_proto(RecordDict({**self.state, **records})).SerializeToString()

    def keep_all(self) -> RecordDict:
        """Put a head, facts and counts into the state, and return it."""
        head = {name: value + 1 for name, value in _head_of(self._task().build_model(None)).items()}
        self.keep(
            head=ArrayRecord(head), facts=ConfigRecord({"of": "all digits"}), counts=MetricRecord({"seen": [3, 4]})
        )
        return self.state

    def new_run(self) -> None:
        self._saved = recorddict_to_proto(RecordDict()).SerializeToString()

    def send(
        self,
        kind: str,
        instruction: protocol.Instruction | None = None,
        attempts: Sequence[tuple[ForgetRequest, int]] = (),
        *,
        dies: bool = False,
    ) -> Message:
        """Have a message handled. Where the process dies before it replies, Flower saves nothing of the state."""
        task = self._task()
        stores = [{"client-dir": str(self.folder / str(client))} for client in range(CLIENTS)]
        grid = InProcessGrid(app_of(task), CLIENTS, node_configs=stores)
        context = grid._contexts[self.client + 1]
        context.state = self.state
        arrays = ArrayRecord(dict(task.arrays_of(task.build_model(None))))
        content = protocol.content(instruction, arrays, ConfigRecord({"server-round": 1}))
        numbered = [protocol.RequestAttempt.numbered(request, number) for request, number in attempts]
        [reply] = grid.send_and_receive(with_ledger([Message(content, self.client + 1, kind)], LEDGER, numbered))
        assert reply.has_content(), reply.error.reason
        if not dies:
            self._saved = recorddict_to_proto(context.state).SerializeToString()
        return reply

    def unlearn(
        self, *attempts: tuple[ForgetRequest, int], step: int = 0, method: str | None = "boundary-shrink"
    ) -> Message:
        instruction = protocol.UnlearnInstruction(
            targets=tuple(protocol.Target.of(request, number) for request, number in attempts),
            step=step,
            method=method,
            parameters={"epochs": 1} if method else {},
            excluded_classes=(3, 5),
            seed=0,
        )
        return self.send(protocol.UNLEARN, instruction, attempts)

    def repair(self, *attempts: tuple[ForgetRequest, int]) -> Message:
        guarded = tuple(protocol.RequestAttempt.numbered(request, number) for request, number in attempts)
        instruction = protocol.RepairInstruction(guarded=guarded, guard_weight=1, guard_margin=0.0, seed=0, round=1)
        return self.send(protocol.REPAIR, instruction, attempts)

    def confirm(self, *attempts: tuple[ForgetRequest, int], dies: bool = False) -> Message:
        return self._settle(protocol.CONFIRM, attempts, dies=dies)

    def discard(self, *attempts: tuple[ForgetRequest, int], release: bool = False) -> Message:
        return self._settle(protocol.DISCARD, attempts, release=release)

    def _settle(
        self, kind: str, attempts: Sequence[tuple[ForgetRequest, int]], *, release: bool = False, dies: bool = False
    ) -> Message:
        own = [item for item in attempts if getattr(item[0].scope, "client", str(self.client)) == str(self.client)]
        instruction = protocol.SettleInstruction(
            targets=tuple(protocol.Target.of(*item) for item in own),
            release=release,
            others=tuple(protocol.RequestAttempt.numbered(*item) for item in attempts if item not in own),
        )
        return self.send(kind, instruction, dies=dies)

    def train(self, *attempts: tuple[ForgetRequest, int]) -> Message:
        return self.send(protocol.TRAIN, attempts=attempts)

    @property
    def store(self) -> ClientStore:
        """The durable store, as another process finds it."""
        return ClientStore(self.folder / str(self.client), digits_of(self.client).fingerprint, LEDGER)


def seen(state: RecordDict) -> dict[str, object]:
    """What of a state is the app's own, for comparison, bit for bit."""
    return {
        name: {key: getattr(value, "data", value) for key, value in record.items()}
        for name, record in state.items()
        if not name.startswith("fed_unlearn")
    }


def put_by(state: RecordDict) -> set[str]:
    """Names of records that the library keeps in a state, but for its notes."""
    return {name for name in state if name.startswith("fed_unlearn/")}


def holds_bytes(state: RecordDict, record: ArrayRecord) -> bool:
    """Whether any record of a state has the bytes of one of some arrays."""
    secret = {array.data for array in record.values()}
    return any(array.data in secret for each in state.array_records.values() for array in each.values())


def _head_of(model: nn.Module) -> dict[str, object]:
    return {name: value for name, value in model.state_dict().items() if name.startswith(HEAD)}
