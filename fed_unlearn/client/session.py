"""The client's side of one message, which the handlers of an installed app share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import cached_property

import torch
from flwr.app import ArrayRecord, Context, Message, MessageType
from torch import nn

import fed_unlearn
from fed_unlearn import protocol
from fed_unlearn.arrays import to_state_dict
from fed_unlearn.client import kept_features, known_answers
from fed_unlearn.client.kept_activations import KeptActivations
from fed_unlearn.client.kept_features import KeptFeatures
from fed_unlearn.client.kept_files import written_at
from fed_unlearn.client.kept_state import KeptState
from fed_unlearn.client.known_answers import KnownAnswers
from fed_unlearn.client.store import ClientStore
from fed_unlearn.client.working_model import WorkingModel, personal_model, sent_arrays
from fed_unlearn.data.images import ClientData
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.model_copies import copied
from fed_unlearn.owner import OwnerQueue
from fed_unlearn.protocol.instructions import arriving
from fed_unlearn.task import Task

Handler = Callable[[Message, Context], Message]


class ClientSession:
    """The client's side of one message: data, durable store and model, each loaded when first used.

    Parameters
    ----------
    task : Task
        The user's side of the app.
    context : Context
        Context of the message.
    models : dict
        The process's model by device and run. All messages of one app share it.
    message : Message, optional
        The message. It may say in which experiences the client's training samples arrive.

    Attributes
    ----------
    task, context
        The task and the context that were given.
    ledger : str
        Identity of the ledger whose server sent the message. Empty where the message does not say.
    took_retained_view : bool
        Whether the handler has called ``retained()``.
    kept : KeptState
        What the client kept for itself before requests that are being attempted.
    """

    def __init__(
        self, task: Task, context: Context, models: dict[str, WorkingModel], message: Message | None = None
    ) -> None:
        self.task = task
        self.context = context
        self.ledger = protocol.ledger_of(message) if message is not None else ""
        self.took_retained_view = False
        self.kept = KeptState(context, self.ledger, message, lambda: self.store)
        self._models = models
        self._message = message

    @cached_property
    def data(self) -> ClientData:
        """The client's samples, with the training experiences that the message assigns, if it does.

        Raises
        ------
        ProtocolError
            If the message's experiences are malformed or belong to other data.
        """
        data = self._loaded
        experiences = protocol.arrivals_of(self._message) if self._message is not None else None
        return data if experiences is None else arriving(data, experiences)

    @cached_property
    def _loaded(self) -> ClientData:
        return self.task.load_data(self.context)

    @cached_property
    def store(self) -> ClientStore:
        """The client's durable store, as the message's ledger sees it. What may be read no longer is dropped."""
        folder = self.task.store_folder(self.context)
        store = ClientStore.open(folder, self._loaded.fingerprint, self.ledger)
        if store.retention_ended_since(written_at(folder / known_answers.FILE_NAME)):
            self.known_answers.drop(store.unreadable_ids())
        if store.retention_ended_since(written_at(folder / kept_features.FILE_NAME)):
            self.kept_features.save(store.unreadable_ids())
        return store

    @cached_property
    def known_answers(self) -> KnownAnswers:
        """What models have answered to this client's samples, in the folder of the store."""
        return KnownAnswers(self.task.store_folder(self.context), self._loaded.fingerprint)

    @cached_property
    def kept_features(self) -> KeptFeatures:
        """What a frozen backbone gives for this client's samples, in the folder of the store."""
        folder, answers = self.task.store_folder(self.context), self.known_answers
        return KeptFeatures(folder, self._loaded.fingerprint, lambda sample_id: answers.key_of("train", sample_id))

    @cached_property
    def kept_activations(self) -> KeptActivations:
        """What lies below the last blocks gives for this client's retained samples, in the folder of the store."""
        return KeptActivations(self.task.store_folder(self.context), self._loaded.fingerprint)

    @property
    def attempts(self) -> str:
        """The attempts that the message belongs to, as one text; empty where it belongs to none."""
        told = protocol.attempts_of(self._message) if self._message is not None else ()
        names = [f"{attempt.request_id}#{attempt.attempt}" for attempt in told]
        return f"{self.ledger} {' '.join(names)}" if names else ""

    @cached_property
    def owner(self) -> OwnerQueue:
        """The requests that this client's owner has queued, in the folder of the store."""
        return OwnerQueue.open(self.task.store_folder(self.context))

    def load(self) -> None:
        """Read the client's data and open its store, which every handler of an unlearning message needs."""
        self.store  # noqa: B018

    @cached_property
    def device(self) -> torch.device:
        """The task's device. Torch looks for accelerators anew each time that it is asked."""
        return self.task.device()

    @property
    def client_id(self) -> str:
        """The client's stable name."""
        return self.task.client_id(self.context)

    @property
    def is_training(self) -> bool:
        """Whether the message asks for a trained model."""
        kind = "" if self._message is None else self._message.metadata.message_type
        return kind.partition(".")[0] == MessageType.TRAIN

    @property
    def is_out_of_training(self) -> bool:
        """Whether this client takes part in no training: its owner asks that all of it is forgotten."""
        return self.owner.is_used and self.owner.excludes_all

    def excluded_ids(self) -> frozenset[str]:
        """Ids of all samples that may not be trained on: quarantined, tombstoned, or asked for by the owner."""
        excluded = self.store.excluded_ids()
        if not self.owner.is_used:
            return excluded
        everything = self._loaded.train.ids if self.owner.excludes_all else ()
        return excluded.union(self.owner.excluded_ids(), everything)

    def retained_samples(self, arrived: int = 0) -> SampleSet:
        """The client's training samples that are neither quarantined nor tombstoned, nor asked for by its owner.

        Parameters
        ----------
        arrived : int
            Number of training experiences whose samples are included. 0 means all.
        """
        return self.data.arrived(arrived or None).without(self.excluded_ids())

    def model_with(self, arrays: ArrayRecord) -> nn.Module:
        """The process's model with the given weights, on the task's device."""
        return self._working.load(self.task, to_state_dict(arrays))

    def model_with_some(self, arrays: ArrayRecord) -> nn.Module:
        """The process's model with some of its weights as given, and the others as they are."""
        working = self._working
        state = {**sent_arrays(self.task, working.model), **to_state_dict(arrays)}
        return working.load(self.task, state)

    def model_to_train(self, arrays: ArrayRecord) -> nn.Module:
        """The model that training begins with: the given weights, and this client's own of what does not travel."""
        model = self.model_with(arrays)
        if not self._working.rest:
            return model
        personal = self.personal(model)
        if personal is not model:
            self.task.load_arrays(personal, to_state_dict(arrays))
        return personal

    def model_beside(self, model: nn.Module, arrays: ArrayRecord, others: ArrayRecord | None) -> nn.Module | None:
        """A copy of a model that was made of ``arrays``, with other values of some; None where there are no others."""
        if others is None:
            return None
        beside = copied(model)
        self.task.load_arrays(beside, {**to_state_dict(arrays), **to_state_dict(others)})
        return beside

    def personal(self, model: nn.Module) -> nn.Module:
        """What this client uses in place of a model; the model itself where that is the same."""
        return personal_model(self.task, model, self.context)

    def renew_personal(self, unlearned: nn.Module | None) -> None:
        """Drop what the client keeps for itself, and keep that of a model that has unlearned, where there is one.

        What it was is put by if the message belongs to an attempt.
        """
        with self.kept.changes(renews=True):
            self.task.forget_personal(self.context)
            if unlearned is not None:
                self.task.keep_personal(unlearned, self.context)

    def keep_personal(self, model: nn.Module) -> None:
        """Keep what does not travel of a model that repair has made; what it was is put by, as above."""
        with self.kept.changes():
            self.task.keep_personal(model, self.context)

    def must_renew(self, targets: Sequence[protocol.Target], *, holds: bool) -> bool:
        """Whether requests concern what this client keeps for itself.

        Those of a class do where the whole model travels, whether or not the client holds a sample: what it keeps may
        know the class from the model of all.
        """
        return holds or (self.sends_whole_model and any(target.scope == "class" for target in targets))

    def models_to_judge(self, arrays: ArrayRecord) -> tuple[nn.Module, nn.Module | None]:
        """What this client uses, and beside it the model of all where that is another one, and one by itself.

        It is none where what does not travel has values in it that nobody uses.
        """
        model = self.model_with(arrays)
        personal = self.personal(model)
        return personal, model if personal is not model and self._working.is_whole_in(personal) else None

    @property
    def sends_whole_model(self) -> bool:
        """Whether all of the model's state travels."""
        return not self._working.rest

    @property
    def model(self) -> nn.Module:
        """The process's model, with whatever weights it has."""
        return self._working.model

    @property
    def _working(self) -> WorkingModel:
        key = f"{self.device} {self.context.run_id} {sorted(self.context.run_config.items())}"
        own_key = f"{key} {self.client_id}"
        working = self._models.get(key) or self._models.get(own_key)
        if working is None:
            self._models.clear()
            working = WorkingModel.build(self.task, self.context, self.device)
            self._models[own_key if working.rest else key] = working  # what does not travel may be this client's own
        return working

    def stamp(self, answers: str) -> protocol.Stamp:
        """The stamp of a reply: facts on this client, and the configuration that the reply answers."""
        return protocol.Stamp(
            answers=answers,
            client_id=self.client_id,
            tombstones=self.store.tombstone_digest(),
            requested=self.store.requested_count(self._loaded.train.ids),
            retained=self.took_retained_view,
            version=fed_unlearn.__version__,
            device=str(self.device),
            cuda_visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        )


active_session: ContextVar[ClientSession | None] = ContextVar("fed_unlearn_session", default=None)
"""The session of the message that is being handled, if any."""


def current_session() -> ClientSession:
    """The session of the message that is being handled.

    Raises
    ------
    FedUnlearnError
        If no message of an app with installed actions is being handled.
    """
    session = active_session.get()
    if session is None:
        raise FedUnlearnError(
            "no message of an installed app is being handled; call fed_unlearn.client.install(app, task) where the"
            " ClientApp is made, and retained() only inside its handlers"
        )
    return session
