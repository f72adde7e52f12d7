"""An output layer in closed form, from clients' sums over their retained samples: linear discriminant analysis.

Fresh rows of the output layer have to be learned from clients with few classes each, who pull them apart. Sums of
features add up exactly, whatever classes a client has.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from statistics import median_low

import numpy as np

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, pack
from fed_unlearn.errors import InvalidDataError, ProtocolError
from fed_unlearn.methods.parts.ridge import FEATURE_STEP, Doubles, RidgeStatistics
from fed_unlearn.output_rows import fitting_weights
from fed_unlearn.strategies.clients.claims import most_retained
from fed_unlearn.strategies.server_methods.base import ServerWork
from fed_unlearn.strategies.server_methods.relearn_rounds import ask_above_kept

SHRINKAGE = 0.1
"""Share of the mean variance that is added to the variance of every feature."""

LARGEST_OF_MEDIAN = 10.0
"""Largest mean square of a client's features, as a multiple of the median. Sums of a client above it do not count."""

logger = logging.getLogger("fed_unlearn.strategies")


def discriminant(total: RidgeStatistics, shrinkage: float = SHRINKAGE) -> tuple[Doubles, Doubles]:
    """The output layer that is right where classes are normal with one covariance (Fisher, 1936; Rao, 1948).

    Parameters
    ----------
    total : RidgeStatistics
        Sums over at least one sample.
    shrinkage : float
        Shrinkage of the covariance, see :data:`SHRINKAGE`.

    Returns
    -------
    tuple of ndarray of shape (classes, features) and ndarray of shape (classes,), float64
        Weights and biases, so that softmax gives the classes' probabilities. Both have mean 0 over the
        classes. A class without a sample has zeros, which are the mean of the others' rows.
    """
    known = total.counts > 0
    means = np.zeros_like(total.sums)
    means[known] = total.sums[known] / total.counts[known, None]
    within = (total.products - means.T @ (total.counts[:, None] * means)) / total.count * total.step**2
    means *= total.step
    size = len(within)
    spread = within + (shrinkage * np.trace(within) / size + np.finfo(np.float64).tiny) * np.eye(size)
    weight = np.linalg.solve(spread, means.T).T
    bias = np.log(np.maximum(total.counts, 1) / total.count) - (weight * means).sum(1) / 2
    weight, bias = weight - weight[known].mean(0), bias - bias[known].mean()  # the same probabilities
    weight[~known], bias[~known] = 0.0, 0.0
    return weight, bias


def with_discriminant(
    work: ServerWork,
    arrays: Arrays,
    reset: Collection[str],
    trained: Collection[str],
    relearning: protocol.RelearnInstruction,
) -> Arrays:
    """A model with that output layer, from what clients that stay say of their retained samples.

    Its weights are scaled to the length that those of the served model have, where they are longer, and its biases
    alike. Classes that lie far apart have weights so long that no later training or request would move them.
    A client that sends no sums, as one whose mods clip or noise models, is left out of them and named in the log. The
    model stays as it is where no client sends any, or where none of the arrays that are trained can be the weight of
    such a layer. The log says so.

    Parameters
    ----------
    work : ServerWork
    arrays : dict of ndarray
        The model. It differs from the served one in the last blocks alone.
    reset : collection of str
        Names of the arrays of these blocks, which clients are sent.
    trained : collection of str
        Names of those arrays that the model has not frozen.
    relearning : RelearnInstruction
        Instruction of the first round. Clients keep what lies below for it.
    """
    found = within_usual_size(work, _sums_of_clients(work, {name: arrays[name] for name in reset}, relearning))
    total, problem = _added(found)
    names = [] if total is None else _weights_of(arrays, trained, total)
    if total is None or len(names) != 1:
        told = problem or f"{len(names)} of the arrays may be the weight of the output layer"
        logger.warning("request %s: the output layer stays as it was drawn: %s", work.request.id, told)
        return arrays
    try:
        weight, bias = discriminant(total)
    except np.linalg.LinAlgError:
        weight = np.full(total.sums.shape, np.nan)
    length = np.linalg.norm(weight)
    if not np.isfinite(length):
        logger.warning(
            "request %s: the output layer stays as it was drawn: no sums of features tell it", work.request.id
        )
        return arrays
    [name] = names
    share = min(1.0, float(np.linalg.norm(work.served[name]) / length))
    weight, bias = share * weight, share * bias
    bias_name = f"{name.removesuffix('weight')}bias"
    solved = {name: weight.reshape(arrays[name].shape)} | ({bias_name: bias} if bias_name in trained else {})
    return {**arrays, **{key: np.asarray(value, arrays[key].dtype) for key, value in solved.items()}}


