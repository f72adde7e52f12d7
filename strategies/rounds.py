"""The rounds that make up a request: unlearning at the holders, guarded repair at all, confirming and discarding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message

from fed_unlearn import protocol
from fed_unlearn.arrays import Arrays, pack, unpack
from fed_unlearn.requests import ForgetRequest, ParameterValue, SampleScope
from fed_unlearn.strategies.aggregation import difference, norm, weighted_average
from fed_unlearn.strategies.auditing import classes_of
from fed_unlearn.strategies.grid import EligibleGrid
from fed_unlearn.strategies.plan import UnlearningPlan
from fed_unlearn.strategies.roster import Answers


@dataclass(frozen=True)
class HolderModels:
    """What came back from an unlearn round.

    Attributes
    ----------
    models : dict of str to dict of ndarray
        Unlearned model by holder, sorted.
    weights : dict of str to float
        Forget samples by holder.
    refused, failed : dict of str to str
        Why a client refused the request, or failed to serve it.
    """

    models: dict[str, Arrays]
    weights: dict[str, float]
    refused: dict[str, str]
    failed: dict[str, str]


@dataclass(frozen=True)
class RepairedModel:
    """What came back from a repair round.

    Attributes
    ----------
    arrays : dict of ndarray
        Average over all clients, weighted by samples.
    update_norms : tuple of float
        How far each client moved.
    """

    arrays: Arrays
    update_norms: tuple[float, ...]


@dataclass(frozen=True)
class Rounds:
    """Sends the rounds of requests.

    Attributes
    ----------
    grid : EligibleGrid
    timeout : float
        Seconds that each round waits for answers.
    seed : int
    """

    grid: EligibleGrid
    timeout: float
    seed: int

    def unlearn(
        self,
        request: ForgetRequest,
        base: Arrays,
        *,
        method: str,
        parameters: Mapping[str, ParameterValue],
        attempt: int,
        step: int,
        excluded_classes: tuple[int, ...],
    ) -> HolderModels:
        """``train.unlearn``: to every client for a class, to the one holder for samples."""
        scope = request.scope
        instruction = protocol.UnlearnInstruction(
            request_id=request.id or "",
            attempt=attempt,
            step=step,
            scope="sample" if isinstance(scope, SampleScope) else "class",
            classes=classes_of(request),
            sample_ids=scope.sample_ids if isinstance(scope, SampleScope) else (),
            sample_count=scope.count if isinstance(scope, SampleScope) else 0,
            sample_class=scope.of_class if isinstance(scope, SampleScope) else None,
            method=method,
            parameters=dict(parameters),
            excluded_classes=excluded_classes,
            seed=self.seed,
        )
        content = protocol.content(instruction, pack(base))
        clients = [scope.client] if isinstance(scope, SampleScope) else None
        answers = self.grid.ask(protocol.UNLEARN, content, self.timeout, clients)
        holders = _with_weight(answers)
        return HolderModels(
            models={client: _arrays(message) for client, message in holders.items()},
            weights={client: protocol.read_metric(message, protocol.WEIGHT) for client, message in holders.items()},
            refused=answers.refused,
            failed=answers.failed,
        )

    def repair(
        self,
        base: Arrays,
        guarded: tuple[tuple[str, int], ...],
        plan: UnlearningPlan,
        config: ConfigRecord,
        number: int,
    ) -> RepairedModel:
        """``train.repair``: one round of training on retained data, guarded at the holders.

        Parameters
        ----------
        base : dict of ndarray
        guarded : tuple of (request id, attempt)
        plan : UnlearningPlan
            Tells the guard's weight and margin.
        config : ConfigRecord
            Of training, as repair changes it.
        number : int
            Running number of the repair round: part of the seed.

        Returns
        -------
        RepairedModel
            The base itself where no client trained.
        """
        instruction = protocol.RepairInstruction(
            guarded=guarded,
            guard_weight=plan.guard_weight,
            guard_margin=plan.guard_margin,
            seed=self.seed,
            round=number,
        )
        content = protocol.content(instruction, pack(base), config)
        trained = _with_weight(self.grid.ask(protocol.REPAIR, content, self.timeout))
        if not trained:
            return RepairedModel(base, ())
        models = [_arrays(message) for message in trained.values()]
        weights = [protocol.read_metric(message, protocol.WEIGHT) for message in trained.values()]
        return RepairedModel(
            weighted_average(models, weights), tuple(norm(difference(model, base)) for model in models)
        )

    def settle(
        self,
        message_type: str,
        request: ForgetRequest,
        attempt: int,
        *,
        retention_days: float = 0.0,
        release: bool = False,
    ) -> Answers:
        """``train.confirm`` or ``train.discard``: to every client that may hold something of the request."""
        instruction = protocol.SettleInstruction(
            request_id=request.id or "", attempt=attempt, retention_days=retention_days, release=release
        )
        clients = [request.scope.client] if isinstance(request.scope, SampleScope) else None
        return self.grid.ask(message_type, protocol.content(instruction), self.timeout, clients)


def _with_weight(answers: Answers) -> dict[str, Message]:
    return {
        client: message
        for client, message in answers.replies.items()
        if protocol.read_metric(message, protocol.WEIGHT) > 0
    }


def _arrays(message: Message) -> Arrays:
    return unpack(protocol.arrays_of(message))
