"""What a call trains with: ordinary rounds of an experience, and a trainer that knows nothing of earlier rounds."""

from __future__ import annotations

from flwr.app import ConfigRecord
from flwr.serverapp.strategy import Strategy

from fed_unlearn.strategies.context import CallContext
from fed_unlearn.strategies.inner.privacy import PrivacyAccountant
from fed_unlearn.strategies.inner.state import fresh_copy
from fed_unlearn.strategies.state import OpenTraining
from fed_unlearn.strategies.training.experience import TrainingExperience
from fed_unlearn.strategies.training.history import HistoryStore
from fed_unlearn.strategies.training.trainer import EvaluateFunction, Trainer


def fresh_trainer(context: CallContext, *, accountant: PrivacyAccountant | None = None) -> Trainer:
    """A trainer around a copy of the wrapped strategy that knows nothing of earlier rounds; it keeps no history.

    Parameters
    ----------
    context : CallContext
        What the call works with.
    accountant : PrivacyAccountant, optional
        Counts releases with noise; needed where the model may be served.
    """
    return _trainer(context, fresh_copy(context.inner), accountant, None)


def experience_of(
    context: CallContext,
    training: OpenTraining,
    evaluate_config: ConfigRecord,
    evaluate_every: int,
    evaluate_fn: EvaluateFunction | None,
) -> TrainingExperience:
    """An experience that the wrapped strategy itself trains; parameters as :class:`TrainingExperience` has them."""
    trainer = _trainer(context, context.inner, context.state.accountant, context.history)
    return TrainingExperience(context, trainer, training, evaluate_config, evaluate_every, evaluate_fn)


def _trainer(
    context: CallContext, inner: Strategy, accountant: PrivacyAccountant | None, history: HistoryStore | None
) -> Trainer:
    """Robust and private strategies bound changes by themselves."""
    return Trainer(
        inner,
        context.grid,
        context.timeout,
        context.seed,
        history=history,
        accountant=accountant,
        noise_seed=context.noise_seed,
        max_norm_factor=context.plan.max_norm_factor if context.kind.trusts_clients else None,
    )