def within_usual_size(work: ServerWork, found: Mapping[str, RidgeStatistics]) -> dict[str, RidgeStatistics]:
    """The sums of clients whose features are of the usual size; the others are named in the log.

    Features far larger than all others' would decide alone what the layer separates.

    Parameters
    ----------
    work : ServerWork
    found : mapping of str to RidgeStatistics
        Sums of each client, by client.

    Returns
    -------
    dict of str to RidgeStatistics
        Sums by client. None is left out where there are fewer than three clients.
    """
    sizes = {client: _mean_square(sums) for client, sums in found.items()}
    if len(sizes) < 3:
        return dict(found)
    usual = LARGEST_OF_MEDIAN * median_low(sizes.values())
    for client, size in sizes.items():
        if size > usual:
            work.grid.name(client, f"has features of mean square {size:.3g}, over {usual:.3g}; its sums do not count")
    return {client: sums for client, sums in found.items() if sizes[client] <= usual}


def _mean_square(sums: RidgeStatistics) -> float:
    """Mean over samples and features of the squared feature."""
    return float(np.trace(sums.products)) * sums.step**2 / max(sums.count * len(sums.products), 1)


def _sums_of_clients(
    work: ServerWork, upper: Arrays, relearning: protocol.RelearnInstruction
) -> dict[str, RidgeStatistics]:
    """The sums of each client that has samples. A client that sends none, or impossible ones, is named in the log."""
    below = relearning.kept_below()
    instruction = protocol.StatisticsInstruction(
        step=FEATURE_STEP,
        arrived=work.arrived,
        may_be_none=True,
        blocks=below.blocks,
        base=below.base,
        asks_model=below.asks_model,
    )
    content = protocol.content(instruction, pack(upper), work.train_config)
    answers = ask_above_kept(work, protocol.STATISTICS, content, carries_served=True)
    problems = {**answers.refused, **answers.failed}
    found: dict[str, RidgeStatistics] = {}
    for client, reply in answers.replies.items():
        if protocol.read_metric(reply, protocol.WEIGHT) == 0:
            continue
        try:
            _, most = most_retained(work.grid.roster, client)
            own = protocol.read_statistics(reply, step=FEATURE_STEP, most=most)
            if not _weights_of(upper, upper, own):
                raise ProtocolError(f"its sums of shape {own.sums.shape} fit none of the last layers")
            found[client] = own
        except ProtocolError as error:
            problems[client] = str(error)
    for client, problem in problems.items():
        told = problem.removeprefix(f"client {client}: ")
        work.grid.name(client, f"sends no sums, and its samples tell nothing of the output layer: {told}")
    return found


def _added(found: Mapping[str, RidgeStatistics]) -> tuple[RidgeStatistics | None, str]:
    """The sums of all clients together; None where there are none, and in words why."""
    total: RidgeStatistics | None = None
    try:
        for own in found.values():
            total = own if total is None else total + own
    except InvalidDataError as error:
        return None, str(error)
    return total, "" if found else "no client has sent sums"


def _weights_of(arrays: Arrays, trained: Collection[str], total: RidgeStatistics) -> list[str]:
    """The arrays that may be the weight of the output layer that the sums are of."""
    class_count, feature_count = total.sums.shape
    return fitting_weights(arrays, class_count, feature_count, trained)
