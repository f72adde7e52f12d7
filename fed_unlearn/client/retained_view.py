"""The training data of a client without the samples that it must not train on."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence, Sized
from typing import Any, TypeVar, overload

from flwr.app import Context
from torch.utils.data import DataLoader, Dataset, Subset

from fed_unlearn.client.loaders.columns import ids_of
from fed_unlearn.client.loaders.copies import check_loader, same_loader
from fed_unlearn.client.session import ClientSession, current_session
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError, NothingRetainedError

logger = logging.getLogger("fed_unlearn.client")

Samples = TypeVar("Samples", bound=SampleSet)
Loader = TypeVar("Loader", bound=DataLoader[Any])


@overload
def retained(dataset: Samples, context: Context) -> Samples: ...
@overload
def retained(dataset: Loader, context: Context) -> Loader: ...
@overload
def retained(dataset: Dataset[Any], context: Context) -> Dataset[Any]: ...


def retained(dataset: Dataset[Any] | DataLoader[Any], context: Context) -> Dataset[Any] | DataLoader[Any]:
    """The samples of a client's training data that are neither quarantined nor tombstoned, nor asked for by its owner.

    Parameters
    ----------
    dataset : Dataset or DataLoader
        The client's training samples, or some of them, or a loader over them. If the data set has ``ids``, they are the
        sample ids. Else it must be as long as the task's data set and have the same order.
    context : Context
        Context of the message that is being handled.

    Returns
    -------
    Dataset or DataLoader
        A set of the same kind if a SampleSet or a ``datasets.Dataset`` was given, else a ``torch.utils.data.Subset``.
        For a loader, one over such a set with the same batch size, order, collate function and workers; a last batch
        of one sample is joined to the one before.

    Raises
    ------
    NothingRetainedError
        If a loader, or a data set that is no SampleSet, has no sample left for training. The handler ends there, and
        the server leaves the client out of the round.
    FedUnlearnError
        If no message is being handled, the context is another client's, the samples' ids cannot be determined, or a
        loader chooses samples by itself.

    Examples
    --------
    >>> trainloader = retained(trainloader, context)  # doctest: +SKIP
    """
    session = current_session()
    if context is not session.context and context.node_config != session.context.node_config:
        raise FedUnlearnError("retained() was given the context of another client; pass the handler's own")
    if isinstance(dataset, DataLoader):
        check_loader(dataset)
        return same_loader(dataset, retained(dataset.dataset, context))
    session.took_retained_view = True
    if isinstance(dataset, SampleSet):
        return dataset.without(_excluded(session))
    kept = _kept(dataset, session)
    if not kept and session.is_training:
        raise NothingRetainedError(f"client {session.client_id} has no sample left that it may train on")
    return _at(dataset, kept)


def warn_of_other_ledgers(session: ClientSession) -> None:
    """Warn of samples that stay out of training since another ledger's requests name them: a store outlives a run."""
    others = (session.store.excluded_ids() - session.store.own_excluded_ids()).intersection(session.data.train.ids)
    if others:
        logger.warning(
            "client %s: %d of its %d training samples stay out of training, as requests of another ledger ask; its"
            " store is %s: to begin anew, give another folder, or remove this one",
            session.client_id,
            len(others),
            len(session.data.train),
            session.task.store_folder(session.context),
        )


def _excluded(session: ClientSession) -> Collection[str]:
    """Ids that may not be trained on, with those of the task's data set that its training set has not."""
    known, train = session.task.dataset_ids(session.context), session.task.load_data(session.context).train.ids
    return session.excluded_ids() if known is train else {*session.excluded_ids(), *set(known).difference(train)}


def _kept(dataset: Dataset[Any], session: ClientSession) -> list[int]:
    """The positions of a data set that may be trained on."""
    ids: Sequence[str] | None = ids_of(dataset)
    if ids is None:
        ids = session.task.dataset_ids(session.context)
        size = len(dataset) if isinstance(dataset, Sized) else "an unknown number of"
        if size != len(ids):
            raise FedUnlearnError(
                f"retained() was given {size} samples without ids; the task's data set has {len(ids)}: give it the"
                " client's whole training data, or give the data set an `ids` attribute with one id for each sample"
            )
        session.task.check_dataset(dataset, session.context)
    excluded = _excluded(session)
    return [index for index, sample_id in enumerate(ids) if sample_id not in excluded]


def _at(dataset: Dataset[Any], positions: list[int]) -> Dataset[Any]:
    """The samples at some positions; of the data sets of Hugging Face, one of their own."""
    select = getattr(dataset, "select", None)
    if type(dataset).__module__.partition(".")[0] == "datasets" and callable(select):
        chosen: Dataset[Any] = select(positions)
        return chosen
    return Subset(dataset, positions)
