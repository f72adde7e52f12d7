"""A strategy whose training is one closed form: clients send sums, and the server solves the output layer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, pack, unpack
from fed_unlearn.errors import FedUnlearnError, InvalidModelError, InvalidParameterError
from fed_unlearn.methods.frozen_head import FrozenHead as FrozenHeadMethod
from fed_unlearn.methods.parts.frozen_features import solved_head
from fed_unlearn.methods.parts.ridge import FEATURE_STEP, RIDGE, RidgeStatistics
from fed_unlearn.output_rows import fitting_weights
from fed_unlearn.protocol.instructions import arrived_of


class FrozenHead(FedAvg):
    """Trains the output layer of a model by ridge regression, and leaves everything below as it is.

    A round asks every client for sums over what the output layer reads of its retained samples, adds them, and solves
    the layer. One round is all of the training: further ones give the same bits. The model depends on nothing but the
    retained samples of the clients that answer, so the method ``frozen-head`` makes any request exactly as retraining
    would.

    Parameters
    ----------
    ridge, step, head
        Parameters of the ridge regression, as for :class:`fed_unlearn.methods.frozen_head.FrozenHead`.
    fraction_evaluate : float
        Share of the clients that evaluate, as in FedAvg.
    min_train_nodes, min_evaluate_nodes, min_available_nodes : int
        Minimum numbers of nodes, as in FedAvg.

    Attributes
    ----------
    reads_anew : bool
        Whether clients read all their samples, also those whose features they have kept: what retraining costs where
        nothing is kept. The retrain oracle does so.

    Raises
    ------
    InvalidParameterError
        If ``ridge`` or ``step`` is out of range.
    """

    aggregates_repair = True
    """Repair would be training, which here is the closed form: an average of models is none of it."""

    def __init__(
        self,
        ridge: float = RIDGE,
        step: float = FEATURE_STEP,
        head: str | None = None,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
    ) -> None:
        try:
            FrozenHeadMethod(ridge=ridge, step=step, head=head)
        except InvalidParameterError as error:
            raise InvalidParameterError(*error.problems) from None
        super().__init__(
            fraction_train=1.0,
            fraction_evaluate=fraction_evaluate,
            min_train_nodes=min_train_nodes,
            min_evaluate_nodes=min_evaluate_nodes,
            min_available_nodes=min_available_nodes,
        )
        self.ridge, self.step, self.head = ridge, step, head
        self.reads_anew = False
        self.current_arrays: ArrayRecord | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every client for its sums."""
        self.current_arrays = arrays
        instruction = protocol.StatisticsInstruction(
            head=self.head, step=self.step, arrived=arrived_of(config), anew=self.reads_anew
        )
        asked = list(super().configure_train(server_round, arrays, config, grid))
        contents = {id(each.content): each.content for each in asked}
        told = {
            key: RecordDict({**content, protocol.INSTRUCTION_KEY: instruction.to_record()})
            for key, content in contents.items()
        }
        return [
            Message(told[id(message.content)], message.metadata.dst_node_id, protocol.STATISTICS) for message in asked
        ]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add up the sums, and solve the output layer of the model that was sent.

        Raises
        ------
        FedUnlearnError
            If a reply has no sums, as those of repair, or there is no layer that they fit.
        """
        sent, self.current_arrays = self.current_arrays, None
        found = [self.sums_of(reply) for reply in replies]
        if not found:
            return None, None
        if sent is None:
            raise FedUnlearnError("sums were given and no model was sent; call configure_train first")
        total = found[0]
        for other in found[1:]:
            total = total + other
        solved = self.solved(unpack(sent), total)
        return pack(solved), MetricRecord({protocol.WEIGHT: total.count})

    def sums_of(self, reply: Message, most: int | None = None) -> RidgeStatistics:
        """The sums of a reply, checked.

        Parameters
        ----------
        reply : Message
        most : int, optional
            Maximum number of samples that the client of the reply can have; not bounded by default.

        Returns
        -------
        RidgeStatistics

        Raises
        ------
        ProtocolError
            If they cannot be used.
        """
        return protocol.read_statistics(reply, step=self.step, most=most)

    def solved(self, arrays: Arrays, total: RidgeStatistics) -> Arrays:
        """A model with the output layer that the sums give.

        Parameters
        ----------
        arrays : dict of ndarray
            The model; it is not changed.
        total : RidgeStatistics
            Sums over the samples of all clients.

        Returns
        -------
        dict of ndarray
            The model, in its own dtypes.

        Raises
        ------
        InvalidModelError
            If none of its arrays, or several, may be the weight of that layer.
        """
        classes, features = total.sums.shape
        named = [name for name in arrays if name == f"{self.head}.weight" or self.head is None]
        fitting = fitting_weights(arrays, classes, features, named)
        if len(fitting) != 1:
            raise InvalidModelError(
                f"{len(fitting)} arrays of the model may be the weight of an output layer of {classes} classes and"
                f" {features} features; expected one: name the layer, FrozenHead(head=...), and let it travel"
            )
        [weight_name] = fitting
        bias_name = f"{weight_name.removesuffix('weight')}bias"
        has_bias = bias_name in arrays
        weight, bias = solved_head(total, self.ridge, has_bias=has_bias)
        old = arrays[weight_name]
        head = {weight_name: np.asarray(weight.reshape(old.shape), dtype=old.dtype)}
        if has_bias:
            head[bias_name] = np.asarray(bias, dtype=arrays[bias_name].dtype)
        return {**arrays, **head}
