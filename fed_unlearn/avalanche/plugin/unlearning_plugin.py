"""The plug-in with which any supervised strategy of Avalanche unlearns forget experiences."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from avalanche.training.plugins import SupervisedPlugin, SynapticIntelligencePlugin

from fed_unlearn.avalanche.compat import check_supported, mend_synaptic_intelligence
from fed_unlearn.avalanche.plugin.buffers import drop_batches, purge_buffers
from fed_unlearn.avalanche.plugin.history import History
from fed_unlearn.avalanche.plugin.muting import Muting
from fed_unlearn.avalanche.plugin.optimizers import clear_momenta
from fed_unlearn.avalanche.plugin.plans import planned
from fed_unlearn.avalanche.plugin.regularisers import keep_consistent, note_skipped
from fed_unlearn.avalanche.plugin.request_samples import RequestSamples
from fed_unlearn.avalanche.streams import ForgetExperience
from fed_unlearn.avalanche.streams.forget_experience import released
from fed_unlearn.avalanche.streams.naming import experience_with
from fed_unlearn.avalanche.streams.reading import SampleReader
from fed_unlearn.avalanche.streams.samples import sample_ids, without
from fed_unlearn.data.domain import InputDomain
from fed_unlearn.data.sample_set import SampleSet
from fed_unlearn.errors import FedUnlearnError, InvalidParameterError
from fed_unlearn.gate import Gate
from fed_unlearn.local import LocalOutcome, LocalPlan, LocalUnlearning
from fed_unlearn.logits import predict_logits
from fed_unlearn.requests import ParameterValue

logger = logging.getLogger("fed_unlearn.avalanche")


class RequestFailedError(FedUnlearnError, RuntimeError):
    """The gate did not accept a request. The strategy's model is unchanged; the samples are not trained on again."""


