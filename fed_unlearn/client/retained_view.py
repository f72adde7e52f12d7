"""The training data of a client without the samples that it must not train on."""

from __future__ import annotations

from collections.abc import Sized
from typing import TypeVar, overload

from flwr.app import Context
from torch import Tensor
from torch.utils.data import Dataset, Subset

from fed_unlearn.client.session import current_session
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError

Samples = TypeVar("Samples", bound=SampleSet)


@overload
def retained(dataset: Samples, context: Context) -> Samples: ...
@overload
def retained(dataset: Dataset[tuple[Tensor, int]], context: Context) -> Dataset[tuple[Tensor, int]]: ...


def retained(dataset: Dataset[tuple[Tensor, int]], context: Context) -> Dataset[tuple[Tensor, int]]:
    """The samples of a client's training data that are neither quarantined nor tombstoned, nor asked for by its owner.

    Parameters
    ----------
    dataset : Dataset
        The client's training samples, or some of them. If it has ``ids``, they are the sample ids. Else it must be as
        long as the task's training set and have the same order.
    context : Context
        Context of the message that is being handled.

    Returns
    -------
    Dataset
        A set of the same kind if a SampleSet was given, else a ``torch.utils.data.Subset``.

    Raises
    ------
    FedUnlearnError
        If no message is being handled, the context is another client's, or the samples' ids cannot be determined.
    """
    session = current_session()
    if context is not session.context and context.node_config != session.context.node_config:
        raise FedUnlearnError("retained() was given the context of another client; pass the handler's own")
    session.took_retained_view = True
    excluded = session.excluded_ids()
    if isinstance(dataset, SampleSet):
        return dataset.without(excluded)
    ids = getattr(dataset, "ids", None)
    if ids is None:
        size = len(dataset) if isinstance(dataset, Sized) else "an unknown number of"
        if size != len(session.data.train):
            raise FedUnlearnError(
                f"retained() was given {size} samples without ids; the task's training set has"
                f" {len(session.data.train)}: give the dataset an `ids` attribute with one id for each sample"
            )
        ids = session.data.train.ids
    return Subset(dataset, [index for index, sample_id in enumerate(ids) if str(sample_id) not in excluded])
