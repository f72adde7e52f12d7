"""Avalanche metrics of forgetting, emitted after each request and after each later training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, get_args

from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from avalanche.evaluation.metric_utils import EVAL, default_metric_name_template, generic_get_metric_name

from fed_unlearn.audits.asked import extra_audits, measured_of
from fed_unlearn.audits.base import AUDITS, Level
from fed_unlearn.avalanche.metrics.forget_figures import StreamFigures
from fed_unlearn.avalanche.metrics.forget_watch import ForgetWatch
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.errors import InvalidParameterError

Values = Mapping[Any, Any]
"""Values by the number of a request, as an int. The key None stands for the whole stream."""


class ForgetMetric(PluginMetric):
    """A metric of forgetting. It emits after each request, and after each later training experience.

    Parameters
    ----------
    name : str
        First part of the metric's name.
    watch : ForgetWatch
        Measures for all metrics of one call of :func:`forget_metrics`.
    values : callable
        Returns the metric's values.
    stream : str
        Name of the stream that the values are about.
    """

    def __init__(
        self, name: str, watch: ForgetWatch, values: Callable[[StreamFigures], Values], stream: str = "forget"
    ) -> None:
        super().__init__()
        self._name, self.watch, self._values, self._stream = name, watch, values, stream

    def after_unlearning_exp(self, strategy: Any) -> list[Any]:
        """Emit. ``strategy.experience`` is the forget experience and ``strategy.model`` the model after it."""
        return self._emitted(strategy, self.watch.after_unlearning(strategy, self))

    def after_training_exp(self, strategy: Any) -> list[Any]:
        """Emit if a request was served before. The end of a forget experience emits nothing."""
        if isinstance(strategy.experience, ForgetExperience):
            return []
        return self._emitted(strategy, self.watch.after_training(strategy, self))

    def before_eval_exp(self, strategy: Any) -> None:
        """Note test samples for benchmarks that cannot be reached from their experiences."""
        self.watch.note_evaluated(strategy.experience)

    def result(self) -> Any:
        """Return the last values: by request, or of the stream; None before a request was served."""
        values = {} if self.watch.latest is None else self._values(self.watch.latest)
        return values.get(None) if set(values) <= {None} else values

    def reset(self) -> None:
        """Drop everything that was measured, for all metrics that share it."""
        self.watch.reset()

    def _emitted(self, strategy: Any, figures: StreamFigures | None) -> list[Any]:
        values = {} if figures is None else self._values(figures)
        return [self._value(strategy, str(self), number, value) for number, value in values.items()]

    def _value(self, strategy: Any, metric: str, number: Any, value: Any) -> MetricValue:
        info = {
            "metric_name": metric,
            "phase_name": EVAL,
            "stream_name": self._stream,
            "task_label": self.watch.task_label(number, self._stream),
            "experience_id": number,
        }
        name = generic_get_metric_name(default_metric_name_template, info)
        return MetricValue(self, name, value, strategy.clock.train_iterations)

    def __str__(self) -> str:
        return self._name


class AuditMetric(ForgetMetric):
    """All figures of the full audits of a request, each under its own name; emitted right after the request alone."""

    def __init__(self, watch: ForgetWatch) -> None:
        super().__init__("Audits_Exp", watch, attrgetter("audits"))

    def after_training_exp(self, strategy: Any) -> list[Any]:
        """Emit nothing."""
        super().after_training_exp(strategy)
        return []

    def _emitted(self, strategy: Any, figures: StreamFigures | None) -> list[Any]:
        return [
            self._value(strategy, metric_name(name), number, measured.value)
            for number, found in ({} if figures is None else figures.audits).items()
            for name, measured in found.items()
        ]


def metric_name(figure: str) -> str:
    """Return the first part of a metric's name for a figure, such as ``Logit_AUC_Exp`` for ``logit_auc``."""
    return f"{figure.replace('-', '_').title().replace('Auc', 'AUC')}_Exp"