class UnlearningPlugin(SupervisedPlugin):
    """Unlearns whenever the strategy meets a :class:`~fed_unlearn.avalanche.streams.ForgetExperience`.

    ``strategy.train(experience)`` trains nothing on a forget experience. The plug-in unlearns the model, repairs it and
    has the gate judge it. Only an accepted model replaces the strategy's, and regularisers are updated to it. The
    request's samples are removed from replay buffers and from every later training experience, accepted or not. The
    clock does not advance. Other plug-ins are told that the ``train`` call begins and ends, but not of the experience.
    Plug-ins, metrics and loggers are told of it by ``before_unlearning_exp(strategy)`` and
    ``after_unlearning_exp(strategy)``, if they have these methods.

    Use one plug-in for one strategy and one benchmark, from the first training experience on.

    Parameters
    ----------
    method : str, optional
        Method of requests that name none, for all scopes that it serves. Default: the methods of ``plan``.
    parameters : mapping of str to value, optional
        Hyper-parameters of ``method``.
    plan : LocalPlan, optional
        Methods by scope, repair and guards.
    gate : Gate, optional
        Bounds that a request must meet. The bound on the total loss of accuracy counts from the last training, since
        requests are not answerable for what learning costs.
    retain : {"memory", "seen"} or data set, default "memory"
        Retained samples that methods and repair may read. "memory": the strategy's buffers and its last training
        experience. "seen": all training experiences so far. Otherwise an AvalancheDataset or SampleSet with the
        benchmark's sample ids. Forgotten samples and classes are always left out.
    validation : data set, SampleSet or stream, optional
        Samples that are never trained on. Methods may read half of them, and the gate judges by all. Default: the
        benchmark's ``valid_stream``; without one the gate judges by retained samples, which flatters the model.
    domain : InputDomain, optional
        What the model's inputs are. Default: images are pixels, normalised as a ``Normalize`` in the transforms
        says, or in [0, 1]. Other floats are values of any range. ``InputDomain("values")`` takes images of any range.
    seed : int, default 0
        Seed of all randomness of unlearning and repair.
    reopen_relapsed : bool, default False
        Whether relapsed requests are served again at the end of every ``train`` call.
    strict : bool, default False
        Whether a request that the gate does not accept raises instead of logging a warning.

    Attributes
    ----------
    outcomes : list of LocalOutcome
        Results of all requests in order. A request that was served again has several.
    served : list of ForgetExperience
        The experience of each outcome.
    forgotten : frozenset of str
        Ids of samples that are not trained on again.

    Raises
    ------
    InvalidParameterError
        If the method, one of its parameters, ``retain``, ``validation`` or ``domain`` is not one of those above.
    """

    def __init__(
        self,
        method: str | None = None,
        *,
        parameters: Mapping[str, ParameterValue] | None = None,
        plan: LocalPlan | None = None,
        gate: Gate | None = None,
        retain: Literal["memory", "seen"] | SampleSet | Any = "memory",
        validation: Any = None,
        domain: InputDomain | None = None,
        seed: int = 0,
        reopen_relapsed: bool = False,
        strict: bool = False,
    ) -> None:
        super().__init__()
        for name, value, kind in (("plan", plan, LocalPlan), ("gate", gate, Gate), ("seed", seed, int)):
            if value is not None and not isinstance(value, kind):
                raise InvalidParameterError(f"{name} = {value!r} was given; expected a {kind.__name__}")
        if method is None and parameters:
            raise InvalidParameterError("parameters were given without a method; put them into plan.parameters")
        self._unlearning = LocalUnlearning(planned(plan or LocalPlan(), method, parameters or {}), gate, seed)
        self._samples = RequestSamples(retain, validation, domain)
        self._reopen_relapsed = reopen_relapsed
        self._strict = strict
        self._history = History()
        self._muting = Muting(self)
        self.outcomes: list[LocalOutcome] = []
        self.served: list[ForgetExperience] = []

    @property
    def forgotten(self) -> frozenset[str]:
        """Ids of samples that are not trained on again."""
        return self._history.forgotten

    @property
    def reader(self) -> SampleReader:
        """Reads samples as the model does."""
        return self._samples.reader

    def unlearn(self, strategy: Any, experience: ForgetExperience) -> LocalOutcome:
        """Serve the request of a forget experience now.

        Parameters
        ----------
        strategy : SupervisedTemplate
            The strategy that has this plug-in. Its model, buffers and regularisers are changed in place.
        experience : ForgetExperience
            An experience of the benchmark's forget stream.

        Returns
        -------
        LocalOutcome
            How the request went. Its ``model`` is None: the strategy has the model.

        Raises
        ------
        InvalidParameterError
            If this is no forget experience, its request names an unknown method or parameter, or the strategy trained
            before it had this plug-in. Nothing is changed then.
        UnsupportedStrategyError
            If a part of the strategy cannot forget. Nothing is changed then.
        InvalidDataError
            If the samples' inputs are outside their domain. Nothing is changed then. Or if the method lacks samples
            that it needs. The model is unchanged then; the request's samples are not trained on again.
        RequestFailedError
            If the gate does not accept and ``strict`` is set.
        """
        if not isinstance(experience, ForgetExperience):
            raise InvalidParameterError(
                f"a {type(experience).__name__} was given to unlearn; expected a ForgetExperience of the forget_stream"
                " that forget_benchmark makes"
            )
        check_supported(strategy, experience)
        self._unlearning.plan.method_of(experience.request)
        self._history.check_request(strategy, experience, self._unlearning.plan)
        self._samples.check(experience)
        purge_buffers(strategy, self.forgotten.union(experience.sample_ids))  # raises before anything is changed
        self._history.add_request(experience)
        before, strategy.experience = strategy.experience, experience
        try:
            self._call_others(strategy, "before_unlearning_exp")
            outcome = self._serve(strategy, experience)
            self._call_others(strategy, "after_unlearning_exp")
        finally:
            strategy.experience = before
        if not outcome.committed:
            text = f"request {outcome.request.id}: not accepted, the model is as it was: {outcome.reason}"
            if self._strict:
                raise RequestFailedError(text)
            logger.warning("%s", text)
        return outcome

    # ------------------------------------------------------------------ Avalanche's hooks, in the order of a train call

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Become the first plug-in, so that the others meet retained samples only."""
        self._muting.recover(strategy)
        if sum(isinstance(plugin, UnlearningPlugin) for plugin in strategy.plugins) > 1:
            raise InvalidParameterError("the strategy has several UnlearningPlugins; expected one")
        strategy.plugins = [self, *(plugin for plugin in strategy.plugins if plugin is not self)]
        if any(isinstance(plugin, SynapticIntelligencePlugin) for plugin in strategy.plugins):
            mend_synaptic_intelligence()

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Unlearn a forget experience, or remove forgotten samples from a training experience."""
        if isinstance(strategy.experience, ForgetExperience):
            self._meet_request(strategy, strategy.experience)
        else:
            self._meet_training(strategy, strategy.experience)

    def after_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Remove forgotten samples from what the strategy trains on besides the experience."""
        if self.forgotten and not self._muting.active:
            strategy.adapted_dataset = without(strategy.adapted_dataset, self.forgotten)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Leave nothing to store for strategies that store samples of an experience in which nothing was trained."""
        if self._muting.active:
            strategy.experience = experience_with(strategy.experience, released(strategy.experience.dataset).subset([]))

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Give the strategy its other plug-ins back after an experience in which nothing was trained."""
        if self._muting.active:
            self._muting.end(strategy)
            purge_buffers(strategy, self.forgotten)
        else:
            self._history.warn_of_overdue(strategy.experience)

    def after_training(self, strategy: Any, **kwargs: Any) -> None:
        """Remove forgotten samples that other plug-ins have stored, and serve relapsed requests again."""
        if self.forgotten:
            purge_buffers(strategy, self.forgotten)
        for experience, outcome in list(zip(self.served, self.outcomes, strict=True)):
            if not (self._reopen_relapsed or self._is_lasting(experience)):
                continue
            latest = [item for item in self.outcomes if item.request.id == outcome.request.id][-1]
            if outcome is latest and outcome.committed and self._has_relapsed(strategy, experience):
                logger.info("request %s has relapsed: served again", experience.request.id)
                self.unlearn(strategy, experience)

    # ------------------------------------------------------------------ one experience

    def _meet_request(self, strategy: Any, experience: ForgetExperience) -> None:
        drop_batches(strategy)
        try:
            self.unlearn(strategy, experience)
        except BaseException:
            strategy._train_cleanup()
            raise
        strategy.experience = experience_with(experience, released(experience.dataset))
        self._muting.start(strategy)

    def _meet_training(self, strategy: Any, experience: Any) -> None:
        self._history.check(strategy, experience, self._unlearning.plan)
        sample_ids(experience.dataset)  # raises if there are none
        self._unlearning.note_training()
        retained = self._history.add_training(experience, place=strategy.clock.train_exp_counter)
        if len(retained.dataset) == 0:
            logger.warning("experience %d has no sample that is not forgotten; skipped", experience.current_experience)
            note_skipped(strategy)  # before the plug-ins that it tells are taken away
            self._muting.start(strategy)
            strategy.clock.train_exp_counter += 1
        else:
            strategy.experience = retained
            if self.forgotten:
                purge_buffers(strategy, self.forgotten)  # ER-ACE and ER-AML have stored the whole experience already

    def _serve(self, strategy: Any, experience: ForgetExperience) -> LocalOutcome:
        views = self._history.views()
        samples = self._samples.read(strategy, experience, self._history, views)
        outcome = self._unlearning.serve(strategy.model, experience.request, samples)
        if outcome.committed and outcome.model is not None:
            strategy.model.load_state_dict(outcome.model.state_dict())
            clear_momenta(strategy.optimizer)
            keep_consistent(strategy, self.forgotten, views, self._history.sizes)
            self._history.sizes = [len(view.dataset) for view in views]
        outcome = replace(outcome, model=None)  # an earlier model would still know what later requests name
        self.served.append(experience)
        self.outcomes.append(outcome)
        return outcome

    def _is_lasting(self, experience: ForgetExperience) -> bool:
        return bool(getattr(self._unlearning.plan.method_of(experience.request)[1], "lasting", False))

    def _has_relapsed(self, strategy: Any, experience: ForgetExperience) -> bool:
        request = experience.request
        goal = self._unlearning.plan.method_of(request)[2] if request.scope.kind == "sample" else None
        bound = self._unlearning.gate.thresholds(request.scope.kind, goal).max_forget_accuracy
        forget = self.reader.samples(experience.dataset)
        hits = predict_logits(self.reader.model(strategy.model), forget).argmax(1) == forget.labels
        return bound is not None and float(hits.float().mean()) > bound

    def _call_others(self, strategy: Any, event: str) -> None:
        for plugin in strategy.plugins:
            if plugin is not self and hasattr(plugin, event):
                getattr(plugin, event)(strategy)
