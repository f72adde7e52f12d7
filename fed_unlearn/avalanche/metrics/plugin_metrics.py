"""Avalanche metrics of forgetting: how requests stand after they were served and after every later training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from avalanche.evaluation.metric_utils import EVAL, default_metric_name_template, generic_get_metric_name

from fed_unlearn.audits.base import extra_audits
from fed_unlearn.avalanche.metrics.forget_figures import ServedRequest, Standing
from fed_unlearn.avalanche.metrics.forget_watch import ForgetWatch
from fed_unlearn.avalanche.metrics.relapse_matrix import RelapseMatrix
from fed_unlearn.avalanche.streams import ForgetExperience

_FORGET, _TEST = "forget", "test"


@dataclass
class _Shared:
    """The watch that several metrics read, and its last event: the first metric to ask has it measured."""

    watch: ForgetWatch
    now: Standing | None = None
    asked: frozenset[int] = frozenset()

    def after(self, event: str, strategy: Any, asker: object) -> Standing | None:
        if not self.asked or id(asker) in self.asked:
            self.asked, self.now = frozenset(), getattr(self, f"_after_{event}")(strategy)
        self.asked |= {id(asker)}
        return self.now

    def _after_unlearning(self, strategy: Any) -> Standing | None:
        self.watch.serve(strategy.experience)
        return self.watch.measure(strategy.model, _outcomes_of(strategy))

    def _after_training(self, strategy: Any) -> Standing | None:
        self.watch.trained = strategy.clock.train_exp_counter + 1  # the Clock is the last of the plug-ins to count
        self.watch.arrive([strategy.experience])
        if not self.watch.served:
            return None
        return self.watch.measure(strategy.model, _outcomes_of(strategy), after=f"train:{self.watch.trained}")


def _outcomes_of(strategy: Any) -> dict[str, bool]:
    """Whether each request was ever committed, from the plug-in that serves them."""
    outcomes: dict[str, bool] = {}
    for plugin in strategy.plugins:
        for item in getattr(plugin, "outcomes", ()):
            outcomes[item.request.id] = item.committed or outcomes.get(item.request.id, False)
    return outcomes


class ForgetMetric(PluginMetric):
    """Base of the metrics of forgetting: emits after a request was served, and after later training experiences.

    Parameters
    ----------
    name : str
        First part of its name.
    shared : object
        What the metrics of one call of :func:`forget_metrics` read together.
    """

    def __init__(self, name: str, shared: _Shared) -> None:
        super().__init__()
        self._name, self._shared = name, shared

    @property
    def watch(self) -> ForgetWatch:
        """What the metrics of one call of :func:`forget_metrics` read together."""
        return self._shared.watch

    def after_unlearning_exp(self, strategy: Any) -> list[Any]:
        """Emit; ``strategy.experience`` is the forget experience and ``strategy.model`` the model afterwards."""
        return self._emitted(strategy, self._shared.after("unlearning", strategy, self))

    def after_training_exp(self, strategy: Any) -> list[Any]:
        """Emit where a request was served before; the end of a forget experience is none of training."""
        if isinstance(strategy.experience, ForgetExperience):
            return []
        return self._emitted(strategy, self._shared.after("training", strategy, self))

    def result(self) -> Any:
        """Last values: by request, or of the stream; None before a request was served."""
        now = self._shared.now
        if now is None:
            return None
        values = {number: value for number, value, *_ in self._values(now)}
        return values.get(None) if set(values) <= {None} else values

    def reset(self) -> None:
        """Forget all that was seen, for all metrics that came with this one."""
        self._shared.watch.reset()
        self._shared.now, self._shared.asked = None, frozenset()

    def _values(self, now: Standing) -> Iterator[tuple[int | None, Any, str, int | None]]:
        """Number of the request (None for the stream's), value, name of the stream, task label."""
        raise NotImplementedError

    def _emitted(self, strategy: Any, now: Standing | None) -> list[Any]:
        if now is None:
            return []
        emitted = []
        for number, value, stream, task_label in self._values(now):
            info = {"metric_name": str(self), "phase_name": EVAL, "stream_name": stream}
            name = generic_get_metric_name(
                default_metric_name_template, {**info, "task_label": task_label, "experience_id": number}
            )
            emitted.append(MetricValue(self, name, value, strategy.clock.train_iterations))
        return emitted

    def __str__(self) -> str:
        return self._name


class RequestMetric(ForgetMetric):
    """One scalar a request, such as ``Forget_Acc_Exp/eval_phase/forget_stream/Exp001``."""

    def __init__(
        self, name: str, shared: _Shared, figure: Callable[[ForgetWatch, Standing, ServedRequest], float | None]
    ) -> None:
        super().__init__(name, shared)
        self._figure = figure

    def _values(self, now: Standing) -> Iterator[tuple[int | None, Any, str, int | None]]:
        for number, request in self.watch.served.items():
            value = self._figure(self.watch, now, request)
            if value is not None:
                yield number, value, _FORGET, request.task_label


class StreamMetric(ForgetMetric):
    """One scalar of a whole stream, such as ``Retain_Acc_Stream/eval_phase/test_stream``."""

    def __init__(self, name: str, shared: _Shared, stream: str, figure: Callable[[Standing], float | None]) -> None:
        super().__init__(name, shared)
        self._stream, self._figure = stream, figure

    def _values(self, now: Standing) -> Iterator[tuple[int | None, Any, str, int | None]]:
        value = self._figure(now)
        if value is not None:
            last = list(self.watch.served.values())[-1]
            yield None, value, self._stream, self.watch.test_task_label if self._stream == _TEST else last.task_label


class RelapseMatrixMetric(ForgetMetric):
    """The relapse matrix so far: ``Relapse_Matrix/eval_phase/forget_stream``."""

    def _values(self, now: Standing) -> Iterator[tuple[int | None, Any, str, int | None]]:
        columns = {number: request.id for number, request in self.watch.served.items()}
        last = list(self.watch.served.values())[-1]
        yield None, RelapseMatrix(self.watch.events, columns), _FORGET, last.task_label


def forget_metrics(
    *, request: bool = True, stream: bool = True, relapse: bool = True, membership: bool = True
) -> list[PluginMetric]:
    """Metrics of forgetting for an ``EvaluationPlugin``, named as Avalanche names its own.

    They are measured after each request that the plug-in (or ``strategy.unlearn``) has served, and then after each
    training experience, for all requests served so far, failed ones too: a curve a request that goes on. Nothing is
    measured before the first request. The step is ``strategy.clock.train_iterations``, which unlearning does not
    advance. ``strategy.eval(benchmark.forget_stream)`` adds Avalanche's own accuracy and loss at any other time.

    ``Exp`` numbers the request in the forget stream, from 0; a task label stands before it where the stream has some.

    ======================================================= ===========================================================
    name                                                    value
    ======================================================= ===========================================================
    ``Forget_Acc_Exp/eval_phase/forget_stream/Exp000``      top-1 on D_f, the training samples that the request named
    ``Test_Forget_Acc_Exp/eval_phase/forget_stream/Exp000`` top-1 on D_ft, test samples of a class request's classes
    ``Forget_Acc_Stream/eval_phase/forget_stream``          top-1 on all samples of committed requests, each once
    ``Test_Forget_Acc_Stream/eval_phase/forget_stream``     top-1 on test samples of all classes forgotten so far
    ``Retain_Acc_Stream/eval_phase/test_stream``            top-1 on D_rt: test samples of the classes that have arrived
                                                            and that no class request named (what a failed one named
                                                            is not trained on again either)
    ``Membership_AUC_Exp/eval_phase/forget_stream/Exp000``  loss-threshold attack (Yeom et al., 2018): D_f against test
                                                            samples of the same classes; 0.5 is the aim
    ``Relapse_Exp/eval_phase/forget_stream/Exp000``         how much has come back: forget accuracy now minus that right
                                                            after the request; negative where it has fallen further
    ``Relapse_Matrix/eval_phase/forget_stream``             forget accuracy of each request (columns) after each event
                                                            (rows): a figure, a tensor, or a table of text
    ======================================================= ===========================================================

    Parameters
    ----------
    request : bool
        The two ``Acc_Exp``, and one metric for each audit of another package: ``Mean_Margin_Exp`` for the audit
        ``mean-margin``.
    stream : bool
        The three ``Acc_Stream``.
    relapse : bool
        ``Relapse_Exp`` and the matrix.
    membership : bool
        ``Membership_AUC_Exp``.

    Returns
    -------
    list of PluginMetric
        For one ``EvaluationPlugin``, all of them: they share what they measure. Models are called with images alone,
        so those that need a task label are not supported.
    """
    shared = _Shared(ForgetWatch(membership=membership))
    metrics: list[PluginMetric] = []
    if request:
        metrics += [
            RequestMetric("Forget_Acc_Exp", shared, lambda watch, now, item: now.requests[item.number].forget_accuracy),
            RequestMetric(
                "Test_Forget_Acc_Exp", shared, lambda watch, now, item: now.requests[item.number].test_forget_accuracy
            ),
            *(_extra_metric(name, shared) for name in extra_audits()),
        ]
    if stream:
        metrics += [
            StreamMetric("Forget_Acc_Stream", shared, _FORGET, lambda now: now.forget_accuracy),
            StreamMetric("Test_Forget_Acc_Stream", shared, _FORGET, lambda now: now.test_forget_accuracy),
            StreamMetric("Retain_Acc_Stream", shared, _TEST, lambda now: now.retain_accuracy),
        ]
    if membership:
        metrics.append(
            RequestMetric(
                "Membership_AUC_Exp", shared, lambda watch, now, item: now.requests[item.number].membership_auc
            )
        )
    if relapse:
        metrics += [RequestMetric("Relapse_Exp", shared, _relapse), RelapseMatrixMetric("Relapse_Matrix", shared)]
    return metrics


def _extra_metric(audit: str, shared: _Shared) -> RequestMetric:
    """The metric of an audit of another package."""
    name = f"{audit.replace('-', '_').title()}_Exp"
    return RequestMetric(name, shared, lambda watch, now, item: now.requests[item.number].extra.get(audit))


def _relapse(watch: ForgetWatch, now: Standing, request: ServedRequest) -> float | None:
    accuracy, first = now.requests[request.number].forget_accuracy, watch.served_at.get(request.number)
    return None if accuracy is None or first is None else accuracy - first