def forget_metrics(
    *,
    request: bool = True,
    stream: bool = True,
    relapse: bool = True,
    membership: bool = True,
    audit: Level = "default",
) -> list[PluginMetric]:
    """Return metrics of forgetting for an ``EvaluationPlugin``, named like Avalanche's own.

    They are measured after each request that the plug-in or ``strategy.unlearn`` has served, and after each later
    training experience, for all requests served so far, failed ones included. Nothing is measured before the first
    request. The step is ``strategy.clock.train_iterations``, which unlearning does not advance.
    ``strategy.eval(benchmark.forget_stream)`` gives Avalanche's own accuracy and loss at any other time.

    Test samples are those of the benchmark's ``test`` stream. Where a training experience does not name its benchmark,
    as those of ``class_incremental_benchmark`` without ``forget_benchmark``, they are those of a stream "test" that the
    strategy has evaluated; until then there are no figures of test samples.

    ``Exp`` is the number of the request in the forget stream, counted from 0. If the stream has task labels, the task
    label stands before it.

    ======================================================= ===========================================================
    name                                                    value
    ======================================================= ===========================================================
    ``Forget_Acc_Exp/eval_phase/forget_stream/Exp000``      top-1 on D_f, the training samples that the request named
    ``Test_Forget_Acc_Exp/eval_phase/forget_stream/Exp000`` top-1 on D_ft, test samples of a class request's classes
    ``Forget_Acc_Stream/eval_phase/forget_stream``          top-1 on all samples of committed requests, each once
    ``Test_Forget_Acc_Stream/eval_phase/forget_stream``     top-1 on test samples of all classes forgotten so far
    ``Retain_Acc_Stream/eval_phase/test_stream``            top-1 on D_rt: test samples of the classes that have arrived
                                                            and that no class request named, committed or failed
    ``Membership_AUC_Exp/eval_phase/forget_stream/Exp000``  loss-threshold attack (Yeom et al., 2018) of D_f against
                                                            test samples of the same classes; the aim is 0.5
    ``Logit_AUC_Exp/eval_phase/forget_stream/Exp000``       how well the class's own score still ranks its test samples
                                                            above those of staying classes; so are ``Recall_At_5_Exp``,
                                                            ``Confidence_Gap_Exp``, ``Entropy_Gap_Exp``,
                                                            ``Destination_Entropy_Exp`` and ``Destination_Top_Exp``
    ``Relapse_Exp/eval_phase/forget_stream/Exp000``         forget accuracy now minus that right after the request
    ``Relapse_Matrix/eval_phase/forget_stream``             forget accuracy of each request (columns) after each event
                                                            (rows): a figure, a tensor, or a table of text
    ======================================================= ===========================================================

    Parameters
    ----------
    request : bool
        Whether to include the two ``Acc_Exp``, and one metric for each figure of the audits that run by default: those
        of class requests above, and those of other packages, such as ``Mean_Margin_Exp`` for ``mean-margin``.
    stream : bool
        Whether to include the three ``Acc_Stream``.
    relapse : bool
        Whether to include ``Relapse_Exp`` and ``Relapse_Matrix``.
    membership : bool
        Whether to include ``Membership_AUC_Exp``.
    audit : str, default "default"
        ``"full"`` runs all audits of :data:`~fed_unlearn.audits.base.AUDITS` that need neither an oracle nor the model
        before the request, once, right after each request, on D_f, the test samples and at most 2,000 retained training
        samples. Each figure is a metric,
        such as ``Membership_Confidence_AUC_Exp``. Each audit costs what its ``cost`` says, beside reading these samples
        once; no figure is emitted where an audit has none.

    Returns
    -------
    list of PluginMetric
        Pass all of them to one ``EvaluationPlugin``, since they share what they measure. Models are called with images
        alone: models that need a task label are not supported.

    Raises
    ------
    InvalidParameterError
        If ``audit`` is no level.
    """
    if audit not in get_args(Level):
        raise InvalidParameterError(f"audit = {audit!r} was given; expected one of {', '.join(get_args(Level))}")
    watch = ForgetWatch(membership=membership, full=audit == "full")
    metrics: list[PluginMetric] = []
    if request:
        metrics += [
            ForgetMetric("Forget_Acc_Exp", watch, partial(_of_requests, "forget_accuracy")),
            ForgetMetric("Test_Forget_Acc_Exp", watch, partial(_of_requests, "test_forget_accuracy")),
        ]
        empty = {name: AUDITS.find(name)() for name in {*extra_audits("class"), *extra_audits("sample")}}
        metrics += [
            ForgetMetric(metric_name(figure), watch, partial(_of_requests, figure)) for figure in measured_of(empty)
        ]
    if stream:
        metrics += [
            ForgetMetric("Forget_Acc_Stream", watch, partial(_of_stream, "forget_accuracy")),
            ForgetMetric("Test_Forget_Acc_Stream", watch, partial(_of_stream, "test_forget_accuracy")),
            ForgetMetric("Retain_Acc_Stream", watch, partial(_of_stream, "retain_accuracy"), "test"),
        ]
    if membership:
        metrics.append(ForgetMetric("Membership_AUC_Exp", watch, partial(_of_requests, "membership_auc")))
    if relapse:
        metrics += [
            ForgetMetric("Relapse_Exp", watch, attrgetter("relapse")),
            ForgetMetric("Relapse_Matrix", watch, partial(_matrix_of, watch)),
        ]
    if audit == "full":
        metrics.append(AuditMetric(watch))
    return metrics


def _of_requests(figure: str, now: StreamFigures) -> Values:
    """Return the figure of this name of all requests that have one."""
    return {number: value for number, item in now.requests.items() if (value := item.named().get(figure)) is not None}


def _of_stream(figure: str, now: StreamFigures) -> Values:
    value = getattr(now, figure)
    return {} if value is None else {None: value}


def _matrix_of(watch: ForgetWatch, now: StreamFigures) -> Values:
    return {None: watch.matrix()}
